"""A broker as others build it: one look at the caller's executable for each connection, and that only by hash.

The attacks are first shown to win against it, so that an attack that has stopped working is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading

SECRET = "the secret that only the trusted program may have"


class NaiveBroker:
    """Serves ``path``. ``by_path``: hash the file that the link names, instead of the file behind the link.

    ``hold`` keeps it from looking at new connections until ``release``: what a busy machine does by chance.
    """

    def __init__(self, path: str, trusted: str, *, by_path: bool = False) -> None:
        with open(trusted, "rb") as file:
            self._trusted = hashlib.sha256(file.read()).hexdigest()
        self._by_path = by_path
        self._go = threading.Event()
        self._go.set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        os.chmod(path, 0o666)
        self._listener.listen(16)
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """Look at nobody for now."""
        self._go.clear()

    def release(self) -> None:
        """Go on."""
        self._go.set()

    def close(self) -> None:
        """End it."""
        self._go.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for client in self._clients:
            client.close()

    def _accept(self) -> None:
        while True:
            self._go.wait()
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._go.wait()
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        pid, _, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        trusted = self._hash(pid) == self._trusted
        try:
            for _ in client.makefile("rb"):
                answer = {"status": "success", "value": SECRET} if trusted else {"status": "denied"}
                client.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            return

    def _hash(self, pid: int) -> str:
        path = f"/proc/{pid}/exe"
        if self._by_path:
            path = os.readlink(path)
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

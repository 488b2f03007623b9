"""A launcher as one writes it first: it takes the word of whoever wants to be launched."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading

from attacks.naive import SECRET


class NaiveLauncher:
    """Whoever says "launch" is what it promised to become, for ever; everybody else gets nothing."""

    def __init__(self, path: str) -> None:
        self._trusted: set[int] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        os.chmod(path, 0o666)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        pid, _, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        with client, client.makefile("rb") as lines:
            for line in lines:
                if line == b"launch\n":
                    self._trusted.add(pid)
                    client.sendall(b"go\n")
                    continue
                answer = {"status": "success", "value": SECRET} if pid in self._trusted else {"status": "denied"}
                client.sendall(json.dumps(answer).encode() + b"\n")

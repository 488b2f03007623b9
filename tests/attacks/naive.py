"""A broker as others build it: one look at the caller's executable for each connection, and that only by hash.

The attacks are first shown to win against it, so that an attack that has stopped working is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SECRET = "the secret that only the trusted program may have"


class NaiveServer:
    """Serves each connection to ``path`` in a thread of its own, by ``serve``."""

    def __init__(self, path: str, **options: int) -> None:
        """``options``: what is set on the listener (SO_PASSCRED)."""
        self._clients: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for name, value in options.items():
            self._listener.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        self._listener.bind(path)
        os.chmod(path, 0o666)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def serve(self, client: socket.socket) -> None:
        """What is done with a connection, until OSError."""
        raise NotImplementedError

    def before_accept(self) -> None:
        """Called before each connection is taken, and before it is looked at."""

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for client in self._clients:
            client.close()

    def _accept(self) -> None:
        while True:
            self.before_accept()
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.before_accept()
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.serve(client)


class NaiveBroker(NaiveServer):
    """Serves ``path``. ``by_path``: hash the file that the link names, instead of the file behind the link.
    ``by_message``: believe the pid in the message's credentials, instead of the one of who connected.

    ``hold`` keeps it from looking at new connections until ``release``: what a busy machine does by chance. ``busy``:
    it looks 10 ms late each time, for the same reason.
    """

    def __init__(
        self, path: str, trusted: str, *, by_path: bool = False, by_message: bool = False, busy: bool = False
    ) -> None:
        with open(trusted, "rb") as file:
            self._trusted = hashlib.sha256(file.read()).hexdigest()
        self._by_path = by_path
        self._by_message = by_message
        self._late = 0.01 if busy else 0.0
        self._go = threading.Event()
        self._go.set()
        super().__init__(path, SO_PASSCRED=int(by_message))

    def hold(self) -> None:
        """Look at nobody for now."""
        self._go.clear()

    def release(self) -> None:
        """Go on."""
        self._go.set()

    def close(self) -> None:
        """End it."""
        self._go.set()
        super().close()

    def before_accept(self) -> None:
        """Wait while it is held."""
        self._go.wait()

    def serve(self, client: socket.socket) -> None:
        """See ``NaiveServer.serve``."""
        time.sleep(self._late)
        trusted = self._trusts(self._pid(client))
        for _ in client.makefile("rb"):
            client.sendall(_answer(trusted))

    def _trusts(self, pid: int) -> bool:
        return self._hash(pid) == self._trusted

    def _pid(self, client: socket.socket) -> int:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if self._by_message:
            _, ancillary, _, _ = client.recvmsg(1, socket.CMSG_SPACE(12), socket.MSG_PEEK)
            credentials = ancillary[0][2]
        return int(struct.unpack("iII", credentials)[0])

    def _hash(self, pid: int) -> str:
        path = f"/proc/{pid}/exe"
        if self._by_path:
            path = os.readlink(path)
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()


def _answer(trusted: bool) -> bytes:
    answer = {"status": "success", "value": SECRET} if trusted else {"status": "denied"}
    return json.dumps(answer).encode() + b"\n"


class NaiveSignerBroker(NaiveBroker):
    """Takes the published rule at its word: a registered path keeps its grants whatever trusted signer signed the file.

    It looks for a trailer anywhere near the end, and never at what a signer signed before.
    """

    def __init__(self, path: str, trusted: str, keys: Sequence[Ed25519PublicKey]) -> None:
        self._path = trusted
        self._keys = keys
        super().__init__(path, trusted)

    def _trusts(self, pid: int) -> bool:
        if os.readlink(f"/proc/{pid}/exe") != self._path:
            return False
        with open(f"/proc/{pid}/exe", "rb") as file:
            content = file.read()
        end = content.rfind(b"KCAS")
        return any(_signed(key, content[end - 64 : end], content[: end - 64]) for key in self._keys)


def _signed(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


if __name__ == "__main__":  # as another user than the tests: naive.py SOCKET TRUSTED, until stdin ends
    NaiveBroker(*sys.argv[1:])
    print("listening", flush=True)
    sys.stdin.read()

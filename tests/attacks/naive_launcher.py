"""A launcher as one writes it first: it takes the word of whoever wants to be launched."""

from __future__ import annotations

import json
import socket
import struct

from attacks.naive import SECRET, NaiveServer


class NaiveLauncher(NaiveServer):
    """Whoever says "launch" is what it promised to become, for ever; everybody else gets nothing."""

    def __init__(self, path: str) -> None:
        self._trusted: set[int] = set()
        super().__init__(path)

    def serve(self, client: socket.socket) -> None:
        """See ``NaiveServer.serve``."""
        pid, _, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        with client, client.makefile("rb") as lines:
            for line in lines:
                if line == b"launch\n":
                    self._trusted.add(pid)
                    client.sendall(b"go\n")
                    continue
                answer = {"status": "success", "value": SECRET} if pid in self._trusted else {"status": "denied"}
                client.sendall(json.dumps(answer).encode() + b"\n")

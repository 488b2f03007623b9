"""A daemon as somebody would write it in an afternoon: it speaks the protocol, and believes what it is told.

It hashes /proc/PID/exe once for each connection, reads JSON with what is at hand, and looks at nothing else.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from typing import Any

from attacks.naive import NaiveServer


class NaiveDaemon(NaiveServer):
    """Serves ``path`` for the one program whose hash is ``trusted``."""

    def __init__(self, path: str, trusted: str, service: str) -> None:
        self._trusted, self._service = trusted, service
        self._items: dict[str, str] = {}
        super().__init__(path)

    def serve(self, client: socket.socket) -> None:
        """See ``NaiveServer.serve``."""
        pid = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        with open(f"/proc/{pid}/exe", "rb") as file:
            known = hashlib.sha256(file.read()).hexdigest() == self._trusted
        for line in client.makefile("rb"):
            client.sendall(json.dumps(self._answer(line, known)).encode() + b"\n")

    def _answer(self, line: bytes, known: bool) -> dict[str, Any]:
        if not known:
            return _no("denied", "unregistered_binary_pending_approval")
        try:
            request = json.loads(line)
            if request["service"] != self._service:
                return _no("denied", "service_not_allowed")
            return {"type": "RESPONSE", "status": "success", **self._do(request, request.get("targets", []))}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _no("error", "malformed_request")

    def _do(self, request: dict[str, Any], targets: list[str]) -> dict[str, Any]:
        if request["action"] == "write":
            self._items.update(zip(targets, request["values"], strict=False))
        elif request["action"] == "delete":
            for target in targets:
                self._items.pop(target, None)
        elif request["action"] in ("read", "search"):
            found = [name for name in targets if name in self._items]
            return {"results": [{"target": name, "value": self._items[name]} for name in found]}
        return {}


def _no(status: str, reason: str) -> dict[str, Any]:
    return {"type": "RESPONSE", "status": status, "reason": reason}

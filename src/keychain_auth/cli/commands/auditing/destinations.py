"""Where lines of the audit log can be sent on this machine: the journal, and the system's log.

Contract: a line arrives with its sequence number and chain, so that a copy can be compared with the log. Whatever a
client chose cannot forge an entry: the journal's fields carry their length (systemd.io, "Native Journal Protocol"),
and what goes to syslog is one line of ASCII.

What it does not promise: that the other side kept it. Both are datagrams, and neither answers.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time
from abc import ABC, abstractmethod

from keychain_auth.audit.query import program_of
from keychain_auth.audit.reading import Line
from keychain_auth.errors import KeychainAuthError, quoted

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
_NAME = "keychain-auth"
_ALERT, _ERROR, _WARNING, _INFO = 1, 3, 4, 6  # syslog(3)
_AUTHPRIV = 10  # the facility for what only administrators should read
_KEPT_TARGETS = 20  # of a line that no datagram can hold


class Destination(ABC):
    """A datagram socket of this machine. Raises KeychainAuthError if nobody listens there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise KeychainAuthError(
                f"nobody takes lines at {path}: {error.strerror}", hint=f"ls -l {quoted(path)}"
            ) from None

    def send(self, line: Line) -> None:
        """One line; a very long one with fewer targets. Raises KeychainAuthError."""
        try:
            self._send(self.encode(line))
        except OSError as error:
            targets = line.get("targets")
            if error.errno != errno.EMSGSIZE or not isinstance(targets, list):
                raise self._failed(error) from None
            fewer = {**line, "targets": targets[:_KEPT_TARGETS], "targets_in_all": len(targets)}
            try:
                self._send(self.encode(fewer))
            except OSError as again:
                raise self._failed(again) from None

    @abstractmethod
    def encode(self, line: Line) -> bytes:
        """The datagram for a line."""

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _send(self, datagram: bytes) -> None:
        self._socket.send(datagram)

    def _failed(self, error: OSError) -> KeychainAuthError:
        return KeychainAuthError(
            f"{self._path} took a line no more: {error.strerror}", hint=f"ls -l {quoted(self._path)}"
        )


class Journal(Destination):
    """systemd's journal: every field of the line as a field of the entry, ``KEYCHAIN_AUTH_…``."""

    def encode(self, line: Line) -> bytes:
        """Each field as NAME, newline, its length in 8 bytes, its bytes, newline."""
        fields = {"MESSAGE": sentence(line), "PRIORITY": str(priority(line)), "SYSLOG_IDENTIFIER": _NAME}
        for name, value in line.items():
            if value not in (None, "", []):
                text = value if isinstance(value, str) else json.dumps(value)
                fields[f"KEYCHAIN_AUTH_{_field_name(name)}"] = text
        return b"".join(_journal_field(name, text) for name, text in fields.items())


class Syslog(Destination):
    """The system's log, as syslog(3) writes to it: facility authpriv, the line itself as JSON."""

    def encode(self, line: Line) -> bytes:
        """``<PRI>Mmm dd hh:mm:ss keychain-auth[pid]: {…}``"""
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime())
        head = f"<{_AUTHPRIV * 8 + priority(line)}>{stamp} {_NAME}[{os.getpid()}]: "
        return (head + json.dumps(line)).encode("ascii")


def priority(line: Line) -> int:
    """How much a line matters, as syslog counts it."""
    if line.get("action") == "canary":
        return _ALERT
    return {"DENIED": _WARNING, "ERROR": _ERROR}.get(str(line.get("result")), _INFO)


def sentence(line: Line) -> str:
    """A line in words."""
    if "unparsable" in line:
        return f"not a line of an audit log: {line['unparsable']}"
    who = program_of(line) or "keychain-auth"
    where = f" {line['service']}" if line.get("service") else ""
    why = f" ({line['reason']})" if line.get("reason") else ""
    return f"{line.get('result')} {line.get('action')}{where} to {who}{why}"


def _field_name(name: str) -> str:
    """Only A to Z, digits and underscores may name a field; a field of a line that somebody made is no exception."""
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in name.upper())[:40]


def _journal_field(name: str, text: str) -> bytes:
    data = text.encode("utf-8", "backslashreplace")
    return b"%b\n%b%b\n" % (name.encode("ascii"), struct.pack("<Q", len(data)), data)

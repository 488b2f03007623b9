"""A process on the other end of a real Unix socket, as a stand-in for macOS tells of it (conftest.py).

What LOCAL_PEER… answers on the connection is said by the test, as is all that libproc answers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from keychain_auth.identity import attest
from keychain_auth.identity.facts import PeerFacts
from keychain_auth.platform.macos import audit_token, libproc
from keychain_auth.platform.macos.channel import MacosChannel
from keychain_auth.platform.macos.macos import MacosPlatform
from keychain_auth.platform.macos.peer import MacosPeer

PID, CHILD, VERSION = 70_000, 70_001, 41
HARDENED = libproc.CS_VALID | libproc.CS_RUNTIME | libproc.CS_REQUIRE_LV
OURS, THEIRS = 0xFFFF_0000_1111_2222, 0xFFFF_0000_3333_4444
UNIX, TCP = 3, 2


def token(pid: int = PID, version: int = VERSION) -> bytes:
    return struct.pack("=8I", 0xFFFFFFFF, os.geteuid(), 20, os.geteuid(), 20, pid, 100_005, version)


class Connection(socket.socket):
    """A socket that answers as one of macOS does; ``last`` is the audit token of who used the other end last."""

    last: bytes | None = token()
    uid = os.geteuid()

    def getsockopt(self, level: int, option: int, size: int = 0, /) -> Any:
        if level != audit_token.SOL_LOCAL:
            return super().getsockopt(level, option, size)
        if self.last is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return {
            (audit_token.LOCAL_PEERCRED, 76): struct.pack("=IIh2x16I", 0, self.uid, 1, 20, *[0] * 15),
            (audit_token.LOCAL_PEERPID, 4): self.last[20:24],
            (audit_token.LOCAL_PEERTOKEN, 32): self.last,
        }[option, size]


class Lab(NamedTuple):
    macos: Any
    connection: Connection
    other: socket.socket
    program: Path

    def process(self, pid: int = PID, *, status: int = HARDENED, traced: bool = False, version: int = VERSION) -> None:
        """A process that runs ``program``."""
        about = os.stat(self.program)
        self.macos.fake_process(
            pid, 1, os.geteuid(), traced, version, status, 1_700_000_000_123_456, os.fsencode(self.program),
            about.st_dev & 0xFFFFFFFF, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns,
        )  # fmt: skip

    def peer(self) -> MacosPeer:
        return MacosChannel(self.connection).peer()

    def facts(self) -> PeerFacts:
        return self.peer().facts(patient=True)

    def refusal(self) -> str:
        """Why the process is refused, "" if it is not."""
        found = attest.judge(self.facts(), MacosPlatform().host())
        return "" if found is None else f"{found.reason}: {found.why}"


@contextlib.contextmanager
def peer_lab(macos: Any, tmp_path: Path) -> Iterator[Lab]:
    """A process PID that runs a program and has the other end of a connection."""
    ours, theirs = socket.socketpair()
    program = tmp_path / "tool"
    program.write_bytes(b"#!" + bytes(100_000))
    with ours, theirs, Connection(fileno=ours.detach()) as connection:
        made = Lab(macos, connection, theirs, program)
        macos.fake_filesystem(b"apfs", 0x1000)
        made.process()
        macos.fake_process(os.getpid(), 1, os.geteuid(), 0, 1, HARDENED, 1, b"/daemon", 1, 2, 3, 4, 5)
        macos.fake_socket(os.getpid(), connection.fileno(), UNIX, OURS, THEIRS, 0)
        macos.fake_socket(PID, 0, 0, 0, 0, 1)
        macos.fake_socket(PID, 3, TCP, 1, THEIRS, 1)
        macos.fake_socket(PID, 5, UNIX, THEIRS, OURS, 0)
        yield made

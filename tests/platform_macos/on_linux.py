"""keychain-auth as on macOS, on Linux: all of its own code for macOS, over calls that Linux answers in macOS' place.

    python on_linux.py status…      the command line, which thinks that this is a Mac

``libproc`` and ``audit_token`` are what is exchanged: each function for one that finds the same by /proc. What is then
seen to work is how the parts are put together. Nothing is shown about macOS itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import zlib

import as_macos

from keychain_auth.identity.facts import FileKey
from keychain_auth.native import library
from keychain_auth.platform.linux.descriptors import SocketDiagnosis

_SO_PEERCRED, _O_PATH = socket.SO_PEERCRED, os.O_PATH
_DIAGNOSIS = SocketDiagnosis()

as_macos.pretend()

from keychain_auth.platform.macos import audit_token, channel, code_signature, hardening, libproc, listener, peer  # noqa: E402
from keychain_auth.platform.macos.audit_token import Token  # noqa: E402


def _version(pid: int) -> int:
    """Another one for each start and each exec, as the pid version is."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        words = file.read().rpartition(")")[2].split()
    return zlib.crc32(repr((words[19], words[23], os.stat(f"/proc/{pid}/exe").st_ino)).encode())


def _token(pid: int, uid: int) -> Token:
    version = _version(pid)
    return Token(pid, version, uid, libproc.TOKEN.pack(0, uid, 0, uid, 0, pid, 0, version))


def _credentials(connection: audit_token.Asked) -> tuple[int, int]:
    pid, uid, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, 12))
    return pid, uid


def peer_token(connection: audit_token.Asked) -> Token:
    return _token(*_credentials(connection))


def peer_pid(connection: audit_token.Asked) -> int:
    return _credentials(connection)[0]


def peer_uid(connection: audit_token.Asked) -> int:
    return _credentials(connection)[1]


def process(pid: int) -> libproc.Process:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        words = file.read().rpartition(")")[2].split()
    return libproc.Process(int(words[1]), os.stat(f"/proc/{pid}").st_uid, False, int(words[19]))


def code_status(pid: int, token: bytes) -> int:
    if libproc.TOKEN.unpack(token)[7] != _version(pid):
        raise ProcessLookupError(3, "another program")
    return libproc.CS_VALID | libproc.CS_RUNTIME | libproc.CS_REQUIRE_LV


def running_file(pid: int) -> FileKey:
    about = os.stat(f"/proc/{pid}/exe")
    return FileKey(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def unix_socket(pid: int, fd: int) -> libproc.Socket | None:
    link = os.readlink(f"/proc/{pid}/fd/{fd}")
    if not link.startswith("socket:["):
        return None
    inode = int(link[8:-1])
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
        flags = int(file.read().partition("flags:")[2].split()[0], 8)
    other = _DIAGNOSIS.peer_inode(inode) if pid == os.getpid() else 0
    return libproc.Socket(inode, other, not flags & os.O_CLOEXEC)


def unix_sockets(pid: int) -> list[libproc.Socket]:
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(unix_socket(pid, int(number)))
    return [each for each in found if each is not None]


def arguments(pid: int) -> tuple[str, ...]:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return tuple(os.fsdecode(word) for word in file.read().split(b"\0")[:-1])


class _Libc:
    """What the daemon asks of libSystem to guard itself."""

    @staticmethod
    def ptrace(*arguments: object) -> int:
        return 0

    @staticmethod
    def mlock(*arguments: object) -> int:
        return 0


for name in ("process", "code_status", "running_file", "unix_socket", "unix_sockets", "arguments"):
    setattr(libproc, name, globals()[name])
for module in (audit_token, channel, listener, peer):
    for name in ("peer_token", "peer_pid", "peer_uid"):
        if hasattr(module, name):
            setattr(module, name, globals()[name])
libproc.path_of = lambda pid: os.readlink(f"/proc/{pid}/exe")
libproc.working_folder = lambda pid: os.readlink(f"/proc/{pid}/cwd")
libproc.pids = lambda: [int(name) for name in os.listdir("/proc") if name.isdigit()]
libproc.filesystem = lambda path: libproc.Filesystem("apfs", nosuid=False, local=True)
peer.team_of = code_signature.team_of = lambda token: "ABCDE12345"
library.bind = lambda loaded, name, result, *types: getattr(loaded, name)
library.libsystem = _Libc
assert hardening

if __name__ == "__main__":
    from keychain_auth.client import trust

    trust._listener_uid = peer_uid
    from keychain_auth.cli.main import main

    sys.exit(main())

"""In what condition this kernel is, for ``keychain-auth doctor``: what it allows everybody, and what it lacks.

It reports, it does not judge.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
from shlex import quote

from keychain_auth.platform.linux.channel import has_passrights
from keychain_auth.platform.linux.descriptors import SocketDiagnosis
from keychain_auth.platform.linux.peercred import has_peer_pidfd
from keychain_auth.platform.linux.procfs import Process
from keychain_auth.platform.linux.syscalls import has_cached_lookup
from keychain_auth.platform.linux.sysctl import setting, yama_scope
from keychain_auth.platform.remedies import Remedies

__all__ = [
    "KERNEL_IS_LOOKED_AT", "allows_user_namespaces", "clock_is_synchronised", "diagnoses_sockets", "lacks", "remedies",
    "unit_of", "yama_scope",
]  # fmt: skip

KERNEL_IS_LOOKED_AT = True
"""Whether the functions below say something of the kernel that this is."""
_TIMEX_BYTES = 256  # struct timex of include/uapi/linux/timex.h has 208; zeroes: nothing is set, only read
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_CGROUP_BYTES = 64 * 1024
_UNIT = re.compile(r"/([^/\n]+\.service)$", re.MULTILINE)


def allows_user_namespaces() -> bool:
    """May every program make a user namespace of its own?"""
    if setting("user/max_user_namespaces") == "0" or setting("kernel/unprivileged_userns_clone") == "0":
        return False
    return setting("kernel/apparmor_restrict_unprivileged_userns") != "1"


def diagnoses_sockets() -> bool:
    """Can the kernel say who holds the other end of a Unix socket (unix_diag)?"""
    one, other = socket.socketpair()
    with one, other, contextlib.suppress(OSError):
        diagnosis = SocketDiagnosis()
        try:
            return diagnosis.peer_inode(os.fstat(one.fileno()).st_ino) == os.fstat(other.fileno()).st_ino
        finally:
            diagnosis.close()
    return False


def lacks() -> tuple[str, ...]:
    """What this kernel does not have, and what is done without it."""
    known = (
        (has_peer_pidfd(), "no SO_PEERPIDFD (Linux 6.5): a process is pinned a moment later, and by its start time"),
        (has_cached_lookup(), "no RESOLVE_CACHED (Linux 5.12): a program's path is opened plainly, in a thread"),
        (has_passrights(), "no SO_PASSRIGHTS (Linux 6.16): passed descriptors are dropped, and end the connection"),
    )
    return tuple(f"this kernel has {text}" for there, text in known if not there)


def clock_is_synchronised() -> bool | None:
    """Whether something keeps the clock right (adjtimex(2)); None if the kernel does not say."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    return None if state < 0 else state != _TIME_ERROR


def remedies(folder: str) -> Remedies:
    """The commands of this system. ``folder``: where the room was looked at."""
    return Remedies(
        clock="timedatectl set-ntp true",
        room=f"df -h {quote(folder)}",
        key_memory="systemctl --user edit keychain-auth (LimitMEMLOCK=64K), or ulimit -l 64",
        restart="keychain-auth restart",
    )


def unit_of(pid: int) -> str:
    """The systemd unit that the process runs in, "" if it runs in none of its own (cgroups(7))."""
    try:
        process = Process(pid)
        try:
            text = process.read_all("cgroup", _CGROUP_BYTES).decode("utf-8", "replace")
        finally:
            process.close()
    except OSError:
        return ""
    found = _UNIT.search(text)
    unit = found.group(1) if found else ""
    return "" if unit.startswith("user@") else unit

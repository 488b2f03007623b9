"""From root to the daemon's user, with no more than the few capabilities that its work needs. One way only.

Contract: afterwards all ids are the other user's and nothing leads back: no saved id, no group left over, an empty
bounding set but for what is kept. What is kept is in the permitted, effective and inheritable sets; with ``ambient``
it also survives an exec (capabilities(7)).

Why these, for the daemon of the whole machine (``SERVES_ALL``):

* CAP_SYS_PTRACE: to read /proc/PID of other users' processes (ptrace(2), "Ptrace access mode checking").
* CAP_DAC_READ_SEARCH: to hash a program in a home folder that only its owner may enter.
* CAP_LEASE: to hold a read lease on a file of another owner while it is hashed (fcntl(2), F_SETLEASE).

It can write no file of anybody else's, and signal nobody. What it can read is everything: to whoever takes it over it
is nearly as precious as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from keychain_auth.errors import KeychainAuthError

_CAP_DAC_READ_SEARCH = 2
_CAP_SYS_PTRACE = 19
_CAP_LEASE = 28
SERVES_ALL = (_CAP_DAC_READ_SEARCH, _CAP_SYS_PTRACE, _CAP_LEASE)
READS_ALL = (_CAP_DAC_READ_SEARCH,)
NAMES = {
    _CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH", _CAP_SYS_PTRACE: "CAP_SYS_PTRACE", _CAP_LEASE: "CAP_LEASE",
}  # fmt: skip

_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int, gid: int, capabilities: tuple[int, ...], *, ambient: bool = False) -> None:
    """Be the user ``uid`` from now on. To be called by root, before there is a second thread.

    Raises KeychainAuthError.
    """
    try:
        for number in range(_MOST_CAPABILITIES):
            if number not in capabilities and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
                if ctypes.get_errno() != errno.EINVAL:  # that it says of numbers beyond the last that it knows
                    _call("prctl", -1)
                break
        _call("prctl", _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        _set(capabilities)
        if ambient:
            for number in capabilities:
                _call("prctl", _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))
        _call("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    except OSError as error:
        hint = "run it as root: sudo keychain-auth --system COMMAND"
        raise KeychainAuthError(f"cannot become user {uid}: {error.strerror}", hint=hint) from None


def _set(capabilities: tuple[int, ...]) -> None:
    """capset(2): a header (version, pid) and two times (effective, permitted, inheritable) of 32 bits each."""
    low, high = (sum(1 << number % 32 for number in capabilities if number // 32 == word) for word in range(2))
    header = struct.pack("=Ii", _VERSION_3, 0)
    _call("capset", _libc.capset(header, struct.pack("=6I", low, low, low, high, high, high)))


def _call(name: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")

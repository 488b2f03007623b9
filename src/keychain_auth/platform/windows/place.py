"""Where a file lies, and who could change it or put another in its place: by lists (DACLs), not mode bits.

Contract: answers about the files as they are now, for a real path (``os.path.realpath``). Of the folders above a file
only what could exchange the file is asked about: to remove names in them, or to change their owner or list. Who may
only add to C:\\ (every user may) can exchange nothing that is there.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import functools
import os

import pywintypes
import win32api
import win32con
import win32file

from keychain_auth.oslayer import security

LOCAL_FILESYSTEMS = frozenset(("NTFS", "ReFS"))
_EVERYBODY = frozenset(("*", "S-1-1-0", "S-1-5-11", "S-1-5-32-545"))  # Everyone, Authenticated Users, Users
_KINDS = {win32con.DRIVE_REMOTE: "a network drive", win32con.DRIVE_REMOVABLE: "a removable drive",
          win32con.DRIVE_CDROM: "a compact disc", win32con.DRIVE_RAMDISK: "a disk in memory"}  # fmt: skip


def filesystem_of(path: str) -> str:
    """The type of the filesystem that a real path lies on; for what is no fixed disk of this machine, what it is."""
    root = os.path.splitdrive(path)[0] + "\\"
    kind = win32file.GetDriveType(root)
    if kind != win32con.DRIVE_FIXED:
        return _KINDS.get(kind, "an unknown drive")
    try:
        return str(win32api.GetVolumeInformation(root)[4])
    except pywintypes.error:
        return "an unknown drive"


@functools.cache
def windows_own() -> frozenset[str]:
    """SIDs of SYSTEM, Administrators, TrustedInstaller, and of whoever else could change what every process has loaded.

    On Windows there is nobody else. Under Wine there is: the owner of Wine's own files. Empty if this user or
    everybody could: then nothing of Windows can be told from what somebody put there.
    """
    found = security.ROOT | _changers(os.path.realpath(os.path.join(win32api.GetSystemDirectory(), "ntdll.dll")))
    return frozenset() if found & (_EVERYBODY | {security.sid_text(security.own_sid())}) else found


def only_root_writes(path: str) -> bool:
    """Can nobody but Windows' own (``windows_own``) change the file, or exchange it?"""
    return not _changers(path) - windows_own()


def _changers(path: str) -> set[str]:
    """Who could change the file, put something beside it, or exchange a folder above."""
    folder = os.path.dirname(path)
    return {
        who for place, exchanging in _chain(path) for who in _writers(place, exchanging=exchanging and place != folder)
    }


def is_of_root(path: str) -> bool:
    """The same; a name for what is more than that elsewhere."""
    return only_root_writes(path)


def writable_by_others(path: str, uid: int) -> str:
    """The first of the file and its folders that somebody other than this user and Windows' own can change, or "".

    ``uid`` is this user's, always: nobody else is served.
    """
    trusted = security.ROOT | windows_own() | {security.sid_text(security.own_sid())}
    for place, exchanging in _chain(path):
        if _writers(place, exchanging=exchanging) - trusted:
            return place
    return ""


def _chain(path: str) -> list[tuple[str, bool]]:
    """The file, then each folder above it."""
    places = [(path, False)]
    while (above := os.path.dirname(path)) != path:
        places.append((above, True))
        path = above
    return places


def _writers(place: str, *, exchanging: bool) -> set[str]:
    try:
        return security.writers(security.of_file(place), exchanging=exchanging)
    except OSError:
        return {"*"}  # what cannot be looked at may be anybody's

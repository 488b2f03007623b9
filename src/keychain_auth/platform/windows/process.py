"""A process of Windows, held so that its number stays its own: what the kernel says about it.

The handle keeps the process object, and with it the pid, for as long as it is open: no other process gets the number.
Between the moment when the client connected and the moment when this opens it there is none; a process that began
after that is refused, and ``docs/platforms.md`` says what is left.

A user is known by the last number of the SID (``uid``), and only if the whole SID is this user's: -1 is somebody else.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import ctypes
import shlex
import time
from ctypes import wintypes
from typing import Any

import pywintypes
import win32api
import win32con
import win32event
import win32security

from keychain_auth.oslayer import security
from keychain_auth.oslayer.windows import rid, user_id
from keychain_auth.platform.base import PeerGone

OTHER_USER = -1
_LIMITED = 0x1000  # PROCESS_QUERY_LIMITED_INFORMATION
_LONGEST_PATH = 32768
_COMMAND_LINE = 60  # ProcessCommandLineInformation
_IMAGE_FILE_MAPPING = 44  # ProcessImageFileMapping
_UNKNOWN_CLASS = (0xC0000002, 0xC0000003)  # STATUS_NOT_IMPLEMENTED, STATUS_INVALID_INFO_CLASS
_FILETIME_SECONDS = 1e-7
_FILETIME_EPOCH = 11644473600  # seconds from 1601 to 1970

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel.QueryFullProcessImageNameW.argtypes = (
    wintypes.HANDLE, wintypes.DWORD, wintypes.LPWSTR, ctypes.POINTER(wintypes.DWORD),
)  # fmt: skip
_kernel.CheckRemoteDebuggerPresent.argtypes = (wintypes.HANDLE, ctypes.POINTER(wintypes.BOOL))
_kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, *(ctypes.POINTER(wintypes.FILETIME),) * 4)
_kernel.LocalFree.argtypes = (ctypes.c_void_p,)
_kernel.LocalFree.restype = ctypes.c_void_p
_kernel.ReadProcessMemory.argtypes = (
    wintypes.HANDLE, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t),
)  # fmt: skip
_nt = ctypes.WinDLL("ntdll")
_nt.NtQueryInformationProcess.argtypes = (
    wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.ULONG, ctypes.POINTER(wintypes.ULONG),
)  # fmt: skip
_nt.NtQueryInformationProcess.restype = wintypes.ULONG
_shell = ctypes.WinDLL("shell32", use_last_error=True)
_shell.CommandLineToArgvW.argtypes = (wintypes.LPCWSTR, ctypes.POINTER(ctypes.c_int))
_shell.CommandLineToArgvW.restype = ctypes.POINTER(wintypes.LPWSTR)


class Process:
    """Opened by its number. Raises PeerGone. ``is_open``: its memory can be asked about (PROCESS_QUERY_INFORMATION)."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        looked = time.time()
        self._handle, self.is_open = _open(pid)
        try:
            self.start_time = _began(self._handle)
            if self.start_time * _FILETIME_SECONDS - _FILETIME_EPOCH > looked + 0.05:  # the clocks' resolution
                raise PeerGone("the pid that connected belongs to a younger process")
            token = win32security.OpenProcessToken(self._handle, win32con.TOKEN_QUERY)
            self.uid = user_id() if security.token_user(token) == security.own_sid() else OTHER_USER
            self.integrity = integrity_of(token)
        except pywintypes.error as error:
            self.close()
            raise PeerGone(f"it cannot be looked at: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it. May be called twice."""
        self._handle.Close()

    def handle(self) -> int:
        """For who asks the kernel about it; as long as it is not closed."""
        return int(self._handle)

    def has_ended(self) -> bool:
        """Is it no more than an open handle? A microsecond."""
        return bool(win32event.WaitForSingleObject(self._handle, 0) == win32event.WAIT_OBJECT_0)

    def image_path(self) -> str:
        """Where its program was when it began. Raises PeerGone."""
        size = wintypes.DWORD(_LONGEST_PATH)
        buffer = ctypes.create_unicode_buffer(size.value)
        if not _kernel.QueryFullProcessImageNameW(int(self._handle), 0, buffer, ctypes.byref(size)):
            raise PeerGone("it has ended")
        return buffer.value

    def runs(self, file: int) -> bool | None:
        """Is the open file ``file`` (a handle) the one that it was made from? None: this Windows does not say.

        A program that runs cannot be written, but it can be renamed, and another put in its place: the path alone
        would then be the other's. The kernel compares the sections (ProcessImageFileMapping).
        """
        handle = wintypes.HANDLE(file)
        status = _nt.NtQueryInformationProcess(
            int(self._handle), _IMAGE_FILE_MAPPING, ctypes.byref(handle), ctypes.sizeof(handle), None
        )
        return None if status in _UNKNOWN_CLASS else status == 0

    def is_traced(self) -> bool:
        """Does a debugger hold it? One of another integrity level cannot be asked, nor traced by ours."""
        found = wintypes.BOOL()
        asked = _kernel.CheckRemoteDebuggerPresent(int(self._handle), ctypes.byref(found))
        return bool(asked and found.value)

    def command_line(self) -> tuple[str, ...]:
        """Its own claim of its arguments; nothing if it cannot be read."""
        buffer = ctypes.create_string_buffer(_LONGEST_PATH * 2 + 64)
        status = _nt.NtQueryInformationProcess(int(self._handle), _COMMAND_LINE, buffer, len(buffer), None)
        if status in _UNKNOWN_CLASS:
            return split(_from_memory(self.pid))
        if status:
            return ()
        length = int.from_bytes(buffer.raw[:2], "little")  # UNICODE_STRING: length, room, pointer; the text follows
        start = 2 * ctypes.sizeof(ctypes.c_void_p)
        return split(buffer.raw[start : start + length].decode("utf-16-le", "replace"))


def integrity_of(token: Any) -> int:
    """The integrity level of a token: 4096 low, 8192 medium, 12288 high; 0 where there is none."""
    try:
        sid, _ = win32security.GetTokenInformation(token, win32security.TokenIntegrityLevel)
    except pywintypes.error:
        return 0
    return rid(sid)


def own_integrity() -> int:
    """That of this process."""
    return integrity_of(win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32con.TOKEN_QUERY))


def split(line: str) -> tuple[str, ...]:
    """A command line as programs take it apart (CommandLineToArgvW)."""
    if not line.strip():
        return ()
    count = ctypes.c_int()
    words = _shell.CommandLineToArgvW(line, ctypes.byref(count))
    if not words:
        return tuple(shlex.split(line, posix=False))
    try:
        return tuple(words[number] or "" for number in range(count.value))
    finally:
        _kernel.LocalFree(words)


def _from_memory(pid: int) -> str:
    """The command line from the process's own memory, where Windows 8.1 and later have a question for it (and Wine 8
    has not): PEB, its process parameters, and in them a UNICODE_STRING, at their places in a 64-bit process."""
    try:
        handle = win32api.OpenProcess(win32con.PROCESS_QUERY_INFORMATION | win32con.PROCESS_VM_READ, False, pid)
    except pywintypes.error:
        return ""
    basic = (ctypes.c_uint64 * 6)()  # PROCESS_BASIC_INFORMATION; the second is the address of the PEB
    if _nt.NtQueryInformationProcess(int(handle), 0, basic, ctypes.sizeof(basic), None):
        return ""
    parameters = int.from_bytes(_memory(handle, basic[1] + 0x20, 8), "little")
    string = _memory(handle, parameters + 0x70, 16)
    length, place = int.from_bytes(string[:2], "little"), int.from_bytes(string[8:], "little")
    return _memory(handle, place, length).decode("utf-16-le", "replace")


def _memory(handle: Any, address: int, size: int) -> bytes:
    """What lies there; nothing if it cannot be read."""
    buffer = ctypes.create_string_buffer(size)
    done = ctypes.c_size_t()
    if not _kernel.ReadProcessMemory(int(handle), address, buffer, size, ctypes.byref(done)):
        return b""
    return buffer.raw[: done.value]


def _open(pid: int) -> tuple[Any, bool]:
    access = _LIMITED | win32con.SYNCHRONIZE
    for asking in (win32con.PROCESS_QUERY_INFORMATION, 0):
        try:
            return win32api.OpenProcess(access | asking, False, pid), bool(asking)
        except pywintypes.error as error:
            failed = error
    raise PeerGone(f"the process that connected cannot be opened: {failed.strerror}")


def _began(handle: Any) -> int:
    """When it began, in units of 100 ns since 1601."""
    times = [wintypes.FILETIME() for _ in range(4)]
    if not _kernel.GetProcessTimes(int(handle), *map(ctypes.byref, times)):
        raise PeerGone("the process that connected is gone")
    return int(times[0].dwHighDateTime) << 32 | int(times[0].dwLowDateTime)


__all__ = ["OTHER_USER", "Process", "integrity_of", "own_integrity", "split"]

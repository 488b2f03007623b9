"""One connection to a daemon on Windows: a named pipe, by pywin32.

Contract (protocol, sections "Transport" and "Client library"), as in ``connection``:
* The handle is not inheritable: no program that this one starts can speak with it.
* The server may know who we are, and cannot act as us (SECURITY_IDENTIFICATION).
* Nothing is sent before the pipe's owner was looked at: this user, or Windows' own (SYSTEM, Administrators). Its maker
  chooses a pipe's owner among the users that it can act as, so no other user's program can wait here for secrets.
* A pipe whose instances are all taken is not an error: BlockingIOError, and the client tries again.

``PipeStream`` has the few methods of a non-blocking socket that the exchange uses. Windows reads into memory of ours
until a read is over, so closing waits for what was cancelled.

What it does not promise: anything about other programs of the same user, which could make the pipe first.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import contextlib
import os
from typing import Any

from keychain_auth.errors import DaemonNotRunning, KeychainAuthError, UntrustedDaemon

try:
    import pywintypes
    import win32con
    import win32event
    import win32file
    import win32pipe
    import winerror

    from keychain_auth.oslayer import security
except ImportError:
    pywintypes = None

NO_PYWIN32 = "Please install 'pywin32' package for named pipe connections on Windows."
_READ_BYTES = 65536
_WRITE_BYTES = 65536
_BUSY_MS = 20  # what one attempt waits for a free instance; the caller makes as many as its deadline allows
_WANT_READ, _WANT_WRITE = 1, 4
_SQOS_PRESENT, _IDENTIFICATION = 0x00100000, 0x00010000  # SECURITY_… of CreateFile
_MISSING = (2, 3, 53)  # ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_BAD_NETPATH
_FOREVER_MS = 3600_000
_TURN_MS = 200  # Ctrl-C does not end such a wait: Python hears of it between two


class PipeStream:
    """The bytes of one open pipe. Never waits, but for ``wait``."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._read_event = win32event.CreateEvent(None, True, False, None)
        self._write_event = win32event.CreateEvent(None, True, True, None)
        self._buffer = win32file.AllocateReadBuffer(_READ_BYTES)
        self._reading: Any = None
        self._writing: tuple[Any, bytes] | None = None
        self._data = b""
        self._ended = False

    def fileno(self) -> int:
        """The value of the handle."""
        return int(self._handle)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """The next bytes, b"" at the end. ``flags``: nothing, or MSG_PEEK. Raises BlockingIOError."""
        self._take_read()
        if self._data:
            piece = self._data[:size]
            if not flags:
                self._data = self._data[size:]
            return piece
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """How many bytes were taken. Raises BlockingIOError while those before are not; BrokenPipeError."""
        if win32event.WaitForSingleObject(self._write_event, 0) != win32event.WAIT_OBJECT_0:
            raise BlockingIOError
        piece = bytes(data[:_WRITE_BYTES])
        overlapped = pywintypes.OVERLAPPED()
        overlapped.hEvent = self._write_event
        win32event.ResetEvent(self._write_event)
        self._writing = overlapped, piece
        try:
            win32file.WriteFile(self._handle, piece, overlapped)
        except pywintypes.error as error:
            self._writing = None
            win32event.SetEvent(self._write_event)
            raise BrokenPipeError(error.winerror, error.strerror) from None
        return len(piece)

    def wait(self, events: int, seconds: float) -> bool:
        """Wait for ``events`` for at most ``seconds``; True if they came."""
        if events & _WANT_READ:
            self._take_read()
            if self._data or self._ended:
                return True
        handles = [self._read_event] if events & _WANT_READ else []
        handles += [self._write_event] if events & _WANT_WRITE else []
        left = int(min(seconds * 1000, _FOREVER_MS))
        while win32event.WaitForMultipleObjects(handles, False, min(left, _TURN_MS)) == win32event.WAIT_TIMEOUT:
            left -= _TURN_MS
            if left <= 0:
                return False
        return True

    def close(self) -> None:
        """Close the handle, once Windows has let go of our memory. May be called twice."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        for overlapped in (self._reading, self._writing[0] if self._writing else None):
            if overlapped is not None:
                self._cancel(handle, overlapped)
        handle.Close()

    @staticmethod
    def _cancel(handle: Any, overlapped: Any) -> None:
        try:
            # By ctypes: CancelIo of pywin32 cancels only what this thread began, and threads share a client.
            import ctypes  # noqa: PLC0415

            ctypes.windll.kernel32.CancelIoEx(ctypes.c_void_p(int(handle)), None)
            win32file.GetOverlappedResult(handle, overlapped, True)
        except pywintypes.error:
            pass  # it was cancelled, or had failed

    def _take_read(self) -> None:
        """Take what the read brought, and keep one under way."""
        while not self._data and not self._ended:
            if self._reading is None:
                self._begin_read()
                continue
            if win32event.WaitForSingleObject(self._read_event, 0) != win32event.WAIT_OBJECT_0:
                return
            overlapped, self._reading = self._reading, None
            try:
                count = win32file.GetOverlappedResult(self._handle, overlapped, False)
            except pywintypes.error:  # broken: the other end is closed
                self._ended = True
                return
            self._data = bytes(memoryview(self._buffer)[:count])

    def _begin_read(self) -> None:
        overlapped = pywintypes.OVERLAPPED()
        overlapped.hEvent = self._read_event
        win32event.ResetEvent(self._read_event)
        self._reading = overlapped
        try:
            win32file.ReadFile(self._handle, self._buffer, overlapped)
        except pywintypes.error:
            self._reading = None
            self._ended = True


class PipeConnection:
    """An open, trusted pipe; the methods of ``connection.Connection``."""

    def __init__(self, stream: PipeStream) -> None:
        self.socket = stream
        self.answered = False
        self._pid = os.getpid()

    def usable(self) -> bool:
        """See ``connection.Connection.usable``."""
        if not self.socket.wait(_WANT_READ, 0.0):
            return True
        try:
            return not self.answered and bool(self.socket.recv(1, 1))
        except BlockingIOError:
            return True

    def wait(self, events: int, seconds: float) -> bool:
        """See ``connection.Connection.wait``."""
        return self.socket.wait(events, seconds)

    def close(self) -> None:
        """Close the handle."""
        self.socket.close()


def connect(path: str) -> PipeConnection:
    """A connection to the daemon's pipe ``path``, whose owner was looked at.

    Raises DaemonNotRunning, UntrustedDaemon, KeychainAuthError; BlockingIOError when all instances are taken.
    """
    if pywintypes is None:
        raise KeychainAuthError(NO_PYWIN32)
    flags = win32con.FILE_FLAG_OVERLAPPED | _SQOS_PRESENT | _IDENTIFICATION
    access = win32con.GENERIC_READ | win32con.GENERIC_WRITE
    try:
        handle = win32file.CreateFile(path, access, 0, None, win32con.OPEN_EXISTING, flags, None)
    except pywintypes.error as error:
        raise _refusal(path, error) from None
    try:
        check_owner(handle, path)
    except BaseException:
        handle.Close()
        raise
    return PipeConnection(PipeStream(handle))


def check_owner(handle: Any, path: str) -> None:
    """Raise UntrustedDaemon unless the pipe belongs to this user or to Windows' own."""
    try:
        owner = security.owner(security.of_handle(handle, security.KERNEL_OBJECT))
    except OSError as error:
        problem = f"its owner cannot be looked at ({error.strerror})"
    else:
        if owner in security.ROOT or owner == security.sid_text(security.own_sid()):
            return
        problem = f"it belongs to {security.name_of(owner) if owner else 'nobody'}"
    raise UntrustedDaemon(f"the pipe {path} is not trusted: {problem}; nothing was sent to it", hint="whoami /user")


def _refusal(path: str, error: Any) -> Exception:
    if error.winerror in _MISSING:
        return DaemonNotRunning()
    if error.winerror == winerror.ERROR_PIPE_BUSY:
        with contextlib.suppress(pywintypes.error):  # also fails for nothing under Wine: the next attempt will tell
            win32pipe.WaitNamedPipe(path, _BUSY_MS)
        return BlockingIOError()
    if error.winerror == winerror.ERROR_ACCESS_DENIED:
        return UntrustedDaemon(f"the pipe {path} does not let this user in: it is another user's", hint="whoami /user")
    return KeychainAuthError(f"cannot connect to {path}: {error.strerror}")

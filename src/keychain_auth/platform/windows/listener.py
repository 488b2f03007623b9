"""A named pipe that one daemon makes, for its own user.

* The first instance is made with FILE_FLAG_FIRST_PIPE_INSTANCE: it fails where somebody has a pipe of that name, so
  nobody can wait under our name before us, or beside us.
* Its list (DACL) lets this user in and nobody else; PIPE_REJECT_REMOTE_CLIENTS keeps the network out.
* Several instances wait at any time, so that programs that come together find one each. A client that finds none gets
  ERROR_PIPE_BUSY, and tries again.

Bytes, not messages: a line may come in pieces, and lines may come together, as on a socket.

What it does not promise: anything about programs of the same user, which may connect; that is for identity. Nor that
nobody of the same user takes the name while no daemon runs: a client looks at the owner of a pipe before it speaks.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import contextlib
from collections import deque
from typing import Any

import pywintypes
import win32con
import win32event
import win32file
import win32pipe
import winerror

from keychain_auth.errors import DaemonAlreadyRunning, UnsafeFile
from keychain_auth.oslayer import security
from keychain_auth.platform.base import PeerGone
from keychain_auth.platform.windows.channel import BUFFER_BYTES, PipeChannel
from keychain_auth.platform.windows.peer import Host
from keychain_auth.platform.windows.process import Process
from keychain_auth.platform.windows.readiness import Operation, Readiness

_WAITING = 16  # instances that wait for a client
_MODE = (
    win32pipe.PIPE_TYPE_BYTE | win32pipe.PIPE_READMODE_BYTE | win32pipe.PIPE_WAIT | 0x8
)  # PIPE_REJECT_REMOTE_CLIENTS
_FIRST = 0x00080000  # FILE_FLAG_FIRST_PIPE_INSTANCE
_OPEN = win32pipe.PIPE_ACCESS_DUPLEX | win32con.FILE_FLAG_OVERLAPPED
_TAKEN = (winerror.ERROR_ACCESS_DENIED, winerror.ERROR_PIPE_BUSY)


class PipeListener:
    """See ``Listener``. Raises DaemonAlreadyRunning, UnsafeFile, OSError."""

    def __init__(self, path: str, readiness: Readiness, host: Host) -> None:
        self.path = path
        self._readiness = readiness
        self._host = host
        self._attributes = security.only_for(security.own_sid())
        self._waiting: dict[Operation, Any] = {}
        self._connected: deque[Any] = deque()
        self._closed = False
        if _answers(path):  # Wine does not know the flag; and this way the pid can be told
            raise DaemonAlreadyRunning(path, _server_pid(path))
        first = self._make(_FIRST)
        self._event = win32event.CreateEvent(None, True, False, None)  # for its number, which is nobody else's
        self._number = int(self._event)
        readiness.watch(self._number, lambda: None)
        self._fill(first)

    def fileno(self) -> int:
        """The number by which it is watched."""
        return self._number

    def accept(self) -> PipeChannel:
        """The next connection. Raises BlockingIOError when none waits."""
        if not self._connected:
            raise BlockingIOError
        handle = self._connected.popleft()
        self._readiness.set_readable(self._number, bool(self._connected))
        self._fill()
        process: Process | PeerGone
        try:
            pid = int(win32pipe.GetNamedPipeClientProcessId(handle))
        except pywintypes.error as error:
            handle.Close()
            raise ConnectionAbortedError(error.winerror, "the client is gone") from None
        try:
            process = Process(pid)
        except PeerGone as gone:
            process = gone
        return PipeChannel(handle, self._readiness, self._host, pid, process)

    def may_have_more(self) -> bool:
        """See ``Listener.may_have_more``."""
        return bool(self._connected)

    def share(self) -> tuple[int, bool]:
        """A pipe cannot be handed to another process of Windows by its number. Raises OSError."""
        raise OSError("a pipe is not handed on")

    def close(self) -> None:
        """Stop listening. The name is free once the last connection is closed too."""
        if self._closed:
            return
        self._closed = True
        self._readiness.forget(self._number)
        for handle in (*self._waiting.values(), *self._connected):
            with contextlib.suppress(pywintypes.error):
                win32file.CancelIo(handle)
            handle.Close()
        self._connected.clear()
        self._event.Close()

    # --- instances ------------------------------------------------------------------------------

    def _make(self, first: int = 0) -> Any:
        try:
            return win32pipe.CreateNamedPipe(
                self.path, _OPEN | first, _MODE, win32pipe.PIPE_UNLIMITED_INSTANCES, BUFFER_BYTES, BUFFER_BYTES, 0,
                self._attributes,
            )  # fmt: skip
        except pywintypes.error as error:
            if first and error.winerror in _TAKEN:
                raise DaemonAlreadyRunning(self.path, 0) from None
            if error.winerror == winerror.ERROR_INVALID_NAME:
                raise UnsafeFile(f"{self.path} is no pipe's name", hint=r"--socket \\.\pipe\NAME") from None
            raise OSError(0, error.strerror, self.path, error.winerror) from None

    def _fill(self, fresh: Any = None) -> None:
        """Have ``_WAITING`` instances wait. ``fresh``: one that is made already."""
        while not self._closed and len(self._waiting) + len(self._connected) < _WAITING:
            if fresh is None:
                try:
                    fresh = self._make()
                except OSError:  # out of memory: those that are there go on, and the next accept tries again
                    return
            self._await(fresh)
            fresh = None

    def _await(self, handle: Any) -> None:
        self._readiness.attach(handle)
        operation = self._readiness.begin(lambda error, count: self._arrived(operation, error), None)
        self._waiting[operation] = handle
        try:
            result = win32pipe.ConnectNamedPipe(handle, operation.overlapped)
        except pywintypes.error as error:
            result = error.winerror
        if result not in (winerror.ERROR_IO_PENDING, 0):
            self._readiness.never_begun(operation)
            self._arrived(operation, 0 if result == winerror.ERROR_PIPE_CONNECTED else result)

    def _arrived(self, operation: Operation, error: int) -> None:
        handle = self._waiting.pop(operation, None)
        if handle is None or self._closed:
            return
        if error:  # it came, and was gone before anybody looked
            handle.Close()
            self._fill()
            return
        self._connected.append(handle)
        self._readiness.set_readable(self._number, True)


def _answers(path: str) -> bool:
    """Does a pipe of this name wait for clients, or serve some?"""
    try:
        win32pipe.WaitNamedPipe(path, 1)
    except pywintypes.error as error:
        return bool(error.winerror in (winerror.ERROR_SEM_TIMEOUT, winerror.ERROR_PIPE_BUSY))
    return True


def _server_pid(path: str) -> int:
    try:
        handle = win32file.CreateFile(path, 0, 0, None, win32con.OPEN_EXISTING, 0, None)
    except pywintypes.error:
        return 0
    try:
        return int(win32pipe.GetNamedPipeServerProcessId(handle))
    except pywintypes.error:
        return 0
    finally:
        handle.Close()

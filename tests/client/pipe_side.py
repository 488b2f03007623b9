"""The daemon's end of a named pipe, with the few methods of a listening and of a connected socket that
``client_lab`` uses: so what is tested of the client on a Unix socket is tested on a pipe as well.

One instance always waits, as in a socket's queue: who comes before ``accept`` is connected, and gets no answer yet.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import io
import secrets
from pathlib import Path
from typing import Any

import pywintypes
import win32event
import win32file
import win32pipe
import winerror

from keychain_auth.oslayer import security

_ROOM = 65536
_DUPLEX = win32pipe.PIPE_ACCESS_DUPLEX | win32file.FILE_FLAG_OVERLAPPED


class PipeListener:
    """Listens at ``path``."""

    def __init__(self, folder: Path) -> None:
        del folder  # a pipe is in none
        self.path = rf"\\.\pipe\keychain-auth-scripted-{secrets.token_hex(6)}"
        self._stop = win32event.CreateEvent(None, True, False, None)
        self._handle = self._instance()

    def accept(self) -> PipeEnd:
        """The next connection. Raises OSError after ``wake``."""
        overlapped = self._listen()
        if win32event.WaitForMultipleObjects([self._stop, overlapped.hEvent], False, win32event.INFINITE) == 0:
            _cancel(self._handle, overlapped)
            raise OSError("the listener was closed")
        end = PipeEnd(self._handle)
        self._handle = self._instance()
        return end

    def somebody_waits(self) -> bool:
        """Has a client connected that nobody accepted?"""
        overlapped = self._listen()
        if win32event.WaitForSingleObject(overlapped.hEvent, 0) == win32event.WAIT_OBJECT_0:
            return True
        _cancel(self._handle, overlapped)
        return False

    def wake(self) -> None:
        """End every ``accept``."""
        win32event.SetEvent(self._stop)

    def close(self) -> None:
        """The name is gone; connections stay."""
        self._handle.Close()

    def _instance(self) -> Any:
        return win32pipe.CreateNamedPipe(
            self.path, _DUPLEX, win32pipe.PIPE_REJECT_REMOTE_CLIENTS, win32pipe.PIPE_UNLIMITED_INSTANCES,
            _ROOM, _ROOM, 0, security.only_for(security.own_sid()),
        )  # fmt: skip

    def _listen(self) -> Any:
        """Begun by the thread that waits: with its end Windows would cancel it."""
        overlapped = _overlapped()
        try:
            there = win32pipe.ConnectNamedPipe(self._handle, overlapped) == winerror.ERROR_PIPE_CONNECTED
        except pywintypes.error as error:
            if error.winerror != winerror.ERROR_NO_DATA:
                raise
            there = True  # it came, and has left again: what it sent is still there to be read
        if there:
            win32event.SetEvent(overlapped.hEvent)
        return overlapped


class PipeEnd(io.RawIOBase):
    """One connection, as a blocking socket: each call ends, or raises TimeoutError."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._timeout = win32event.INFINITE

    def settimeout(self, seconds: float) -> None:
        self._timeout = int(seconds * 1000)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recv(self, size: int) -> bytes:
        """b"" at the end."""
        room, overlapped = win32file.AllocateReadBuffer(size), _overlapped()
        try:
            win32file.ReadFile(self._handle, room, overlapped)
            return bytes(memoryview(room)[: self._finish(overlapped)])
        except pywintypes.error as error:
            if error.winerror in (winerror.ERROR_BROKEN_PIPE, winerror.ERROR_PIPE_NOT_CONNECTED):
                return b""
            raise

    def sendall(self, data: bytes) -> None:
        """Raises BrokenPipeError."""
        for start in range(0, len(data), _ROOM):
            overlapped = _overlapped()
            try:
                win32file.WriteFile(self._handle, data[start : start + _ROOM], overlapped)
                self._finish(overlapped)
            except pywintypes.error as error:
                raise BrokenPipeError(error.winerror, error.strerror) from None

    def close(self) -> None:
        """What was sent can still be read at the other end. May be called twice."""
        super().close()
        self._handle.Close()

    def _finish(self, overlapped: Any) -> int:
        if win32event.WaitForSingleObject(overlapped.hEvent, self._timeout) != win32event.WAIT_OBJECT_0:
            _cancel(self._handle, overlapped)
            raise TimeoutError("the client does nothing")
        return int(win32file.GetOverlappedResult(self._handle, overlapped, False))


def _overlapped() -> Any:
    made = pywintypes.OVERLAPPED()
    made.hEvent = win32event.CreateEvent(None, True, False, None)
    return made


def _cancel(handle: Any, overlapped: Any) -> None:
    """Windows writes to our memory until what it was asked for has ended."""
    try:
        win32file.CancelIo(handle)
        win32file.GetOverlappedResult(handle, overlapped, True)
    except pywintypes.error:
        pass  # it was cancelled, or there was nothing left

"""One connected pipe instance: the daemon's end.

Windows names the process that opened the pipe, once (GetNamedPipeClientProcessId); it does not say who sent which byte.
So the sender of every piece is that process here, and a handle that it gave to another process speaks in its name.
What is checked at each message is that the process still lives: if it does not, somebody else holds its handle.

A read is under way whenever somebody waits for this connection, and at most one write: what does not fit into the
pipe's buffer is written on by Windows, and until then nothing more is taken (BlockingIOError).

What it does not promise: half-closing. A pipe has no end of output: the client sees the end when all is closed.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import contextlib
from typing import Any

import pywintypes
import win32file
import winerror

from keychain_auth.platform.base import PeerGone
from keychain_auth.platform.windows.peer import Host, WindowsPeer
from keychain_auth.platform.windows.process import Process
from keychain_auth.platform.windows.readiness import Operation, Readiness

BUFFER_BYTES = 65536
_READ_BYTES = 32768
_ENDED = (winerror.ERROR_BROKEN_PIPE, winerror.ERROR_PIPE_NOT_CONNECTED, winerror.ERROR_NO_DATA,
          winerror.ERROR_HANDLE_EOF)  # fmt: skip


class PipeChannel:
    """See ``Channel``. ``handle`` is attached to the port; ``process`` is who connected, or why nobody can say."""

    def __init__(self, handle: Any, readiness: Readiness, host: Host, pid: int, process: Process | PeerGone) -> None:
        self._handle = handle
        self._number = int(handle)
        self._readiness = readiness
        self._host = host
        self._pid = pid
        self._process = process
        self._data = b""
        self._error = 0
        self._reading: Operation | None = None
        self._writing: Operation | None = None
        self._closed = False
        readiness.watch(self._number, self._begin_read)
        readiness.set_writable(self._number, True)

    def fileno(self) -> int:
        """The number by which it is watched."""
        return self._number

    # --- input ----------------------------------------------------------------------------------

    def receive(self) -> tuple[bytes, int | None]:
        """See ``Channel.receive``."""
        if not self._data:
            if self._error in _ENDED:
                return b"", self._pid
            if self._error:
                raise ConnectionResetError(self._error, "the pipe cannot be read")
            self._begin_read()
            raise BlockingIOError
        data, self._data = self._data, b""
        self._readiness.set_readable(self._number, False)
        self._begin_read()
        return data, self._pid

    def _begin_read(self) -> None:
        if self._reading is not None or self._data or self._error or self._closed:
            return
        buffer = win32file.AllocateReadBuffer(_READ_BYTES)
        self._reading = operation = self._readiness.begin(self._read, buffer)
        try:
            win32file.ReadFile(self._handle, buffer, operation.overlapped)
        except pywintypes.error as error:
            self._readiness.never_begun(operation)
            self._read(error.winerror, 0)

    def _read(self, error: int, count: int) -> None:
        operation, self._reading = self._reading, None
        if self._closed or operation is None:
            return
        self._error = error
        if not error:
            self._data = bytes(memoryview(operation.memory)[:count])  # type: ignore[arg-type]
            if not count:  # a message of no bytes says nothing
                self._begin_read()
                return
        self._readiness.set_readable(self._number, True)

    # --- output ---------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int:
        """See ``Channel.send``."""
        if self._writing is not None:
            raise BlockingIOError
        piece = bytes(data[:BUFFER_BYTES])
        self._writing = operation = self._readiness.begin(self._written, piece)
        try:
            win32file.WriteFile(self._handle, piece, operation.overlapped)
        except pywintypes.error as error:
            self._readiness.never_begun(operation)
            self._writing = None
            raise ConnectionResetError(error.winerror, "the pipe cannot be written") from None
        self._readiness.set_writable(self._number, False)
        return len(piece)

    def _written(self, error: int, count: int) -> None:
        self._writing = None
        if self._closed:
            return
        if error:
            self._error = self._error or error
            self._readiness.set_readable(self._number, True)  # whoever looks sees the end
        self._readiness.set_writable(self._number, True)

    def end_output(self) -> None:
        """A pipe has no such end: the client reads the last line, and sees the end when this is closed."""

    def end_input(self) -> None:
        """Nothing can tell a pipe to take no more; what comes later is lost with the connection."""

    # --- who ------------------------------------------------------------------------------------

    def peer_credentials(self) -> tuple[int, int]:
        """(pid, user): see ``process.Process``."""
        return self._pid, self._process.uid if isinstance(self._process, Process) else -1

    def peer(self) -> WindowsPeer:
        """The process that connected, held by a handle of its own: a peer may outlive its connection. Raises PeerGone.

        Its number is still its own, because this connection holds it too.
        """
        if isinstance(self._process, PeerGone):
            raise self._process
        return WindowsPeer(Process(self._pid), self._host, self.is_connected)

    def is_connected(self) -> bool:
        """Has the client not closed its end?"""
        return not self._closed and not self._error

    def close(self) -> None:
        """Close it. What the client has not read yet, and fits into the pipe's buffer, it still can read."""
        if self._closed:
            return
        self._closed = True
        self._readiness.forget(self._number)
        with contextlib.suppress(pywintypes.error):
            win32file.CancelIo(self._handle)
        self._handle.Close()
        if isinstance(self._process, Process):
            self._process.close()

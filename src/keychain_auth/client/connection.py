"""One connection to a daemon that has been looked at; and what becomes of connections in a forked child.

Contract (protocol, sections "Transport" and "Client library"):
* The descriptor is close-on-exec from the call that creates it (socket(2) with SOCK_CLOEXEC, PEP 446).
* Nothing is sent before ``trust`` has agreed.
* A connection belongs to the process that opened it. To the daemon it *is* that process: a request that a forked
  child sends on it is refused as ``caller_changed``, and two readers of one stream get each other's answers.
  In the child the descriptor is closed at once. Closed, not shut down: shutdown(2) acts on the connection itself and
  would end it for the parent as well.

What it does not promise: anything for a process that copies memory and descriptors without fork(2)'s hooks; the
pid is compared as well, for those.
"""

from __future__ import annotations

import _socket as socket  # its part in C: the module around it costs a short program 2 ms, and gives nothing used here
import os
import select
import sys

from keychain_auth.client.trust import check_listener
from keychain_auth.errors import DaemonNotRunning, KeychainAuthError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would double what this import costs
    import weakref
    from typing import Protocol

    class OwnedByProcess(Protocol):
        """A client, as seen from here."""

        def _after_fork(self) -> None:
            """Let go of what belongs to the parent."""


WANT_READ = getattr(select, "POLLIN", 1)  # Windows has neither poll(2) nor its numbers
WANT_WRITE = getattr(select, "POLLOUT", 4)
_LONGEST_WAIT = 3600.0  # seconds; poll(2) counts milliseconds in an int


class Connection:
    """An open, trusted, non-blocking stream. ``answered``: at least one answer has come over it."""

    __slots__ = ("_pid", "_poll", "answered", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.answered = False
        self._pid = os.getpid()
        self._poll = select.poll()

    def usable(self) -> bool:
        """Can the next request go here?

        Not when another process opened it, and not when the daemon has closed it. Bytes that wait there are a line
        that nobody asked for, and the next answer would be taken for the wrong one. Only before the first request
        they are welcome: a daemon that turns a caller away may say why without being asked.
        """
        if self._pid != os.getpid():
            return False
        if not self.wait(WANT_READ, 0.0):
            return True
        return not self.answered and self._has_bytes()

    def wait(self, events: int, seconds: float) -> bool:
        """Wait for ``events`` for at most ``seconds`` (an hour, if that is less); True if they came."""
        self._poll.register(self.socket, events)
        return bool(self._poll.poll(min(seconds, _LONGEST_WAIT) * 1000))

    def close(self) -> None:
        """Close the descriptor; the connection ends when no process holds it any more."""
        self.socket.close()

    def _has_bytes(self) -> bool:
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False


def _connect_socket(path: str) -> Connection:
    """A connection to the daemon at ``path``, checked by ``trust``.

    Raises DaemonNotRunning, UntrustedDaemon, KeychainAuthError; BlockingIOError when the daemon's queue of new
    connections is full: then try again a little later. (A Unix socket is never "in progress": connect(2) is done, or
    says EAGAIN and has done nothing.)
    """
    fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fresh.setblocking(False)
        fresh.connect(path)
        check_listener(fresh, path)
    except BlockingIOError:
        fresh.close()
        raise
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        fresh.close()
        raise DaemonNotRunning from None
    except OSError as error:
        fresh.close()
        raise KeychainAuthError(
            f"cannot connect to {path}: {error.strerror or error}", hint=f"ls -l {quoted(path)}"
        ) from None
    except BaseException:
        fresh.close()
        raise
    return Connection(fresh)


if sys.platform == "win32":
    from keychain_auth.client.pipe import connect
else:
    connect = _connect_socket


# --- fork(2) ----------------------------------------------------------------------------------

_clients: weakref.WeakSet[OwnedByProcess] | None = None


def forget_in_children(client: OwnedByProcess) -> None:
    """Have ``client._after_fork()`` called in every child that this process forks from now on."""
    global _clients  # noqa: PLW0603 - a command that asks once has no clients, and does without weakref
    if _clients is None:
        import weakref  # noqa: PLC0415

        _clients = weakref.WeakSet()
        if sys.platform != "win32":  # which has no fork(2)
            os.register_at_fork(after_in_child=_forget)
    _clients.add(client)


def _forget() -> None:
    for client in list(_clients or ()):
        client._after_fork()

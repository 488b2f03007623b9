"""How a daemon is told to end: Ctrl-C or Ctrl-Break in its console, the console's end, log-off, shutdown; an event.

The event is for what has no console: a daemon that a task started, and tests. It is named after the process, and its
list lets this user in and nobody else.

Windows ends the process when the handler of a close, a log-off or a shutdown returns: so that one waits until the
daemon has ended by itself, for as long as Windows lets it.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable

import pywintypes
import win32api
import win32con
import win32event

from keychain_auth.errors import NotFound
from keychain_auth.oslayer import security

_NAMES = {win32con.CTRL_C_EVENT: "Ctrl-C", win32con.CTRL_BREAK_EVENT: "Ctrl-Break",
          win32con.CTRL_CLOSE_EVENT: "close", win32con.CTRL_LOGOFF_EVENT: "log-off",
          win32con.CTRL_SHUTDOWN_EVENT: "shutdown"}  # fmt: skip
_LAST = (win32con.CTRL_CLOSE_EVENT, win32con.CTRL_LOGOFF_EVENT, win32con.CTRL_SHUTDOWN_EVENT)
_END_SECONDS = 10.0


def watch_stop(loop: asyncio.AbstractEventLoop, tell: Callable[[str], object]) -> None:
    """Have ``tell`` called in ``loop`` with the name of what wants the end."""

    def handle(kind: int) -> bool:
        loop.call_soon_threadsafe(tell, _NAMES.get(kind, "console"))
        if kind in _LAST:
            time.sleep(_END_SECONDS)  # the process ends earlier than that
        return True

    win32api.SetConsoleCtrlHandler(handle, True)
    event = win32event.CreateEvent(security.only_for(security.own_sid()), True, False, event_name(os.getpid()))

    def wait() -> None:
        win32event.WaitForSingleObject(event, win32event.INFINITE)
        with contextlib.suppress(RuntimeError):  # a daemon that this process was before: its loop is closed
            loop.call_soon_threadsafe(tell, "stop")

    threading.Thread(target=wait, name="stop", daemon=True).start()


def event_name(pid: int) -> str:
    """The event by which the daemon ``pid`` is told to end."""
    return f"Local\\keychain-auth-stop-{pid}"


def stop(pid: int) -> None:
    """Tell the daemon ``pid`` of this user's session to end. Raises NotFound."""
    try:
        event = win32event.OpenEvent(win32event.EVENT_MODIFY_STATE, False, event_name(pid))
    except pywintypes.error:
        raise NotFound(f"process {pid} is no daemon of this session", hint="keychain-auth status") from None
    win32event.SetEvent(event)

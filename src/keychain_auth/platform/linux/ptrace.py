"""ptrace(2), as far as it takes to stop one process at the end of its next exec.

Contract: all calls about one process come from the thread that seized it, because the kernel knows a tracer by its
thread. A process whose tracer ends, thread or program, is let go by the kernel and runs on untraced (ptrace(2)).

PTRACE_SEIZE, not ATTACH: it sends no signal, so the process, its terminal and its parent see nothing of it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

_SEIZE = 0x4206
_CONT = 7
_DETACH = 17
_LISTEN = 0x4208
_O_TRACEEXEC = 0x10
_EVENT_EXEC = 4
_EVENT_STOP = 128
_WALL = 0x40000000  # also those that clone(2) made without SIGCHLD

_BRIEFLY, _SOON, _LATER = 0.02, 0.0002, 0.002  # seconds

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)

_STOPS = frozenset((signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU))


class Ended(Exception):
    """There will be no exec to look at. The text says why."""


def seize(pid: int) -> None:
    """Become the tracer of ``pid``, without stopping it. Raises OSError (EPERM: it may not be)."""
    _call(_SEIZE, pid, _O_TRACEEXEC)


def detach(pid: int) -> None:
    """Let the stopped ``pid`` go. Raises OSError."""
    _call(_DETACH, pid, 0)


def wait_for_exec(pid: int, seconds: float) -> None:
    """Return when ``pid`` stands at the end of an exec. Signals reach it as usual meanwhile. Raises Ended.

    It asks again and again, from 5,000 times a second down to 500: a waitpid(2) that blocks is never woken when another
    thread of the process executes and takes over its number (the kernel compares the numbers after it exchanged them).
    """
    began = time.monotonic()
    while True:
        try:
            stopped, status = os.waitpid(pid, _WALL | os.WNOHANG)
        except ChildProcessError:
            raise Ended("it is no longer the process that was seized") from None
        if not stopped:
            waited = time.monotonic() - began
            if waited > seconds:
                raise Ended(f"not within {seconds:g} seconds")
            time.sleep(_SOON if waited < _BRIEFLY else _LATER)
            continue
        if os.WIFEXITED(status):
            raise Ended(f"it ended with exit code {os.WEXITSTATUS(status)}")
        if os.WIFSIGNALED(status):
            raise Ended(f"it was ended by signal {os.WTERMSIG(status)}")
        event, number = status >> 16, os.WSTOPSIG(status)
        if event == _EVENT_EXEC:
            return
        try:
            if event == _EVENT_STOP and number in _STOPS:
                _call(_LISTEN, pid, 0)  # it is stopped as by Ctrl-Z, and stays so until it is continued
            else:
                _call(_CONT, pid, 0 if event else number)
        except ProcessLookupError:  # it was killed just now: the next wait says so
            continue


def _call(request: int, pid: int, data: int) -> None:
    if _ptrace(request, pid, None, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

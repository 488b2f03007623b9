"""How a daemon is told to end: SIGTERM, SIGINT from a terminal, or SIGHUP when that terminal is closed.

A SIGHUP that was ignored when the daemon started stays ignored: ``nohup`` asked for that. Nothing is read anew by a
SIGHUP; the policy is read when it changes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def watch_stop(loop: asyncio.AbstractEventLoop, tell: Callable[[str], object]) -> None:
    """Have ``tell`` called in ``loop`` with the signal's name, each time one comes."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, tell, signal.Signals(number).name)

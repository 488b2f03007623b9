"""How a daemon is told to end: SIGTERM, or SIGINT from a terminal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def watch_stop(loop: asyncio.AbstractEventLoop, tell: Callable[[str], object]) -> None:
    """Have ``tell`` called in ``loop`` with the signal's name, each time one comes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, signal.Signals(number).name)

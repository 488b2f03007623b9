"""When the vault locks itself, and how long somebody who guesses must wait. Pure: the time comes in from outside.

Times are seconds of a clock that also runs while the machine sleeps (CLOCK_BOOTTIME): a laptop that was closed over
night is locked when it is opened, whatever told the daemon of it.
"""

from __future__ import annotations

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0


class Backoff:
    """After each wrong answer the next one must wait: 0.1 s, then twice as long each time, at most 10 s.

    For all who guess together: a new connection is no new start. A right answer ends it.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._free_at = 0.0

    @property
    def failures(self) -> int:
        """Wrong answers since the last right one."""
        return self._failures

    def pause(self, now: float) -> float:
        """Seconds until the next answer may be looked at."""
        return max(0.0, self._free_at - now)

    def failed(self, now: float) -> None:
        """An answer was wrong."""
        self._free_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 20))
        self._failures += 1

    def succeeded(self) -> None:
        """An answer was right."""
        self._failures, self._free_at = 0, 0.0


class Timers:
    """``idle`` seconds without use, and ``absolute`` seconds since it was opened; 0 means never."""

    def __init__(self, idle: float, absolute: float) -> None:
        self._idle = idle
        self._absolute = absolute
        self._opened = 0.0
        self._used = 0.0

    @property
    def resolution(self) -> float:
        """How often to look, in seconds: a quarter of the shorter time, at most 1."""
        return min([1.0, *(seconds / 4 for seconds in (self._idle, self._absolute) if seconds)])

    def opened(self, now: float) -> None:
        """It was opened."""
        self._opened = self._used = now

    def used(self, now: float) -> None:
        """Somebody used a secret."""
        self._used = now

    def expired(self, now: float) -> str:
        """Why it must be locked now, empty if it need not."""
        if self._idle and now - self._used >= self._idle:
            return f"not used for {self._idle:g} s"
        if self._absolute and now - self._opened >= self._absolute:
            return f"open for {self._absolute:g} s"
        return ""

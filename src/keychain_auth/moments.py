"""Moments and lengths of time, as they stand in files, logs and answers.

A moment is UTC, in whole seconds, and of one width, so that text order is time order.

Pure: no clock is read here.
"""

from __future__ import annotations

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def stamp(moment: datetime) -> str:
    """``2026-05-21T12:00:00Z``. ``moment`` has a time zone."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def stamp_of(seconds: float) -> str:
    """The same of seconds since the epoch."""
    return stamp(datetime.fromtimestamp(seconds, UTC))


def moment_of(text: str) -> float:
    """Seconds since the epoch of a stamp. Raises ValueError."""
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC).timestamp()


def seconds_in(text: str, most: int) -> int:
    """The seconds of ``90s``, ``10m``, ``8h``, ``7d`` or several of them (``1h30m``): 1 to ``most`` or ValueError."""
    total, digits = 0, ""
    for char in text:
        if char.isascii() and char.isdigit():
            digits += char
        elif char in _UNITS and digits:
            total += int(digits) * _UNITS[char]
            digits = ""
        else:
            raise ValueError(text)
    if digits or not 1 <= total <= most:
        raise ValueError(text)
    return total


def span(seconds: float) -> str:
    """A length of time in its two largest units: ``9m 30s``."""
    rest, words = max(1, round(seconds)), []
    for unit, size in _UNITS.items():
        if rest >= size:
            words.append(f"{rest // size}{unit}")
            rest %= size
    return " ".join(words[:2])

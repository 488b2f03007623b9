"""How long values of a service last, by the word of daemon.toml. Pure.

Contract: a key is the name of a service or a pattern, as in routes (``keychain.routes``). A lifetime is a whole number
and a unit: ``90s``, ``30m``, ``12h``, ``7d``; one second to ten years. What no key fits lasts until it is removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from keychain_auth.keychain.routes import Routes

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LIFETIME = re.compile(r"([0-9]{1,9})([smhd])")
_LONGEST = 3650 * 86400


class Lifetimes:
    """``table``: from names and patterns of services to lifetimes. Raises ValueError."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._routes = Routes("", table)
        self._seconds = {word: seconds(word) for word in table.values()}

    def of(self, service: str) -> int | None:
        """In seconds; None: for ever."""
        return self._seconds.get(self._routes.find(service))


def seconds(lifetime: str) -> int:
    """What the word says. Raises ValueError."""
    match = _LIFETIME.fullmatch(lifetime)
    found = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= found <= _LONGEST:
        raise ValueError(f"{lifetime!r} is no lifetime: 90s, 30m, 12h, 7d; one second to ten years")
    return found

"""How long values of a service last, by the word of daemon.toml. Pure.

Contract: a key is the name of a service or a pattern, as in routes (``keychain.routes``). A lifetime is whole
numbers with units: ``90s``, ``30m``, ``12h``, ``1d12h``; one second to ten years. What no key
fits lasts until it is removed.
"""

from __future__ import annotations

from collections.abc import Mapping

from keychain_auth.keychain.routes import Routes
from keychain_auth.moments import seconds_in

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
    try:
        return seconds_in(lifetime, _LONGEST)
    except ValueError:
        raise ValueError(f"{lifetime!r} is no lifetime: 90s, 30m, 12h, 7d; one second to ten years") from None

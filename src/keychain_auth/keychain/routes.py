"""Which keychain a service lies in. Pure.

Contract:
* A route's key is the name of a service, or a pattern: ``*`` any characters (none too), ``?`` one character, ``[abc]``
  and ``[a-z]`` one of these, ``[!abc]`` one of no such. Upper and lower case differ. A key is taken for a name first:
  the service ``[a]`` can be routed.
* A name goes before every pattern; of patterns the first that fits counts, in the order of the file. What none fits
  lies in the default keychain.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping

_REMEMBERED = 1024  # services looked up; clients choose them only as far as the policy grants them


class Routes:
    """``table``: from names and patterns of services to names of keychains."""

    def __init__(self, default: str, table: Mapping[str, str]) -> None:
        self.default = default
        self.table = dict(table)
        self._patterns: list[tuple[Callable[[str], object], str]] = [
            (re.compile(fnmatch.translate(key)).match, keychain)
            for key, keychain in table.items()
            if any(char in key for char in "*?[")
        ]
        self._known: dict[str, str] = {}

    def find(self, service: str) -> str:
        """The name of the keychain that ``service`` lies in."""
        name = self._known.get(service)
        if name is None:
            name = self._look_up(service)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[service] = name
        return name

    def used(self) -> list[str]:
        """The keychains that a service can lie in: the default one first, then by name."""
        return [self.default, *sorted(set(self.table.values()) - {self.default})]

    def _look_up(self, service: str) -> str:
        if service in self.table:
            return self.table[service]
        for fits, keychain in self._patterns:
            if fits(service):
                return keychain
        return self.default

"""How much one answer may gather: a thousand values of 256 KiB would be a quarter of a gigabyte in memory.

Counted are names, values and attributes in UTF-8, before JSON escapes any of it. What is found to be too much is not
gathered any further, so at most one value more than the limit is in memory. One item alone is never too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keychain_auth.errors import AnswerExceedsLimit
from keychain_auth.model import Item

ANSWER_BYTES = 8 * 1024 * 1024


class Budget:
    """For one answer of at most ``most`` bytes; ``left``: how many of them nobody has taken yet."""

    __slots__ = ("_most", "left")

    def __init__(self, most: int) -> None:
        self._most = most
        self.left = most

    def take(self, size: int, target: str, attributes: Mapping[str, str] | None) -> None:
        """One item more, whose value has ``size`` bytes. Raises AnswerExceedsLimit."""
        # ASCII by far the most often, and a call for it costs as much as opening the value.
        self.left -= size + (len(target) if target.isascii() else _length((target,)))
        if attributes:
            self.left -= _length(attributes) + _length(attributes.values())
        if self.left < 0:
            raise AnswerExceedsLimit(
                f"the answer would have more than {self._most} bytes", hint="ask for fewer targets, or a longer prefix"
            )

    def spend(self, found: Sequence[Item]) -> None:
        """The last of ``found``, which is new. One alone is never too much, so the first counts with the second."""
        for item in found[-2:] if len(found) == 2 else found[-1:] if len(found) > 2 else ():
            self.take(len((item.value or "").encode()), item.target, item.attributes)


def _length(texts: Iterable[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in texts)

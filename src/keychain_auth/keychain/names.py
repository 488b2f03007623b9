"""Which names a keychain takes, whatever storage is behind it.

Contract: service, targets, and names and values of attributes are text that UTF-8 can hold, without NUL. C libraries,
D-Bus and many a database end a text there: ``a`` and ``a\\0b`` must never become one name. The wire refuses all control
characters long before; this is for everybody else who calls a keychain. No error raised here shows a value or a name.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable, Mapping

from keychain_auth.errors import KeychainError
from keychain_auth.limits import LONGEST_SERVICE, LONGEST_TARGET


def require_names(service: str, targets: Iterable[str], attributes: Mapping[str, str]) -> None:
    """Raises KeychainError if one of these cannot be a name."""
    problem = _problem([service, *targets, *attributes, *attributes.values()])
    if problem:  # raised here, not where it was seen: UnicodeEncodeError would carry the text along
        raise KeychainError(f"cannot use a name that holds {problem}")


def can_be_asked_for(service: str, target: str) -> bool:
    """Can the protocol carry these names? For storages that other programs fill too."""
    return _is_name(service, LONGEST_SERVICE) and _is_name(target, LONGEST_TARGET)


def encoded(values: Iterable[str]) -> list[bytes]:
    """``values`` as UTF-8. Raises KeychainError, which holds nothing of them."""
    with contextlib.suppress(UnicodeEncodeError):
        return list(map(str.encode, values))
    raise KeychainError("cannot store text that is not valid Unicode (a lone surrogate)")


def _problem(names: Iterable[str]) -> str:
    text = "".join(names)
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        # Two halves of a pair at the seam of two names stay two surrogates in Python: joining mends nothing.
        return "a lone surrogate"
    return ""


def _is_name(text: str, longest: int) -> bool:
    if not 1 <= len(text) <= longest:
        return False
    return text.isprintable() or not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)

"""``keychain://SERVICE/TARGET``: a secret's name where a value could stand, and the values of many at once.

Contract:
* The service ends at the first ``/``; what follows is the target, further slashes included. Any character may be
  written as ``%XX`` (RFC 3986, section 2.1, of its UTF-8); ``/`` in a service, ``%``, ``?`` and ``#`` have to be.
* ``fetch`` returns all of the values or none: what does not exist is listed whole, and nothing is given.
* No error holds a value.

Only the standard library's light parts: this is part of the start of every command that ``run`` starts.
"""

from __future__ import annotations

from keychain_auth.client import admin
from keychain_auth.errors import NotFound, UsageError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEME = "keychain://"
_HEX = frozenset("0123456789abcdefABCDEF")
Reference = tuple[str, str]
"""Service and target."""


def parse(text: str) -> Reference:
    """Service and target of a text that begins with ``keychain://``. Raises UsageError."""
    service, slash, target = text.removeprefix(SCHEME).partition("/")
    if not slash or not service or not target:
        raise UsageError(f"{text} names no secret: {SCHEME}SERVICE/TARGET is wanted")
    return _decoded(service, text), _decoded(target, text)


def compose(service: str, target: str) -> str:
    """The reference to a secret; ``parse`` gives the same two back."""
    return f"{SCHEME}{_encoded(service, '/%?#')}/{_encoded(target, '%?#')}"


def fetch(
    wanted: Mapping[str, Reference],
    *,
    socket: str | None = None,
    reason: str = "",
    undone: str = "nothing was started",
) -> dict[str, str]:
    """The values of ``wanted`` (a name for each, as a person knows it), by the same names, in one batch.

    ``reason`` goes on record, with the names. ``undone``: what did not happen if one is missing. Asks the daemon as
    ``admin.ask`` does and raises the same errors; NotFound, which lists all that do not exist.
    """
    if not wanted:
        return {}
    found = admin.ask("get-many", socket=socket, wanted=_by_service(wanted.values()), reason=reason)
    missing = {(service, target) for service, targets in found["missing"].items() for target in targets}
    if missing:
        lacking = sorted(name for name, reference in wanted.items() if reference in missing)
        raise NotFound(
            f"{undone}: {_listed(wanted, lacking)}",
            hint=f"keychain-auth set {' '.join(map(quoted, wanted[lacking[0]]))}",
        )
    values = found["values"]
    return {name: values[service][target] for name, (service, target) in wanted.items()}


def _by_service(references: Iterable[Reference]) -> dict[str, list[str]]:
    services: dict[str, dict[str, None]] = {}
    for service, target in references:
        services.setdefault(service, {})[target] = None
    return {service: list(targets) for service, targets in services.items()}


def _listed(wanted: Mapping[str, Reference], names: list[str]) -> str:
    whole = {name: compose(*wanted[name]) for name in names}
    told = [name if name == reference else f"{name} ({reference})" for name, reference in whole.items()]
    return f"there is no secret for {', '.join(told)}"


def _decoded(part: str, whole: str) -> str:
    if "?" in part or "#" in part:
        raise UsageError(f"{whole}: ? and # are written as %3F and %23")
    if "%" not in part:
        return part
    pieces = part.split("%")
    out = bytearray(pieces[0].encode("utf-8", "surrogateescape"))
    for piece in pieces[1:]:
        if len(piece) < 2 or not _HEX.issuperset(piece[:2]):
            raise UsageError(f"{whole}: % is followed by two hex digits (%25 for itself)")
        out.append(int(piece[:2], 16))
        out += piece[2:].encode("utf-8", "surrogateescape")
    try:
        return out.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{whole}: what its %XX spell is not UTF-8") from None


def _encoded(part: str, reserved: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in reserved else char for char in part)

"""What one line of the audit log says, and how it becomes bytes.

Contract (protocol, section "audit.log"):
* Every line has the names ``timestamp``, ``action``, ``pid``, ``binary_path``, ``binary_hash``,
  ``service``, ``targets``, ``result`` and ``reason``, in this order, null or empty where nothing
  applies. The fields of our own follow only where they say something.
* There is no field that could hold a secret's value.
* A line is printable ASCII (0x20 to 0x7E) and nothing else. Whatever a client chose as a name, one
  record is one line, and showing it raw on a terminal moves no cursor and reverses no text: control
  characters, bidi overrides, U+2028 and every other character beyond ASCII stand there as ``\\uXXXX``.
  Any JSON parser gives the original back.

What it does not promise: that a name is honest. A program that decodes a line and prints the name must
escape it again.

This module is pure: the time comes in from outside.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from keychain_auth.errors import AuditError

Result = Literal["GRANTED", "DENIED", "ERROR"]

_NANOSECONDS = 1_000_000_000
_NEVER = -(10**30)


class AuditRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One thing that was asked for and what became of it.

    The first eight fields are required, so that nobody forgets one; None or "" where nothing applies.
    The log adds ``timestamp``, ``seq`` and ``chain`` itself.

    ``targets``: for search, prefix reads and prefix deletes what was returned or removed, else what was
    asked for. ``script_path`` and ``script_hash``: the script that an interpreter ran. ``on_behalf_of``: the
    path of who stands behind a helper, where its entry asks. ``detail``: one sentence for the person who
    reads the log. ``count``: this line stands for so many refusals that have no line of their own (see
    ``coalesce``). ``previous`` and ``oldest`` belong to the log's own lines (see ``chain``). ``stale``: it was
    answered from what the keychain said at most ``age_seconds`` before, because it did not answer.
    """

    action: str
    pid: int | None
    binary_path: str | None
    binary_hash: str | None
    service: str | None
    targets: Sequence[str]
    result: Result
    reason: str | None
    uid: int | None = None
    script_path: str | None = None
    script_hash: str | None = None
    on_behalf_of: str | None = None
    detail: str | None = None
    count: int | None = None
    stale: bool | None = None
    age_seconds: float | None = None
    previous: str | None = None
    oldest: int | None = None


def administrative(
    action: str,
    *,
    result: Result = "GRANTED",
    reason: str | None = None,
    detail: str | None = None,
    previous: str | None = None,
    oldest: int | None = None,
) -> AuditRecord:
    """A record of something that no client asked for: the log's or the daemon's own doing."""
    return AuditRecord(
        action=action,
        pid=None,
        binary_path=None,
        binary_hash=None,
        service=None,
        targets=(),
        result=result,
        reason=reason,
        detail=detail,
        previous=previous,
        oldest=oldest,
    )


_encode = msgspec.json.Encoder().encode


def encode(record: AuditRecord) -> bytes:
    """The record as one JSON object of printable ASCII, without its timestamp.

    msgspec escapes what JSON demands (below 0x20, quote, backslash) and leaves the rest as it is, so the
    common line needs only a look. The rare line with DEL, anything beyond ASCII, or a lone surrogate
    (a file name that is no UTF-8) takes the slow way through ``json``, which escapes all of it.

    Raises AuditError if a field cannot be written as JSON.
    """
    try:
        line = _encode(record)
    except UnicodeEncodeError:
        return _encode_odd(record)
    except (TypeError, ValueError, OverflowError) as error:
        raise AuditError(f"the audit record cannot be encoded: {error}") from None
    if line.isascii() and line.find(b"\x7f") < 0:  # not "in": on bytes it makes and drops an exception
        return line
    return _encode_odd(record)


def _encode_odd(record: AuditRecord) -> bytes:
    fields = {
        name: value for name, value in msgspec.structs.asdict(record).items() if value is not None or name in _ALWAYS
    }
    fields["targets"] = list(record.targets)
    text = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    # DEL is ASCII, so json leaves it. It can stand only inside a string, where the escape means the same.
    return text.replace("\x7f", "\\u007f").encode("ascii")


_ALWAYS = frozenset(field.name for field in msgspec.structs.fields(AuditRecord) if field.default is msgspec.NODEFAULT)


def decode(line: bytes) -> dict[str, object] | None:
    """The JSON object of one line, of the log's or of anybody's; None if it is none.

    msgspec is several times faster but refuses the lone surrogates of a file name that is no UTF-8.
    """
    try:
        fields = msgspec.json.decode(line)
    except ValueError:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return None
    except RecursionError:
        return None
    return fields if isinstance(fields, dict) else None


def stamper() -> Callable[[int], bytes]:
    """A function from nanoseconds since 1970 to ``2026-05-21T12:00:00.000000Z`` as ASCII bytes.

    It formats each second once: a full format costs more than the rest of the line.
    """
    second_began = _NEVER
    formatted = b""

    def stamp(nanoseconds: int) -> bytes:
        nonlocal second_began, formatted
        rest = nanoseconds - second_began
        if not 0 <= rest < _NANOSECONDS:
            second, rest = divmod(nanoseconds, _NANOSECONDS)
            second_began = nanoseconds - rest
            formatted = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode("ascii")
        return b"%b.%06dZ" % (formatted, rest // 1000)

    return stamp

"""Bytes of one line to a Request, a Response to bytes: strict in, exact out.

Contract (protocol, sections "Requests", "Responses", "Limits"):
* ``decode_request`` returns a Request or raises Malformed, whatever the bytes are.
* Refused: unknown fields, duplicate keys, wrong types, bad UTF-8, lone surrogates, a byte order mark, control
  characters in names, trailing data, and every rule that binds fields to each other.
* Malformed says what was wrong, for the daemon's log; the client gets the reason code only.

The work is msgspec's, which is strict about types and UTF-8 but takes the last of duplicate keys. Two
parsers that disagree about which one counts are how requests get smuggled, so duplicates are found by
counting: in a line without a backslash every string costs exactly two quotation marks, so the number of
marks is known from what was parsed, and one more means that something was dropped. A line with a backslash
is read a second time, slowly, by the standard library.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Literal

import msgspec

from keychain_auth.limits import LONGEST_WAIT
from keychain_auth.model import Action, Item, Match, Request
from keychain_auth.reasons import DENIED, FAILED
from keychain_auth.wire.messages import Limits


class Malformed(Exception):
    """A line that is not a request. The text is for the log and never quotes a value.

    ``foreign``: the line begins another protocol, in which somebody else may have put the lines that follow.
    """

    foreign = False


class _WireRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["REQUEST"]
    action: Action
    service: str
    match: Match | msgspec.UnsetType = msgspec.UNSET
    targets: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    values: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    attributes: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    wait: int | msgspec.UnsetType = msgspec.UNSET


class _PlainRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """As a Request may look on the wire, if nobody has to know which fields were left out."""

    type: Literal["REQUEST"]
    wait: int = 0


_decode_plain = msgspec.json.Decoder(_PlainRequest).decode
_decode = msgspec.json.Decoder(_WireRequest).decode
_encode = msgspec.json.Encoder().encode

_RESULTS = b'{"type":"RESPONSE","status":"success","results":'
_SUCCESS_WITHOUT_RESULTS = b'{"type":"RESPONSE","status":"success"}\n'


# Numbers: looking for bytes in bytes makes and drops an exception first, and a call costs more than the look.
_BACKSLASH, _DEL = b"\\\x7f"

# RFC 9112, section 3: the first line of a request. Programs that can be told to speak HTTP to a Unix socket (curl,
# clients of Docker) would else lend their name to whoever wrote the body: its lines could be requests of ours.
_HTTP = re.compile(rb"[A-Z]+ \S+ HTTP/[0-9.]+\r?")


def decode_request(line: bytes, limits: Limits) -> Request:
    """The request that ``line`` (without its newline) holds. Raises Malformed for everything else."""
    try:
        request = _decode_plain(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        malformed = Malformed(_describe(error))
        malformed.foreign = _HTTP.fullmatch(line) is not None
        raise malformed from None
    # Nearly every request is an exact read in ASCII with no field but the four that it needs: then this many quotation
    # marks (see above) are theirs, control characters would stand there as they are (JSON has none in strings, but for
    # DEL), and lengths are all that is left to look at: no text of a line is longer than the line.
    targets = request.targets
    size = len(line)
    if (
        request.action == "read"
        and line.count(b'"') == 14 + 2 * len(targets)
        and line.isascii()
        and _BACKSLASH not in line
        and _DEL not in line
        and targets
        and (size <= limits.targets or len(targets) <= limits.targets)
        and request.service
        and (size <= limits.service_chars or len(request.service) <= limits.service_chars)
        and "" not in targets
        and (size <= limits.target_chars or max(map(len, targets)) <= limits.target_chars)
    ):
        return request
    # A write has five fields that it needs, with as many strings. As many marks as that are no field more, and no key
    # twice; and to read a line of 1 MiB once more, to see which fields it has, would be a third of all work with it.
    if request.action == "write" and line.count(b'"') == 16 + 4 * len(targets) and len(request.values) == len(targets):
        _check_fields(request, "exact", targets, {}, limits)
        return request
    return _any_request(line, _decode(line), limits)


def wait_of(line: bytes) -> int:
    """For how many seconds a well-formed request would wait for a person's approval; 0 if it does not ask to."""
    wait = _decode(line).wait
    return 0 if wait is msgspec.UNSET else wait


def _any_request(line: bytes, wire: _WireRequest, limits: Limits) -> Request:
    _refuse_duplicate_keys(line, wire)
    if wire.wait is not msgspec.UNSET and not 1 <= wire.wait <= LONGEST_WAIT:
        raise Malformed(f"wait is {wire.wait}, allowed are 1 to {LONGEST_WAIT} seconds")
    match = "exact" if wire.match is msgspec.UNSET else wire.match
    targets = () if wire.targets is msgspec.UNSET else wire.targets
    attributes = {} if wire.attributes is msgspec.UNSET else wire.attributes
    _check_fields(wire, match, targets, attributes, limits)
    values = () if wire.values is msgspec.UNSET else wire.values
    return Request(wire.action, wire.service, match, targets, values, attributes)


def _check_fields(
    wire: _WireRequest | _PlainRequest,
    match: Match,
    targets: tuple[str, ...],
    attributes: dict[str, str],
    limits: Limits,
) -> None:
    _check_name("service", wire.service, limits.service_chars)
    if len(targets) > limits.targets:
        raise Malformed(f"more than {limits.targets} targets")
    longest = limits.target_chars
    if not ("" not in targets and all(map(str.isprintable, targets)) and max(map(len, targets), default=0) <= longest):
        for target in targets:
            _check_name("target", target, longest)
    for key in attributes:
        _check_name("attribute name", key, limits.target_chars)
    _RULES[wire.action](wire, match, targets, limits)


def encode_results(items: list[Item]) -> bytes:
    """The line of a successful read or search; absent values and attributes are left out."""
    return _RESULTS + _encode(items) + b"}\n"


def encode_items(items: list[Item]) -> bytes:
    """A part of the results of a long answer, for ``join_results``."""
    return _encode(items)[1:-1]


def join_results(parts: list[bytes]) -> bytes:
    """The line that ``encode_results`` makes of all the items whose parts these are; none is empty."""
    return b"".join((_RESULTS, b"[", b",".join(parts), b"]}\n"))


def encode_done() -> bytes:
    """The line of a successful write, delete or check."""
    return _SUCCESS_WITHOUT_RESULTS


def encode_reason(reason: str) -> bytes:
    """The line of a request that was denied or failed. Raises KeyError for a reason that does not exist."""
    return _REASON_LINES[reason]


def _reason_line(status: str, reason: str) -> bytes:
    return b'{"type":"RESPONSE","status":"%s","reason":"%s"}\n' % (status.encode(), reason.encode())


_REASON_LINES = {reason: _reason_line("denied", reason) for reason in DENIED} | {
    reason: _reason_line("error", reason) for reason in FAILED
}


# --- rules that bind fields to each other -----------------------------------------------------


def _write_rules(wire: _WireRequest | _PlainRequest, match: str, targets: tuple[str, ...], limits: Limits) -> None:
    _need_targets(targets)
    if match == "prefix":
        raise Malformed("a write is always exact")
    if wire.values is msgspec.UNSET or len(wire.values) != len(targets):
        raise Malformed("a write needs as many values as targets")
    if len(set(targets)) != len(targets):
        raise Malformed("a write names a target twice")
    # A character is at most four bytes in UTF-8: most values are settled without encoding them.
    longest = limits.value_bytes
    if max(map(len, wire.values)) * 4 > longest and any(len(value.encode()) > longest for value in wire.values):
        raise Malformed(f"a value is longer than {longest} bytes")
    if wire.attributes is not msgspec.UNSET:
        # They are stored with each target: a line of 1 MiB could else become a thousand times as much.
        size = sum(len(name.encode()) + len(text.encode()) for name, text in wire.attributes.items())
        if size * len(targets) > limits.attribute_bytes:
            raise Malformed(f"attributes, once for each target, are longer than {limits.attribute_bytes} bytes")


def _read_rules(wire: _WireRequest | _PlainRequest, match: str, targets: tuple[str, ...], limits: Limits) -> None:
    _need_targets(targets)
    _no_values(wire)


def _search_rules(wire: _WireRequest | _PlainRequest, match: str, targets: tuple[str, ...], limits: Limits) -> None:
    _no_values(wire)


def _check_rules(wire: _WireRequest | _PlainRequest, match: str, targets: tuple[str, ...], limits: Limits) -> None:
    _no_values(wire)
    if match == "prefix" or wire.attributes is not msgspec.UNSET:
        raise Malformed("a check takes neither a prefix match nor attributes")


def _need_targets(targets: tuple[str, ...]) -> None:
    if not targets:
        raise Malformed("targets are missing or empty")


def _no_values(wire: _WireRequest | _PlainRequest) -> None:
    if wire.values is not msgspec.UNSET:
        raise Malformed("only a write takes values")


_RULES = {
    "read": _read_rules,
    "write": _write_rules,
    "delete": _read_rules,
    "search": _search_rules,
    "check": _check_rules,
}


def _check_name(what: str, name: str, longest: int) -> None:
    if not 1 <= len(name) <= longest:
        raise Malformed(f"a {what} has {len(name)} characters, allowed are 1 to {longest}")
    # isprintable() is one C call and true for nearly every name; only then look at each character.
    if not name.isprintable() and any(unicodedata.category(char) == "Cc" for char in name):
        raise Malformed(f"a {what} holds a control character")


def _refuse_duplicate_keys(line: bytes, wire: _WireRequest) -> None:
    if _BACKSLASH in line:
        json.loads(line, object_pairs_hook=_unique_pairs)
        return
    strings = 6  # type, action and service: three keys, three values
    if wire.match is not msgspec.UNSET:
        strings += 2
    if wire.targets is not msgspec.UNSET:
        strings += 1 + len(wire.targets)
    if wire.values is not msgspec.UNSET:
        strings += 1 + len(wire.values)
    if wire.attributes is not msgspec.UNSET:
        strings += 1 + 2 * len(wire.attributes)
    if wire.wait is not msgspec.UNSET:
        strings += 1
    if line.count(b'"') != 2 * strings:
        raise Malformed("a key stands twice in one object")


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise Malformed("a key stands twice in one object")
    return unique


def _describe(error: Exception) -> str:
    """What was wrong, without the bytes: msgspec quotes unknown field names, never values."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error)

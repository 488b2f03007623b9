"""The chain that ties the lines of the audit log together, and the head that remembers its end.

Contract:
* A line is ``{"timestamp":…,<record>,"seq":N,"chain":"<32 hex digits>"}`` and a newline.
* ``chain`` = BLAKE2b, 16 bytes, keyed with the audit key, over the 16 bytes of the line before followed
  by the exact bytes of this line up to, not including, ``,"chain":``. The verifier compares bytes;
  nothing needs to be parsed, sorted or normalised first.
* Before the first line ever stand ``GENESIS`` and sequence number 0.
* A line of the log's own may say ``previous``: the chain it was built on. So the oldest file that is still
  there can be checked without the one before it, and a gap shows what should stand in it.
* The head is a small object with the last sequence number and chain that are known to be on disk, and
  a MAC under the same key. Its ``person`` differs from the lines' (none), so neither passes for the other.

What it does not promise: anything against somebody who has the key, and nothing about a log *and* head
that were both put back to an older state together; only a running daemon, or a copy elsewhere, knows more.

This module is pure.
"""

from __future__ import annotations

import hmac
from binascii import hexlify
from collections.abc import Callable, Iterable
from hashlib import blake2b

import msgspec

KEY_SIZE = 32
CHAIN_SIZE = 16
GENESIS = bytes(CHAIN_SIZE)

_MARK = b',"chain":"'
_END = b'"}\n'
_SUFFIX = len(_MARK) + 2 * CHAIN_SIZE + len(_END)
_HEX_DIGITS = frozenset(b"0123456789abcdef")
_MAX_SEQ_DIGITS = 18

Link = Callable[[bytes, bytes], bytes]
"""(chain of the line before, bytes of this line) -> chain of this line."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in the chain: the sequence number of a line and its 16 chain bytes."""

    seq: int
    chain: bytes


START = Position(0, GENESIS)


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A line taken apart: ``text`` is what the chain covers, the rest is what the line claims."""

    text: bytes
    seq: int
    chain: bytes


def linker(key: bytes) -> Link:
    """The chain function under ``key`` (32 bytes). Raises ValueError for any other length.

    The keyed state is built once and copied: half the cost of keying anew for each line.
    """
    if len(key) != KEY_SIZE:
        raise ValueError(f"the audit key must be {KEY_SIZE} bytes, not {len(key)}")
    keyed = blake2b(key=key, digest_size=CHAIN_SIZE)

    copy = keyed.copy

    def link(previous: bytes, text: bytes) -> bytes:
        state = copy()
        state.update(previous + text)  # 16 bytes always: where the text begins is never in doubt
        return state.digest()

    return link


def seal_all(link: Link, stamp: bytes, inners: Iterable[bytes], position: Position) -> tuple[bytes, Position]:
    """The finished lines that follow ``position``, and the position of the last.

    ``inners``: each a JSON object without its braces. One loop for all, because that is half of what a line costs.
    """
    head = b'{"timestamp":"%b",' % stamp
    seq, chain = position.seq, position.chain
    parts: list[bytes] = []
    for inner in inners:
        seq += 1
        text = b'%b%b,"seq":%d' % (head, inner, seq)
        chain = link(chain, text)
        parts += text, _MARK, hexlify(chain), _END
    return b"".join(parts), Position(seq, chain)


def unseal(line: bytes) -> Sealed | None:
    """Take a line with its newline apart; None if it does not have the shape of one.

    Inside a JSON string every quote is escaped, so the raw bytes ``,"seq":`` cannot come from a name that a
    client chose: the last ones in the line are the log's own.
    """
    text, suffix = line[:-_SUFFIX], line[-_SUFFIX:]
    digits = suffix[len(_MARK) : -len(_END)]
    if not (suffix.startswith(_MARK) and suffix.endswith(_END) and _HEX_DIGITS.issuperset(digits)):
        return None
    _, found, number = text.rpartition(b',"seq":')
    if not found or not number.isdigit() or len(number) > _MAX_SEQ_DIGITS:
        return None
    return Sealed(text, int(number), bytes.fromhex(digits.decode("ascii")))


class Origin(msgspec.Struct, frozen=True, gc=False):
    """What a line says about its own place; believe it only after its chain has been checked."""

    action: str
    reason: str
    detail: str
    previous: bytes | None
    oldest: int | None


class _OriginFields(msgspec.Struct, frozen=True, gc=False):
    action: str
    reason: str | None = None
    detail: str | None = None
    previous: str | None = None
    oldest: int | None = None


def origin(line: bytes) -> Origin | None:
    """The fields of the log's own lines; None if ``line`` cannot be read as one."""
    try:
        said = msgspec.json.decode(line, type=_OriginFields)
        previous = None if said.previous is None else bytes.fromhex(said.previous)
    except ValueError:  # DecodeError and ValidationError are ValueErrors
        return None
    return Origin(said.action, said.reason or "", said.detail or "", previous, said.oldest)


# --- the head -----------------------------------------------------------------------------------


def seal_head(key: bytes, position: Position) -> bytes:
    """The content of ``audit.head``."""
    body = b'{"seq":%d,"chain":"%b"' % (position.seq, position.chain.hex().encode("ascii"))
    return b'%b,"mac":"%b"}\n' % (body, _head_mac(key, body).encode("ascii"))


def unseal_head(key: bytes, content: bytes) -> Position | None:
    """What the head says, or None if it was not written under this key (or is damaged)."""
    body, found, rest = content.partition(b',"mac":"')
    if not found or not hmac.compare_digest(rest, _head_mac(key, body).encode("ascii") + b'"}\n'):
        return None
    head = msgspec.json.decode(body + b"}", type=_HeadFields)
    return Position(head.seq, bytes.fromhex(head.chain))


class _HeadFields(msgspec.Struct, frozen=True, gc=False):
    seq: int
    chain: str


def _head_mac(key: bytes, body: bytes) -> str:
    return blake2b(body, key=key, digest_size=CHAIN_SIZE, person=b"audit.head").hexdigest()

"""Where the chain goes on after a restart, and what must be said about the way there.

Contract: ``resume`` is pure. From what the files say (``Found``) it decides the position that the next line
is built on, and which findings go on record before anything else does. The log always starts: a damaged
one is reported, never refused, because a refusal would give whoever can damage it a way to stop
the daemon; and never passed over in silence.

What it does not promise: a check of every line. Only the end is looked at here; ``verify`` reads it all.
"""

from __future__ import annotations

import msgspec

from keychain_auth.audit.chain import START, Link, Position, origin, unseal

LOG_TRUNCATED = "log_truncated"
LOG_ALTERED = "log_altered"
HEAD_MISSING = "head_missing"
HEAD_ALTERED = "head_altered"
TORN_LINE = "torn_line"


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Something that is not as the last run left it: a reason code and a sentence."""

    reason: str
    detail: str


class Head(msgspec.Struct, frozen=True, gc=False):
    """What ``audit.head`` says: ``position`` is None when it is missing or does not authenticate."""

    exists: bool
    position: Position | None


class Tail(msgspec.Struct, frozen=True, gc=False):
    """The end of the log: the position of its last whole line, None if that one does not authenticate."""

    position: Position | None


class Found(msgspec.Struct, frozen=True, gc=False):
    """What lies on the disk. ``size``: bytes of ``audit.log``. ``oldest``: the first sequence number that
    rotation has not let go. ``tail`` is None when there is no whole line in any file."""

    any_file: bool
    size: int
    torn_bytes: int
    oldest: int
    tail: Tail | None
    head: Head


class Resumed(msgspec.Struct, frozen=True, gc=False):
    """The position that the next line is built on, and what goes on record there."""

    position: Position
    findings: tuple[Finding, ...]


def read_tail(link: Link, last: bytes, before: bytes | None) -> Tail:
    """Check the line ``last`` against the line ``before`` it, or against the ``previous`` that it names itself.

    ``before`` is None at the beginning of a file. A claimed ``previous`` needs no trust: without the key nobody
    finds a chain that fits it.
    """
    line = unseal(last)
    if line is None:
        return Tail(None)
    candidates = []
    if before is not None and (one := unseal(before)) is not None:
        candidates.append(one.chain)
    if (named := origin(last)) is not None and named.previous is not None:
        candidates.append(named.previous)
    if any(link(chain, line.text) == line.chain for chain in candidates):
        return Tail(Position(line.seq, line.chain))
    return Tail(None)


def trusting(found: Found, known: Position | None) -> Found:
    """``found``, with ``known`` for its head where the files do not reach it: somebody else remembers more."""
    tail = found.tail.position if found.tail is not None else None
    if known is None or (tail is not None and (tail.seq > known.seq or tail == known)):
        return found
    head = found.head.position
    return (
        found if head is not None and head.seq > known.seq else msgspec.structs.replace(found, head=Head(True, known))
    )


def resume(found: Found) -> Resumed:
    """Decide where the chain goes on."""
    findings: list[Finding] = []
    if found.torn_bytes:
        findings.append(Finding(TORN_LINE, f"{found.torn_bytes} bytes of an unfinished last line were removed"))
    head, tail = found.head, found.tail
    if head.position is None:
        return _without_head(found, findings)
    if tail is None:
        if head.position.seq:
            findings.append(_cut(0, head.position.seq))
        return Resumed(head.position, tuple(findings))
    if tail.position is None:
        findings.append(Finding(LOG_ALTERED, "the last line of the log does not authenticate"))
        return Resumed(head.position, tuple(findings))
    if tail.position.seq > head.position.seq or tail.position == head.position:
        return Resumed(tail.position, tuple(findings))
    if tail.position.seq == head.position.seq:
        findings.append(Finding(LOG_ALTERED, "the last line is not the one that audit.head remembers"))
    else:
        findings.append(_cut(tail.position.seq, head.position.seq))
    return Resumed(head.position, tuple(findings))


def _without_head(found: Found, findings: list[Finding]) -> Resumed:
    if not found.head.exists and not found.any_file:
        return Resumed(START, ())  # the first start ever
    if found.head.exists:
        findings.append(Finding(HEAD_ALTERED, "audit.head does not authenticate: altered, or another key"))
    else:
        findings.append(Finding(HEAD_MISSING, "audit.head is gone: whether lines were cut off is not known"))
    if found.tail is not None and found.tail.position is not None:
        return Resumed(found.tail.position, tuple(findings))
    if found.any_file:
        findings.append(Finding(LOG_ALTERED, "the log does not authenticate: altered, or another key"))
    return Resumed(START, tuple(findings))


def _cut(last_found: int, last_known: int) -> Finding:
    first = last_found + 1
    lines = f"line {first} is" if first == last_known else f"lines {first} to {last_known} are"
    return Finding(LOG_TRUNCATED, f"{lines} missing: the log was cut off while the daemon did not run")

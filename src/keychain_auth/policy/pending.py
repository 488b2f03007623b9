"""Who asked and was not known: the rules of the pending queue. Pure: the clock is an argument.

Contract (protocol, section "Files"): one entry for each program (for a script: for each pair of interpreter and
script), gone after 24 hours, at most 1,000 and 5 MiB kept (names full of control characters would else make 50 MB of
it). Beyond that the oldest goes out, of the user who has most: nobody pushes out another user's while his own are more.
Command lines can carry secrets: they are cut at 4 KiB, and the file that holds them is 0600.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import blake2b

import msgspec

from keychain_auth.errors import quoted
from keychain_auth.model import Identity, Program, Requester
from keychain_auth.moments import span, stamp

KEPT = 1000
KEPT_BYTES = 5 * 1024 * 1024
LIFETIME = timedelta(hours=24)
COMMAND_LINE_BYTES = 4096
ID_DIGITS = 32


class NotAQueue(ValueError):
    """The bytes of pending.json do not say what they must."""


class PendingProgram(msgspec.Struct, frozen=True):
    """The interpreter of a pending script; the hash as everywhere in our files."""

    path: str
    hash: str


class PendingRequest(msgspec.Struct, frozen=True):
    """What somebody asks for: a grant that ends. ``id`` (hex digits) is what a person approves it by, see
    ``approval_id``; ``reason`` are the words of who asks."""

    id: str
    service: str
    targets: list[str]
    seconds: int
    uses: int
    reason: str = ""


class PendingEntry(msgspec.Struct, omit_defaults=True):
    """One program that waits for approval. ``path`` and ``hash`` are what an approval registers.

    ``timestamp`` is the last time it asked, UTC, ISO 8601. ``interpreter`` is set for a script. ``helper``: the program
    is known or not, what waits is that it may stand behind this helper; ``pid`` and ``command_line`` are the helper's.
    ``request``: it also asks that the helper may have something on its behalf.
    """

    path: str
    hash: str
    command_line: str
    timestamp: str
    user: str
    pid: int
    interpreter: PendingProgram | None = None
    helper: PendingProgram | None = None
    request: PendingRequest | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two requests the same request: program, script and helper, by content and place."""
        helper = f"{self.helper.path} {self.helper.hash}" if self.helper else ""
        if self.request is not None:
            helper = f"{helper} {self.request.service} {self.request.targets}"
        interpreter = f"{self.interpreter.path} {self.interpreter.hash}" if self.interpreter else ""
        return (self.path, self.hash, interpreter, helper)

    def programs(self) -> tuple[Program, Program | None]:
        """What an approval registers: the program or script, and the script's interpreter."""
        interpreter = self.interpreter
        return _program(self), _program(interpreter) if interpreter is not None else None


def _program(named: PendingEntry | PendingProgram) -> Program:
    return Program(named.path, named.hash.removeprefix("sha256:"))


def pending_entry(identity: Identity, command_line: str, user: str, now: datetime) -> PendingEntry:
    """The queue entry for an identity that matched nothing."""
    program = identity.program
    interpreter = (
        PendingProgram(_text(program.path), f"sha256:{program.sha256}") if identity.script is not None else None
    )
    return PendingEntry(
        path=_text(identity.subject.path),
        hash=f"sha256:{identity.subject.sha256}",
        command_line=cut(command_line),
        timestamp=stamp(now),
        user=user,
        pid=identity.pid,
        interpreter=interpreter,
    )


def pending_pair(helper: PendingEntry, requester: Requester) -> PendingEntry:
    """The queue entry for a requester that may not stand behind ``helper``, made from the helper's own."""
    interpreter = requester.interpreter
    return msgspec.structs.replace(
        helper,
        path=_text(requester.program.path),
        hash=f"sha256:{requester.program.sha256}",
        interpreter=interpreter and PendingProgram(_text(interpreter.path), f"sha256:{interpreter.sha256}"),
        helper=PendingProgram(helper.path, helper.hash),
    )


def in_words(request: PendingRequest) -> str:
    """What an approval of it grants, for a person; the reason last, which is anybody's words.

    How long and how often comes first, and names are quoted: who asks chooses them, and one may read like all the rest.
    """
    wanted = f"{quoted(request.service)} {', '.join(map(quoted, request.targets))}"
    return f"asks for {span(request.seconds)}, {request.uses} uses of {wanted}: {request.reason}"


def approval_id(entry: PendingEntry) -> str:
    """By what a person approves ``entry``: 32 hex digits, made of all that an approval would write into the policy.

    The queue is a file that any program of the user can write. So what stands under an id when it is approved is what
    stood there when the person looked, or it has another id. 128 bits, because who asks may choose both of two entries.
    """
    asked = entry.request
    content = (entry.path, entry.hash, entry.interpreter, entry.helper)
    wish = None if asked is None else (asked.service, asked.targets, asked.seconds, asked.uses, asked.reason)
    return blake2b(_encode((content, wish)), digest_size=ID_DIGITS // 2).hexdigest()


def merge(queue: Iterable[PendingEntry], fresh: Iterable[PendingEntry], now: datetime) -> list[PendingEntry]:
    """The queue after ``fresh`` requests, the oldest first: one for each key, expired ones gone, at most 1,000 of them
    and 5 MiB."""
    by_key: dict[tuple[str, str, str, str], PendingEntry] = {}
    for entry in (*queue, *fresh):
        by_key.pop(entry.key, None)  # asked again: it moves to the young end
        by_key[entry.key] = entry
    oldest = stamp(now - LIFETIME)
    return _within_bounds([entry for entry in by_key.values() if entry.timestamp > oldest])


def _within_bounds(queue: list[PendingEntry]) -> list[PendingEntry]:
    sizes = [len(_encode(entry)) for entry in queue]
    of_user: dict[str, deque[int]] = {}
    taken: Counter[str] = Counter()
    for at, entry in enumerate(queue):
        of_user.setdefault(entry.user, deque()).append(at)
        taken[entry.user] += sizes[at]
    gone: set[int] = set()
    while len(queue) - len(gone) > KEPT or taken.total() > KEPT_BYTES:
        most = max(of_user, key=lambda user: len(of_user[user]) / KEPT + taken[user] / KEPT_BYTES)
        at = of_user[most].popleft()
        taken[most] -= sizes[at]
        gone.add(at)
    return [entry for at, entry in enumerate(queue) if at not in gone]


def _text(path: str) -> str:
    """A path as JSON can hold it. One that is not UTF-8 is shown with escapes, and so cannot be approved by mistake."""
    return path.encode("utf-8", "backslashreplace").decode()


def cut(command_line: str) -> str:
    """At most 4 KiB of UTF-8, ended at a character."""
    return command_line.encode("utf-8", "replace")[:COMMAND_LINE_BYTES].decode("utf-8", "ignore")


_decode = msgspec.json.Decoder(list[PendingEntry]).decode
_encode = msgspec.json.Encoder().encode


def decode_queue(content: bytes) -> list[PendingEntry]:
    """The queue in the bytes of pending.json. Raises NotAQueue for anything else."""
    try:
        return _decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotAQueue(f"not a pending queue: {error}") from None


def encode_queue(queue: list[PendingEntry]) -> bytes:
    """The bytes of pending.json, readable by people.

    Entry by entry: one call for megabytes would hold the interpreter's lock, and so the event loop, all the while.
    """
    entries = (msgspec.json.format(_encode(entry), indent=2).replace(b"\n", b"\n  ") for entry in queue)
    inside = b",".join(b"\n  " + entry for entry in entries)
    return b"[" + inside + (b"\n]\n" if inside else b"]\n")


def find(queue: list[PendingEntry], wanted: str) -> list[PendingEntry]:
    """The entries whose hash begins with ``wanted`` (hex digits, with or without ``sha256:``); or the one whose whole
    id it is. A request has no hash of its own."""
    digits = wanted.removeprefix("sha256:").lower()
    meant = [entry for entry in queue if len(digits) == ID_DIGITS and approval_id(entry) == digits]
    return meant or [entry for entry in queue if entry.request is None and entry.hash.startswith(f"sha256:{digits}")]

"""Check a whole audit log, and name the first line that does not fit.

Contract:
* ``verify`` reads every file once, oldest first, in constant memory, and changes nothing. It may run beside
  the daemon that writes the log.
* It reports a line that was altered, removed, repeated, moved, or put in without the key; lines cut off at
  the end as far as ``audit.head`` (or ``live_head``, what a running daemon says) knows of them; and
  rotated files that should still be there.
* It stops at the first such line: behind it nothing can be said about the order any more.

What it does not promise: to notice a log that was put back to an older state together with its
``audit.head``. Only ``live_head``, ``marked``, or a copy of the head kept elsewhere, shows that.
"""

from __future__ import annotations

import os

import msgspec

from keychain_auth import files
from keychain_auth.audit import shelf
from keychain_auth.audit.chain import (
    START,
    Link,
    Origin,
    Position,
    Sealed,
    linker,
    origin,
    unseal,
)
from keychain_auth.audit.log import LOG_ROTATE, LOG_START
from keychain_auth.audit.reading import close_all, open_all
from keychain_auth.audit.survey import read_head
from keychain_auth.errors import UnsafeFile

_BEGINS_A_FILE = (LOG_START, LOG_ROTATE)
_OWN = b'"previous":"'  # unescaped quotes: only the log's own lines have this


class Problem(msgspec.Struct, frozen=True):
    """The first thing that does not fit. ``line`` is 1-based, 0 for the file as a whole; ``seq`` is what the
    line claims, or what should stand there, None if neither is known."""

    file: str
    line: int
    seq: int | None
    what: str


class Report(msgspec.Struct, frozen=True):
    """What ``verify`` found. ``lines`` is how many fit, up to the problem if there is one."""

    ok: bool
    files: int
    lines: int
    first_problem: Problem | None
    warnings: list[str]


def verify(
    path: str, key: bytes, *, live_head: tuple[int, str] | None = None, marked: Position | None = None
) -> Report:
    """Verify the log ``path`` under the audit ``key`` (32 bytes).

    ``live_head``: ``AuditLog.head`` of a running daemon, asked for before this call. ``marked``: a line that the vault
    remembers.
    Raises AuditError or UnsafeFile if a file cannot be read, ValueError for a key of another length.
    """
    path = os.path.abspath(path)
    link = linker(key)
    live = None if live_head is None else Position(live_head[0], bytes.fromhex(live_head[1]))
    # The head first: the daemon may write on meanwhile, and then the files are ahead of it, never behind.
    head = read_head(path, key)
    opened = open_all(path)
    try:
        walk = _Walk(link, head.position, live, marked)
        problem = walk.all(opened)
    finally:
        close_all(opened)
    if problem is None and not opened:
        problem = Problem(path, 0, None, "there is no audit log")
    if problem is None and head.position is None:
        what = "does not authenticate: altered, or another key" if head.exists else "is missing"
        problem = Problem(shelf.head_path(path), 0, None, f"{what}; lines may have been cut off the end")
    if problem is not None and not problem.file:
        problem = msgspec.structs.replace(problem, file=path)
    return Report(problem is None, len(opened), walk.count, problem, walk.warnings)


class _Walk:
    """One pass over all lines: where it stands, and what it has met.

    ``head`` and ``live`` are positions that must be in the chain, as far as they are known.
    """

    def __init__(self, link: Link, head: Position | None, live: Position | None, marked: Position | None) -> None:
        self.link = link
        known = (("audit.head", head), ("the daemon", live), ("the vault", marked))
        self.known = [(who, at) for who, at in known if at is not None]
        self.live = live
        self.at: Position | None = None  # None before the first line
        self.first_file = ""
        self.first_seq = 0
        self.oldest = 0  # what the newest file says the oldest line should be
        self.count = 0
        self.warnings: list[str] = []

    def all(self, opened: list[tuple[str, int]]) -> Problem | None:
        """Every file, oldest first (``opened`` has the newest first), then both ends."""
        for index in range(len(opened) - 1, -1, -1):
            name, fd = opened[index]
            try:
                files.check_private(name, fd)
            except UnsafeFile as error:
                self.warnings.append(f"{error}; mend it with: {error.hint}")
            problem = self.file(name, fd, newest=index == 0)
            if problem is not None:
                return problem
        if self.first_seq > self.oldest:
            gone = _lines(self.oldest, self.first_seq - 1)
            what = f"{gone} missing before this one: rotation had not let them go"
            return Problem(self.first_file, 1, self.oldest, what)
        reached = self.reached()
        for who, known in self.known:
            if known.seq > reached:
                what = f"{_lines(reached + 1, known.seq)} missing at the end: {who} knows of them"
                return Problem(opened[0][0] if opened else "", 0, reached + 1, what)
        return None

    def reached(self) -> int:
        return START.seq if self.at is None else self.at.seq

    def file(self, name: str, fd: int, *, newest: bool) -> Problem | None:
        for number, line in enumerate(shelf.lines(fd), 1):
            if not line.endswith(b"\n"):
                if newest and self.live is not None and self.reached() >= self.live.seq:
                    self.warnings.append(f"{name}: the daemon is writing its next line at this moment")
                    return None
                what = "this line is unfinished: cut off, or left by a crash"
                return Problem(name, number, self.reached() + 1, what)
            sealed = unseal(line)
            if sealed is None:
                return Problem(name, number, None, "this is not a line of an audit log")
            wrong = self.step(line, sealed, name)
            if wrong is not None:
                return Problem(name, number, sealed.seq, wrong)
            self.count += 1
        return None

    def step(self, line: bytes, sealed: Sealed, name: str) -> str | None:
        """Go over one line; what is wrong with it, or None."""
        own = origin(line) if self.at is None or _OWN in line else None
        if self.at is None:
            if own is None or own.previous is None or own.action not in _BEGINS_A_FILE:
                return "the log does not begin here: lines before this one were removed, or it was altered"
            self.at = Position(sealed.seq - 1, own.previous)
            self.first_file, self.first_seq = name, sealed.seq
        if self.link(self.at.chain, sealed.text) != sealed.chain or sealed.seq != self.at.seq + 1:
            return self.misfit(sealed, own)
        if own is not None and own.action in _BEGINS_A_FILE and own.oldest is not None:
            self.oldest = own.oldest
        self.at = Position(sealed.seq, sealed.chain)
        for who, known in self.known:
            if known.seq == sealed.seq and known.chain != sealed.chain:
                return f"this is not the line {sealed.seq} that {who} remembers"
        return None

    def misfit(self, sealed: Sealed, own: Origin | None) -> str:
        """In what way a line does not follow the one before it. Only asked when it does not."""
        wanted = self.reached() + 1
        if own is not None and own.previous is not None:
            noted = f"; the daemon noted: {own.detail}" if own.detail else ""
            if self.link(own.previous, sealed.text) == sealed.chain:
                if sealed.seq > wanted:
                    return f"{_lines(wanted, sealed.seq - 1)} missing before this one{noted}"
                return f"it was not written after the line before it{noted}"
        if sealed.seq > wanted:
            return f"line {wanted} should stand here: lines were removed or moved, or this one was altered"
        if sealed.seq < wanted:
            return f"line {wanted} should stand here: this one was repeated or moved, or altered"
        return "this line was altered, or written without the key"


def _lines(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"

"""The audit log as the daemon writes it.

Contract:
* ``append`` writes all given records with one write(2) to an O_APPEND descriptor, or raises AuditError and
  leaves neither a half line nor a step in the chain behind. It works again by itself once the disk does,
  and then first says how many records it had to refuse.
* After ``sync`` returns, every line appended before it was called survives a power failure, and (at most a
  second later) ``audit.head`` knows so. The head never runs ahead of what is on the disk, hence a power
  failure never looks like a cut.
* A file is left for the next one when it has reached ``max_bytes``; it may pass that by one ``append``.
* ``append``, ``check`` and ``close`` belong to one thread. ``sync`` may run beside them in another.

What it does not promise: that nobody of the same user removes or changes the files. It promises that the
chain shows it (``verify``). What is cut off within the second before ``audit.head`` knows of it, by
somebody who also kills the daemon, is not noticed.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from keychain_auth import files
from keychain_auth.audit import shelf
from keychain_auth.audit.chain import START, Position, linker, seal_all, seal_head, unseal
from keychain_auth.audit.record import AuditRecord, Result, administrative, encode, stamper
from keychain_auth.audit.resume import LOG_ALTERED, LOG_TRUNCATED, Finding, resume, trusting
from keychain_auth.audit.survey import survey
from keychain_auth.errors import AuditError, UnsafeFile, quoted
from keychain_auth.oslayer import system

LOG_START = "log_start"
LOG_ROTATE = "log_rotate"
LOG_CHECK = "log_check"
LOG_REMOVED = "log_removed"
LOG_REPLACED = "log_replaced"
RECORDS_REFUSED = "records_refused"

MAX_BYTES = 10 * 1024 * 1024
KEEP = 10
_HEAD_INTERVAL = 1_000_000_000  # ns
_MAX_RETIRED = 4  # rotated files still waiting for their fsync


class AuditLog:
    """One audit log, open for appending. Make one with ``AuditLog.open``.

    ``findings`` are sentences about what was not in order when it was opened; they are on record too.
    """

    def __init__(self, path: str, key: bytes, *, lock: int, max_bytes: int, keep: int, now: Callable[[], int]) -> None:
        self.path = path
        self.findings: tuple[str, ...] = ()
        self._key = key
        self._link = linker(key)
        self._lock = lock
        self._max_bytes = max_bytes
        self._keep = keep
        self._now = now
        self._stamp = stamper()
        self._fd = -1
        self._size = 0
        self._position = START
        self._oldest = 1  # sequence number of the first line that rotation has not yet let go
        self._cut_to: int | None = None  # a half line is there and must go first
        self._refused = 0
        self._refused_why = ""
        # Shared with ``sync``. Each is one reference, read and written whole.
        self._syncing = threading.Lock()
        self._retired: list[int] = []
        self._wanted = False
        self._renamed = False
        self._head_seq = -1
        self._head_written = 0

    @classmethod
    def open(
        cls,
        path: str,
        key: bytes,
        *,
        max_bytes: int = MAX_BYTES,
        keep: int = KEEP,
        now: Callable[[], int] = time.time_ns,
        known: Position | None = None,
    ) -> AuditLog:
        """Open the log ``path`` (created 0600, its folder 0700) and go on where it ended.

        ``key``: 32 bytes. ``max_bytes``: when to begin a new file. ``keep``: how many rotated files stay beside
        the current one, at least 1. ``now``: nanoseconds since 1970. ``known``: a line that it had, as somebody
        remembers who is not among its files: without that line it goes on behind it, and says so.
        Raises AuditError if it cannot be written or another daemon writes it, UnsafeFile if other users can
        write it, ValueError for a key of another length.
        """
        if keep < 1 or max_bytes < 1:
            raise ValueError("max_bytes and keep must be at least 1")
        path = os.path.abspath(path)
        try:
            files.make_private_dir(os.path.dirname(path))
            lock = files.try_lock(shelf.lock_path(path))
        except OSError as error:
            _refuse(f"cannot open {path}", path, error)
        if lock is None:
            raise AuditError(f"another daemon writes {path}", hint="keychain-auth status")
        log = None
        try:
            log = cls(path, key, lock=lock, max_bytes=max_bytes, keep=keep, now=now)
            log._resume(known)
        except BaseException as error:
            os.close(lock)
            if log is not None and log._fd >= 0:
                os.close(log._fd)
            if isinstance(error, OSError):
                _refuse(f"cannot open {path}", path, error)
            raise
        return log

    # --- what the daemon does with it ----------------------------------------------------------

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and chain (hex) of the last line written."""
        return self._position.seq, self._position.chain.hex()

    @property
    def sync_wanted(self) -> bool:
        """Whether ``sync`` has something to do that should not wait."""
        return self._wanted

    def append(self, records: Sequence[AuditRecord | bytes], *, sync: bool = False) -> None:
        """Write ``records``, all or none. ``sync``: they should soon be on the disk for sure.

        A record may come encoded already, by a ``Template``.
        Raises AuditError; then nothing of them is in the log, and nothing may be given out.
        """
        asked = len(records)
        try:
            if self._cut_to is not None:
                self._cut_half_line()
            if self._size >= self._max_bytes:
                self._begin_file(LOG_ROTATE)
            if self._refused:
                why = f"{self._refused} records could not be written: {self._refused_why}"
                note = administrative(LOG_CHECK, result="ERROR", reason=RECORDS_REFUSED, detail=why)
                records = [note, *records]
            data, position = self._seal(records)
            self._write(data)
        except OSError as error:
            self._refused += asked
            self._refused_why = error.strerror or type(error).__name__
            _refuse(f"cannot write {self.path}", self.path, error)
        self._refused = 0
        self._position = position
        if sync:
            self._wanted = True  # last, so that a ``sync`` that clears it has seen the position

    def sync(self) -> None:
        """Bring everything appended so far to the disk, and the head about once a second.

        For a worker thread: it may take as long as the disk does. Raises AuditError; then ``sync_wanted`` stays.
        """
        with self._syncing:
            if self._fd >= 0:
                self._sync(head_now=False)

    def check(self) -> str | None:
        """See whether somebody removed, replaced or resized the file: a sentence for the daemon's log, or None.

        Costs two stat(2); meant for once a second. On such a finding a new file is begun that continues the
        chain, with the finding in its first line. Raises AuditError if that fails.
        """
        try:
            finding = self._look()
            if finding is None:
                if self._head_seq != self._position.seq:
                    self._wanted = True
                return None
            self._begin_file(LOG_START, "ERROR", finding)
        except OSError as error:
            _refuse(f"cannot write {self.path}", self.path, error)
        return finding.detail

    def close(self) -> None:
        """Sync, write the head, let go of the files. Raises AuditError if the disk refuses; closed all the same."""
        with self._syncing:
            if self._fd < 0:
                return
            try:
                self._sync(head_now=True)
            finally:
                for fd in (*self._retired, self._fd, self._lock):
                    os.close(fd)
                self._retired, self._fd, self._size = [], -1, 0

    # --- writing -------------------------------------------------------------------------------

    def _seal(self, records: Sequence[AuditRecord | bytes]) -> tuple[bytes, Position]:
        inners = [record if isinstance(record, bytes) else encode(record)[1:-1] for record in records]
        return seal_all(self._link, self._stamp(self._now()), inners, self._position)

    def _write(self, data: bytes) -> None:
        """One write(2). A regular file takes less than all of it only when there is no room."""
        written = os.write(self._fd, data)
        if written != len(data):
            # With O_APPEND the offset stands behind what was written, so this is where it began, even
            # if somebody else had put bytes into the file.
            self._cut_to = os.lseek(self._fd, 0, os.SEEK_CUR) - written
            self._cut_half_line()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _cut_half_line(self) -> None:
        if self._cut_to is not None:
            os.ftruncate(self._fd, self._cut_to)
            self._cut_to = None

    def _begin_file(self, action: str, result: Result = "GRANTED", finding: Finding | None = None) -> None:
        """Put a new file, beginning with an ``action`` line, in the place of the current one."""
        shelf.set_aside(self.path)
        plan = shelf.plan(shelf.numbers(self.path), self._keep, current_exists=os.path.lexists(self.path))
        oldest = self._oldest_after(plan)
        record = administrative(
            action,
            result=result,
            reason=finding.reason if finding else None,
            detail=finding.detail if finding else None,
            previous=self._position.chain.hex(),
            oldest=oldest,
        )
        data, position = self._seal([record])
        fd = shelf.create(self.path, data)
        try:
            shelf.place(self.path, plan.renames)
        except OSError:
            os.close(fd)
            shelf.discard_unfinished(self.path)
            raise
        if self._fd >= 0:
            self._retired.append(self._fd)  # before the new one shows: ``sync`` reads them the other way round
        self._fd = fd
        self._size, self._position, self._oldest = len(data), position, oldest
        self._renamed = self._wanted = True
        shelf.drop(self.path, plan.drops)
        if len(self._retired) > _MAX_RETIRED:  # nobody calls ``sync``: do it here
            self.sync()

    def _oldest_after(self, plan: shelf.Plan) -> int:
        """First sequence number that is still kept after ``plan``; only dropping a file moves it."""
        if not plan.drops:
            return self._oldest
        if plan.oldest_kept is None:
            return self._position.seq + 1
        try:
            fd = shelf.open_regular(shelf.numbered(self.path, plan.oldest_kept))
        except (FileNotFoundError, UnsafeFile):
            return self._oldest  # something is wrong there: rather let ``verify`` miss the older lines
        first = unseal(shelf.first_line(fd))
        os.close(fd)
        return self._oldest if first is None else first.seq

    def _look(self) -> Finding | None:
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return Finding(LOG_REMOVED, f"somebody removed {self.path} while the daemon ran")
        if not system.is_same_file(there, mine):
            return Finding(LOG_REPLACED, f"somebody replaced {self.path} while the daemon ran")
        if self._cut_to is not None or mine.st_size == self._size:
            return None
        if mine.st_size < self._size:
            return Finding(LOG_TRUNCATED, f"somebody cut {self._size - mine.st_size} bytes off {self.path}")
        return Finding(LOG_ALTERED, f"somebody wrote {mine.st_size - self._size} bytes into {self.path}")

    def _sync(self, *, head_now: bool) -> None:
        # The order is the point. Clear the wish, then take the position, then the descriptors: what is appended
        # meanwhile wishes again, and every line up to ``position`` is in one of these files, because a rotation
        # retires the old descriptor before it shows the new one.
        renamed, self._renamed, self._wanted = self._renamed, False, False
        position = self._position
        fd = self._fd
        retired = self._retired[:]
        try:
            for each in (*retired, fd):
                os.fsync(each)
            if renamed:
                files.sync_dir(os.path.dirname(self.path))
            for each in retired:
                self._retired.remove(each)
                os.close(each)
            moment = self._now()
            if renamed or head_now or abs(moment - self._head_written) >= _HEAD_INTERVAL:
                self._write_head(position)
                self._head_written = moment
        except OSError as error:
            self._renamed, self._wanted = self._renamed or renamed, True
            _refuse(f"cannot bring {self.path} to the disk", self.path, error)

    def _write_head(self, position: Position) -> None:
        files.replace(shelf.head_path(self.path), seal_head(self._key, position))
        self._head_seq = position.seq

    # --- opening -------------------------------------------------------------------------------

    def _resume(self, known: Position | None) -> None:
        shelf.discard_unfinished(self.path)
        fd = shelf.open_for_append(self.path)
        self._fd = -1 if fd is None else fd
        found = trusting(survey(self.path, self._key, self._link, fd), known)
        resumed = resume(found)
        self._size, self._oldest, self._position = found.size, found.oldest, resumed.position
        if not found.any_file and not found.head.exists:
            self._write_head(START)  # so that a log that is gone never looks like one that never was
        if fd is not None and found.size == 0:
            # Nothing in it to keep, and each file begins with a line of its own.
            os.unlink(self.path)
            os.close(fd)
            self._fd = -1
        if self._fd < 0 or self._size >= self._max_bytes:
            self._begin_file(LOG_START if found.tail is None else LOG_ROTATE)
        if resumed.findings:
            self.findings = tuple(finding.detail for finding in resumed.findings)
            self.append(self._notes(resumed.findings))
        self._sync(head_now=True)

    def _notes(self, findings: tuple[Finding, ...]) -> list[AuditRecord]:
        """Lines about ``findings``. The first says what it is built on: what is before it may be altered."""
        chains = [self._position.chain.hex(), *[None] * (len(findings) - 1)]
        return [
            administrative(LOG_CHECK, result="ERROR", reason=finding.reason, detail=finding.detail, previous=chain)
            for finding, chain in zip(findings, chains, strict=True)
        ]


def _refuse(what: str, path: str, error: OSError) -> NoReturn:
    folder = os.path.dirname(path)
    hint = f"df -h {quoted(folder)}" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"ls -la {quoted(folder)}"
    raise AuditError(f"{what}: {error.strerror or error}", hint=hint) from None

"""What stays on the disk: syncing, a full disk, a killed process, two threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_lab import KEY, is_fine, make_record, targets

from keychain_auth import files
from keychain_auth.audit import shelf
from keychain_auth.audit.chain import unseal_head
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.reading import tail
from keychain_auth.errors import AuditError

Open = Callable[..., AuditLog]


# --- sync ----------------------------------------------------------------------------------------


def head_seq(path: Path) -> int:
    at = unseal_head(KEY, path.with_name("audit.head").read_bytes())
    assert at is not None
    return at.seq


def test_the_head_is_written_about_once_a_second_and_at_close(path: Path, open_log: Open) -> None:
    now = 10**18
    log = open_log(now=lambda: now)
    for number in range(2, 12):
        now += 300_000_000
        log.append([make_record()], sync=True)
        assert log.sync_wanted
        log.sync()
        assert not log.sync_wanted
        assert head_seq(path) == {2: 1, 3: 1, 4: 1}.get(number, 5 if number < 9 else 9)
    log.close()
    assert head_seq(path) == 11


def test_after_a_rotation_the_next_sync_writes_folder_and_head_at_once(
    path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(now=lambda: 10**18, max_bytes=600)
    log.append([make_record("a"), make_record("b")])
    assert not log.sync_wanted
    log.append([make_record("c")])  # begins a new file first
    assert shelf.numbers(str(path)) == [1]
    assert log.sync_wanted
    folders: list[str] = []
    monkeypatch.setattr(files, "sync_dir", folders.append)
    log.sync()
    assert folders[0] == str(path.parent)
    assert head_seq(path) == log.head[0] == 5


def test_the_head_never_runs_ahead_of_the_disk(path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10**18
    log = open_log(now=lambda: now, max_bytes=600)
    log.append([make_record()], sync=True)
    now += 10**10
    seq, _ = log.head
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        log.append([make_record("meanwhile")], sync=True)  # and this one may rotate

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        log.sync()
    assert head_seq(path) == seq
    assert log.sync_wanted  # for what came meanwhile
    assert log.head[0] > seq


def test_a_disk_that_does_not_sync_is_reported_and_asked_again(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log()
    log.append([make_record()], sync=True)

    def fsync(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(AuditError, match=r"cannot bring .* to the disk: Input/output error"):
            log.sync()
    assert log.sync_wanted
    log.sync()
    assert not log.sync_wanted


def test_sync_in_another_thread_beside_appends_and_rotations(path: Path, open_log: Open) -> None:
    log = open_log(max_bytes=5000, keep=100)
    stop = threading.Event()
    errors: list[Exception] = []

    def syncing() -> None:
        try:
            while not stop.is_set():
                log.sync()
        except (OSError, AuditError, ValueError) as error:
            errors.append(error)

    worker = threading.Thread(target=syncing)
    worker.start()
    try:
        for number in range(600):
            log.append([make_record(f"t{number}")], sync=True)
    finally:
        stop.set()
        worker.join()
    assert errors == []
    log.close()
    assert targets(path) == [f"t{number}" for number in range(600)]
    assert is_fine(path)


# --- a disk that is full, a process that is killed ------------------------------------------------------

FULL_DISK = """
import json, os, resource, sys
sys.path[:0] = eval(sys.argv[2])
from audit_lab import KEY, make_record
from keychain_auth.audit.log import AuditLog
from keychain_auth.errors import AuditError

path = sys.argv[1]
log = AuditLog.open(path, KEY)                      # Python ignores SIGXFSZ: write(2) is short, then EFBIG
limit, (_, hard) = 5000, resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
good, refused, texts, heads = 0, 0, set(), set()
while refused < 5:
    try:
        log.append([make_record(f"t{good}"), make_record(f"u{good}")])
        good += 1
    except AuditError as error:
        refused += 1
        texts.add(f"{error} | {error.hint}")
        heads.add(log.head)
        assert open(path, "rb").read().endswith(b"\\n")
assert len(heads) == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.append([make_record("room again")])
log.close()
print(json.dumps({"good": good, "texts": sorted(texts)}))
"""


def test_a_full_disk_refuses_leaves_no_half_line_and_recovers(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path), repr(sys.path)], check=True, capture_output=True)
    said = json.loads(done.stdout)
    assert len(said["texts"]) >= 1
    assert all(f"cannot write {path}: " in text for text in said["texts"])
    expected = [f"{which}{n}" for n in range(said["good"]) for which in "tu"]
    assert targets(path) == [*expected, "room again"]
    note = tail(str(path), 2)[0]
    assert (note["result"], note["reason"]) == ("ERROR", "records_refused")
    assert str(note["detail"]).startswith("10 records could not be written: ")
    assert is_fine(path)


def test_the_naive_append_leaves_a_half_line_on_a_full_disk(tmp_path: Path) -> None:
    child = (
        "import os,resource,sys; f=open(sys.argv[1],'ab',buffering=0);"
        "resource.setrlimit(resource.RLIMIT_FSIZE,(100,100)); f.write(b'x'*79+b'\\n'); f.write(b'y'*79+b'\\n')"
    )
    subprocess.run([sys.executable, "-c", child, str(tmp_path / "log")], check=True)
    assert (tmp_path / "log").read_bytes() == b"x" * 79 + b"\n" + b"y" * 20


def test_a_half_line_that_cannot_be_cut_off_keeps_the_log_closed(
    path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log()
    log.append([make_record("first")])
    head, real = log.head, os.write

    def no_truncate(_fd: int, _size: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) * 9 // 10]))
        patch.setattr(os, "ftruncate", no_truncate)
        for _ in range(3):
            with pytest.raises(AuditError):
                log.append([make_record("never")])
            assert log.check() is None
    assert path.read_bytes().count(b"never") == 1  # one half line, not three
    assert log.head == head
    log.append([make_record("second")])
    assert targets(path) == ["first", "second"]
    assert is_fine(path, log)


KILLED = """
import sys
sys.path[:0] = eval(sys.argv[2])
from audit_lab import KEY, make_record
from keychain_auth.audit.log import AuditLog
log = AuditLog.open(sys.argv[1], KEY, max_bytes=20_000, keep=1000)
number = 0
while True:
    log.append([make_record(f"t{number}")], sync=True)
    print(number, flush=True)
    if number % 7 == 0:
        log.sync()
    number += 1
"""


@pytest.mark.parametrize("after", [1, 40, 333])
def test_what_was_reported_is_there_after_kill_9(path: Path, open_log: Open, after: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), repr(sys.path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout:
        reported = [next(child.stdout) for _ in range(after)]
        child.kill()
        reported += list(child.stdout)
    child.wait()
    count = len([line for line in reported if line.endswith("\n")])
    log = open_log(max_bytes=20_000, keep=1000)
    assert log.findings == ()
    found = targets(path)
    assert found == [f"t{n}" for n in range(len(found))] and len(found) >= count >= after
    log.append([make_record("after")])
    assert is_fine(path, log)


def test_files_replace_is_what_writes_the_head(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that cannot be written is an error, and the old one stays whole."""
    head = written.with_name("audit.head")
    before = head.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    log = AuditLog.open(str(written), KEY)
    log.append([make_record()])
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "rename", fail)
        with pytest.raises(AuditError, match="No space left on device") as caught:
            log.close()
    assert caught.value.hint == f"df -h {written.parent}"
    assert head.read_bytes() == before
    assert is_fine(written)

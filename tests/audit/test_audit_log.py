"""Writing: restarts, rotation, permissions, and what happens to the file meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_lab import KEY, is_fine, make_record, notes, targets

from keychain_auth.audit import shelf
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.reading import iterate, tail
from keychain_auth.audit.verify import verify
from keychain_auth.errors import AuditError, UnsafeFile

Open = Callable[..., AuditLog]


# --- opening and going on ------------------------------------------------------------------------


def test_files_are_private_and_the_first_line_is_the_logs_own(path: Path, open_log: Open) -> None:
    umask = os.umask(0)
    try:
        open_log().close()
    finally:
        os.umask(umask)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for name in ("audit.log", "audit.head", "audit.log.lock"):
        assert (path.parent / name).stat().st_mode & 0o777 == 0o600
    assert notes(path) == [("log_start", None)]
    assert is_fine(path)


def test_the_chain_goes_on_after_a_restart(path: Path, open_log: Open) -> None:
    for number in range(5):
        log = open_log()
        assert log.findings == ()
        log.append([make_record(f"a{number}"), make_record(f"b{number}")])
        log.close()
    assert targets(path) == [f"{which}{number}" for number in range(5) for which in "ab"]
    assert [line["seq"] for line in iterate(str(path))] == list(range(1, 12))
    assert is_fine(path)


def test_a_crash_without_close_is_no_finding(path: Path, open_log: Open) -> None:
    child = (
        "import os, sys; sys.path[:0] = eval(sys.argv[2]); from audit_lab import *; "
        "from keychain_auth.audit.log import AuditLog; log = AuditLog.open(sys.argv[1], KEY); "
        "[log.append([make_record(str(n))]) for n in range(50)]; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", child, str(path), repr(sys.path)], check=True)
    assert is_fine(path)  # the head is behind: that is allowed
    assert open_log().findings == ()
    assert is_fine(path)


def test_only_one_daemon_writes_a_log(path: Path, open_log: Open) -> None:
    first = open_log()
    with pytest.raises(AuditError, match="another daemon writes"):
        open_log()
    first.close()
    open_log()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_log_that_others_can_write_is_refused_with_the_command_that_mends_it(
    written: Path, open_log: Open, mode: int
) -> None:
    written.chmod(mode)
    with pytest.raises(UnsafeFile, match="can be written by other users") as caught:
        open_log()
    assert caught.value.hint == f"chmod 600 {written}"
    assert verify(str(written), KEY).warnings == [
        f"{written} can be written by other users; mend it with: chmod 600 {written}"
    ]
    written.chmod(0o644)
    open_log()  # others may only read: that is taken away without a word
    assert written.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_is_no_file_is_refused_and_nothing_hangs(path: Path, open_log: Open, kind: str) -> None:
    path.parent.mkdir(mode=0o700)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/null")
    else:
        os.mkfifo(path)
    with pytest.raises(UnsafeFile) as caught:
        open_log()
    assert caught.value.hint == f"mv {path} {path}.old"
    with pytest.raises(UnsafeFile):
        verify(str(path), KEY)


def test_a_closed_log_refuses(path: Path, open_log: Open) -> None:
    log = open_log(max_bytes=1)
    log.close()
    log.close()
    before = sorted(path.parent.iterdir())
    for use in (lambda: log.append([make_record()]), log.check):
        with pytest.raises(AuditError):
            use()
    log.sync()
    assert sorted(path.parent.iterdir()) == before


def test_no_descriptor_is_left_open(path: Path, open_log: Open) -> None:
    before = os.listdir("/proc/self/fd")
    log = open_log(max_bytes=500, keep=3)
    for _ in range(40):
        log.append([make_record()])
    log.close()
    path.chmod(0o666)
    with pytest.raises(UnsafeFile):
        open_log()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("options", [{"keep": 0}, {"max_bytes": 0}])
def test_senseless_limits_are_refused(open_log: Open, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        open_log(**options)


# --- rotation ------------------------------------------------------------------------------------


def test_rotation_keeps_the_newest_files_and_the_chain(path: Path, open_log: Open) -> None:
    log = open_log(max_bytes=1500, keep=3)
    for number in range(60):
        log.append([make_record(f"t{number}")])
    assert sorted(p.name for p in path.parent.glob("audit.log*")) == [
        "audit.log", "audit.log.1", "audit.log.2", "audit.log.3", "audit.log.lock",
    ]  # fmt: skip
    assert is_fine(path, log)
    kept = targets(path)
    assert kept == [f"t{number}" for number in range(60 - len(kept), 60)] and 10 < len(kept) < 30
    assert all(p.stat().st_size < 1500 + 500 for p in path.parent.glob("audit.log*"))
    assert {action for action, _ in notes(path)} == {"log_rotate"}


def test_rotation_and_restart_together(path: Path, open_log: Open) -> None:
    for number in range(30):
        log = open_log(max_bytes=1500, keep=50)
        log.append([make_record(f"{number}.{n}") for n in range(3)])
        log.close()
    assert targets(path) == [f"{number}.{n}" for number in range(30) for n in range(3)]
    assert is_fine(path)


def test_keeping_fewer_files_than_before_is_no_loss(path: Path, open_log: Open) -> None:
    log = open_log(max_bytes=600, keep=8)
    for number in range(30):
        log.append([make_record(f"t{number}")])
    log.close()
    log = open_log(max_bytes=600, keep=2)
    for number in range(3):
        log.append([make_record(f"u{number}")])
    assert shelf.numbers(str(path)) == [1, 2]
    assert is_fine(path, log)


def test_keeping_more_files_than_before_is_no_gap(path: Path, open_log: Open) -> None:
    log = open_log(max_bytes=600, keep=2)
    for number in range(20):
        log.append([make_record(f"t{number}")])
    log.close()
    log = open_log(max_bytes=600, keep=9)
    for number in range(6):
        log.append([make_record(f"u{number}")])
        assert is_fine(path, log)
    assert len(shelf.numbers(str(path))) > 3


def test_an_emptied_log_leaves_no_empty_file_behind(written: Path, open_log: Open) -> None:
    os.truncate(written, 0)
    assert "lines 1 to 10 are missing" in open_log().findings[0]
    assert shelf.numbers(str(written)) == []
    assert notes(written) == [("log_start", None), ("log_check", "log_truncated")]


class Killed(BaseException):
    """Stands for the power that goes off: no handler of the code under test catches it."""


@pytest.mark.parametrize("step", ["_begin_file", "_sync"])
def test_a_kill_in_the_very_first_start_is_no_finding(
    path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, step, kill)
        with pytest.raises(Killed):
            open_log()
    log = open_log()
    assert log.findings == ()
    assert is_fine(path, log)


@pytest.mark.parametrize("existing", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_a_kill_between_any_two_steps_of_a_rotation(
    path: Path, monkeypatch: pytest.MonkeyPatch, existing: int, call: str
) -> None:
    real = getattr(os, call)
    for survived in range(8):
        for old in path.parent.glob("*"):
            old.unlink()
        log = AuditLog.open(str(path), KEY, max_bytes=10**6, keep=3)
        for number in range(existing + 1):
            log.append([make_record(f"t{number}")])
            if number < existing:
                log._begin_file("log_rotate")
        expected = targets(path)
        left = survived

        def step(*args: object) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(shelf.os, call, step)
            try:
                log._begin_file("log_rotate")
                killed = False
            except Killed:
                killed = True
        os.close(log._lock)  # what the kernel does for a killed process
        if killed and path.exists():
            assert is_fine(path)
        log = AuditLog.open(str(path), KEY, max_bytes=10**6, keep=3)
        assert log.findings == ()
        log.append([make_record("after")])
        found = targets(path)
        assert found[-1] == "after"
        assert found[:-1] == expected[-len(found) + 1 :] and len(found) > min(existing, 3)
        assert is_fine(path, log)
        log.close()
        if not killed:
            return
    pytest.fail("the rotation never came to its end")


def test_a_rotation_that_fails_refuses_and_is_taken_up_again(
    path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(max_bytes=900, keep=3)
    written = 0
    for fail_at in range(1, 6):
        calls = 0

        def step(source: str, target: str, fail_at: int = fail_at) -> None:
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise OSError(5, "Input/output error")
            os.replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(shelf.os, "rename", step)
            for _ in range(6):
                try:
                    log.append([make_record(f"t{written}")])
                    written += 1
                except AuditError as error:
                    assert "Input/output error" in str(error)
    assert not list(path.parent.glob("*.new"))
    assert targets(path) == [f"t{n}" for n in range(written - len(targets(path)), written)]
    assert ("log_check", "records_refused") in notes(path)
    assert is_fine(path, log)


# --- what happens to the file while the daemon runs ---------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def add(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"half a line')


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(remove, "log_removed"), (replace, "log_replaced"), (cut, "log_truncated"), (add, "log_altered")],
)
def test_check_notices_and_the_chain_goes_on_in_a_new_file(
    path: Path, open_log: Open, harm: Callable[[Path], None], reason: str
) -> None:
    log = open_log()
    log.append([make_record("before")])
    assert log.check() is None
    harm(path)
    said = log.check()
    assert said is not None and str(path) in said
    assert log.check() is None
    log.append([make_record("after")])
    last = tail(str(path), 2)
    assert (last[0]["action"], last[0]["result"], last[0]["reason"]) == ("log_start", "ERROR", reason)
    assert last[0]["detail"] == said
    assert last[1]["targets"] == ["after"]
    report = verify(str(path), KEY, live_head=log.head)
    if harm is replace:  # an exact copy took its place: noted, and no line is lost
        assert report.ok
    else:
        assert report.first_problem is not None and not report.ok
    log.close()
    assert open_log().findings == ()


def test_check_asks_for_a_sync_when_the_head_is_behind(open_log: Open) -> None:
    now = 10**18
    log = open_log(now=lambda: now)
    assert not log.sync_wanted
    log.append([make_record()])
    assert not log.sync_wanted
    assert log.check() is None
    assert log.sync_wanted
    now += 2 * 10**9
    log.sync()
    log.check()
    assert not log.sync_wanted

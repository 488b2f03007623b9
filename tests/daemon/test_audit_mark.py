"""The vault remembers how far the audit log had come: one that is removed, or put back with its head, does not pass."""

from __future__ import annotations

import os
import shutil

import pytest

from audit.audit_lab import KEY, make_record
from daemon.requests import SUCCESS, write
from keychain_auth.audit.chain import Position
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.verify import verify
from support.person import protect, tell, told
from support.world import World

FILES = ("audit.log", "audit.head")


def remove(folder: str) -> None:
    for name in FILES:
        os.unlink(os.path.join(folder, name))


def copied(folder: str, to: str) -> None:
    os.makedirs(to, exist_ok=True)
    for name in FILES:
        shutil.copy2(os.path.join(folder, name), os.path.join(to, name))


def put_back(world: World, older: str) -> None:
    copied(older, world.data_dir)
    for name in FILES:
        world.user.own(os.path.join(world.data_dir, name))


def works(world: World, program: str, count: int = 5) -> None:
    talker = world.talker(program)
    for number in range(count):
        assert talker.ask(write({"key": str(number)})) == SUCCESS


@pytest.mark.parametrize("attack", ["removed", "put back"])
def test_without_the_mark_the_attack_wins_and_with_it_it_loses(attack: str, tmp_path: object) -> None:
    folder = str(tmp_path)
    os.chmod(folder, 0o700)
    path, older = os.path.join(folder, "audit.log"), os.path.join(folder, "older")
    log = AuditLog.open(path, KEY)
    log.append([make_record("before")])
    log.close()
    copied(folder, older)
    log = AuditLog.open(path, KEY)
    log.append([make_record("the break-in")])
    mark = Position(log.head[0], bytes.fromhex(log.head[1]))
    log.close()
    remove(folder)
    if attack == "put back":
        copied(older, folder)
    naive = os.path.join(folder, "naive")
    if attack == "put back":
        copied(folder, naive)
    os.makedirs(naive, mode=0o700, exist_ok=True)
    os.chmod(naive, 0o700)
    log = AuditLog.open(os.path.join(naive, "audit.log"), KEY)
    assert log.findings == ()
    log.close()
    assert verify(os.path.join(naive, "audit.log"), KEY).ok
    problem = verify(os.path.join(naive, "audit.log"), KEY, marked=mark).first_problem
    assert problem is not None
    log = AuditLog.open(path, KEY, known=mark)
    assert "missing: the log was cut off" in log.findings[0]
    assert log.head[0] > mark.seq
    log.close()
    assert not verify(path, KEY).ok


def test_a_log_that_was_removed_while_no_daemon_ran_is_missed(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    works(world, program)
    lines = len(world.audit())
    assert daemon.stop() == 0
    remove(world.data_dir)
    daemon = world.start()
    daemon.wait_log(f"lines 1 to {lines + 1} are missing")
    done = world.cli("audit", "verify")
    assert (done.returncode, "missing" in done.stderr) == (1, True)
    daemon.stop()
    assert world.cli("audit", "verify").returncode == 1


def test_a_log_that_was_put_back_with_its_head_is_missed(world: World) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    assert daemon.stop() == 0
    older = world.path("older")
    copied(world.data_dir, older)
    daemon = world.start()
    works(world, program)
    assert daemon.stop() == 0
    put_back(world, older)
    done = world.cli("audit", "verify")  # without a daemon too
    assert (done.returncode, "the vault knows of them" in done.stderr) == (1, True)
    daemon = world.start()
    daemon.wait_log("are missing: the log was cut off")


def test_a_lock_remembers_what_was_done_until_then(world: World) -> None:
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    program = world.granted("talker", "aws")
    daemon = world.start()
    protect(world)
    works(world, program)
    world.cli("lock")
    lines = len(world.audit())
    daemon.kill()
    daemon.wait()
    remove(world.data_dir)
    daemon = world.start()
    assert told(world, "unlock")["outcome"] == "unlocked"
    daemon.wait_log(f"lines 1 to {lines - 1} are missing")  # the line of the lock itself came after
    assert tell(world, "audit", "verify").returncode == 1


def test_who_is_killed_at_any_moment_has_lost_nothing(world: World) -> None:
    """What the vault remembers is on the disk: no kill looks like an attack."""
    program = world.granted("talker", "aws")
    for _ in range(3):
        daemon = world.start()
        works(world, program, 20)
        daemon.kill()
        daemon.wait()
    daemon = world.start()
    assert "missing" not in daemon.log
    assert world.cli("audit", "verify").returncode == 0

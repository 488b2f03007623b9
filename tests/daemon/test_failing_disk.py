"""What cannot be recorded is not given out, and what the disk refuses did not happen: the daemon lives on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator

import pytest

from daemon.requests import SUCCESS, failed, read, request, results, write
from support import programs
from support.talker import Talker
from support.world import World


class SmallDisk:
    """The data folder on a filesystem of 4 MiB that can be filled and freed."""

    def __init__(self, folder: str) -> None:
        self._filler = os.path.join(folder, "filler")

    def fill(self, leave: int = 0) -> None:
        """Take all the room but ``leave`` bytes."""
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while os.write(fd, b"x" * 4096) == 4096:
                continue
        except OSError:
            size = os.fstat(fd).st_size
            os.ftruncate(fd, max(0, size - leave))
        finally:
            os.close(fd)

    def free(self) -> None:
        """Make room again."""
        os.unlink(self._filler)


@pytest.fixture
def disk(world: World) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    folder = world.path(".local/share")
    options = f"size=4m,mode=700,uid={world.user.uid},gid={world.user.gid}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no filesystem can be mounted here: {done.stderr.decode().strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def exhaust(talker: Talker) -> None:
    """The page that the log's end lies in still takes a few lines; then there is no more room."""
    for _ in range(100):
        answer = talker.ask(read("missing"))
        if answer == failed("audit_unavailable"):
            return
        assert answer == results()
    raise AssertionError("the disk is not full")


def test_an_audit_log_that_cannot_be_written_gives_nothing_out(world: World, disk: SmallDisk) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    assert talker.ask(write({"a": "1"})) == SUCCESS
    disk.fill()
    exhaust(talker)
    for asked in (read("a"), request("search"), write({"b": "2"}), request("delete", targets=["a"]), request("check")):
        assert talker.ask(asked) == failed("audit_unavailable")
    talker.send(*[read("a")] * 50, write({"b": "2"}), *[read("a")] * 50)  # in one turn, with a change in its middle
    assert [talker.answer() for _ in range(101)] == [failed("audit_unavailable")] * 101
    late = world.talker(program)  # a new connection is not admitted without a record either
    assert late.ask(read("a")) == failed("audit_unavailable")
    assert late.eof()
    disk.free()
    assert talker.ask(read("a", "b")) == results({"target": "a", "value": "1"})
    daemon.wait_log("the audit log cannot be written")
    assert len([line for line in world.audit() if line["reason"] == "records_refused"]) == 1
    assert world.cli("audit", "verify", "-s", world.socket).returncode == 0


def test_a_vault_that_cannot_be_written_changes_nothing(world: World, disk: SmallDisk) -> None:
    program = world.granted("talker", "aws")
    daemon = world.start()
    talker = world.talker(program)
    assert talker.ask(write({"a": "old"})) == SUCCESS
    disk.fill(leave=100_000)  # room for the audit log, not for a value of this size in the vault's log
    batch = write({"a": "new", "b": "x" * 250_000})
    assert talker.ask(batch) == failed("internal_error")
    assert talker.ask(read("a", "b")) == results({"target": "a", "value": "old"})
    disk.free()
    assert talker.ask(batch) == SUCCESS
    assert len(talker.ask(read("a", "b"))["results"]) == 2
    told = [(line["result"], line["reason"]) for line in world.audit() if line["action"] == "write"]
    assert told == [("GRANTED", ""), ("GRANTED", ""), ("ERROR", "internal_error"), ("GRANTED", "")]
    assert "x" * 100 not in daemon.log


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_under_the_vault_ends_nothing(world: World, number: int) -> None:
    """``internal_error``, nothing half done, reads go on; and when the disk is mended, so is the daemon."""
    library = programs.compiled(os.path.join(programs.HERE, "c", "faults.c"), shared=True)
    world.env["LD_PRELOAD"] = programs.install(library, world.path("bin", "faults.so"), world.user)
    world.env["FAULTS_UNDER"] = os.path.join(world.data_dir, "vault.db")
    world.env["FAULTS_FILE"] = world.path("fails")
    program = world.granted("talker", "aws")
    daemon = world.start()
    for name in ("LD_PRELOAD", "FAULTS_UNDER", "FAULTS_FILE"):
        del world.env[name]
    talker = world.talker(program)
    batch = write({"a": "new", "b": "x" * 100_000})
    assert talker.ask(write({"a": "old"})) == SUCCESS
    world.write("fails", str(number))
    for _ in range(3):
        assert talker.ask(batch) == failed("internal_error")
        assert talker.ask(request("delete", targets=["a"])) == failed("internal_error")
        assert talker.ask(read("a", "b")) == results({"target": "a", "value": "old"})
    assert world.cli("set", "aws", "a", input="other").returncode == 1
    os.unlink(world.path("fails"))
    assert talker.ask(read("a", "b")) == results({"target": "a", "value": "old"})
    assert talker.ask(batch) == SUCCESS
    assert len(talker.ask(read("a", "b"))["results"]) == 2
    assert daemon.stop() == 0
    world.start()
    assert world.cli_json("vault", "check")["secrets"] == 2
    assert world.cli("get", "aws", "a").stdout == "new"
    assert "x" * 100 not in daemon.log


def test_a_folder_that_cannot_be_written_stops_the_start_and_loses_nothing(world: World, disk: SmallDisk) -> None:
    world.start().stop()
    daemon = world.start()
    assert world.cli("set", "aws", "a", input="v").returncode == 0
    daemon.stop()
    folder = world.path(".local/share")
    before = _bytes_under(folder)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    stopped = world.start(ready=False)
    assert stopped.wait() == 1
    assert "read-only" in stopped.log.lower()
    assert "Next: " in stopped.log
    assert _bytes_under(folder) == before
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    world.start()
    assert world.cli("get", "aws", "a").stdout == "v"


def _bytes_under(folder: str) -> dict[str, bytes]:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                found[name] = file.read()
    return found

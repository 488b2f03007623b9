"""A filesystem whose server is the attacker: it lies, or it never answers. Any user may mount one (fusermount3)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from attacks.lab import ASK, HERE, start, won
from daemon.requests import denied
from support.process import Process
from support.talker import Talker
from support.world import World

REFUSED = denied("identity_not_verified")


@pytest.fixture
def mounted(world: World, trusted: str) -> Iterator[Process]:
    """The liar's file is evil when it is run."""
    if shutil.which("fusermount3") is None or not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE on this machine: apt-get install fuse3")
    folder = world.path("mnt")
    os.mkdir(folder, 0o755)
    world.user.own(folder)
    evil = world.build_client("evil", "evil")
    with open(os.path.join(HERE, "liar.py"), encoding="utf-8") as file:
        script = world.write("liar.py", file.read())
    liar = world.spawn([world.python, script, folder, evil, trusted])
    try:
        liar.out.find(lambda line: line == b"mounted")
        yield liar
    finally:
        liar.kill()
        subprocess.run(["fusermount3", "-u", "-z", "-q", folder], check=False, **world.user.popen())


def naive(world: World, trusted: str) -> Process:
    """A naive broker of the same user: root itself may not look into a user's FUSE filesystem."""
    with open(os.path.join(HERE, "naive.py"), encoding="utf-8") as file:
        script = world.write("naive.py", file.read())
    broker = world.spawn([world.python, script, world.path("naive.sock"), trusted])
    broker.out.find(lambda line: line == b"listening")
    return broker


def order(liar: Process, word: str) -> int:
    """Give the liar an order; returns where its answers to later requests begin."""
    liar.feed(word.encode() + b"\n")
    return liar.out.find(lambda line: line == f"now {word}".encode()) + 1


def evil(world: World, socket: str) -> Talker:
    """The program on the liar's filesystem, started and not yet connected."""
    talker = world.talk([world.path("mnt/program"), socket, "--late"])
    talker.order("stop-reading")  # it runs: its pages are there
    talker.order("read-on")
    return talker


def test_a_filesystem_that_lies(world: World, trusted: str, mounted: Process) -> None:
    """It shows the evil program to the kernel that runs it, and the trusted one to whoever reads it afterwards."""
    naive(world, trusted)
    victims = [evil(world, world.path("naive.sock")), evil(world, world.socket)]
    order(mounted, "lie")
    assert won(victims[0].reconnect().ask(ASK))
    world.allow(world.path("bin/trusted"), ["aws"], ["aws"])
    daemon = start(world, trusted)
    assert victims[1].reconnect().ask(ASK) == REFUSED
    daemon.wait_log("lies on fuse")


def test_a_filesystem_that_never_answers(world: World, trusted: str, mounted: Process) -> None:
    """The naive broker asks it, and waits for ever. Ours knows from the kernel's own lists where the file lies."""
    naive(world, trusted)
    victims = [evil(world, world.path("naive.sock")), evil(world, world.socket)]
    daemon = start(world, trusted)
    begun = order(mounted, "hang")
    victims[0].reconnect().send(ASK)
    asked = mounted.out.find(lambda line: line.startswith(b"asked"), begun) + 1
    assert victims[1].reconnect().ask(ASK) == REFUSED
    assert won(world.talker(trusted).ask(ASK))
    daemon.wait_log("lies on fuse")
    assert mounted.out.all()[asked:] == []

"""Attacks by the numbers that /proc/PID/maps has for a file: another file is given the number, the name, or both.

A number can be free again (the file was removed), and on btrfs each subvolume has numbers of its own. A name can be
made up: in a mount namespace of his own anybody can have a file of his at any path, and load it from outside.

They need root, to make and mount a filesystem; the attacks themselves are the user's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import pytest

from attacks.lab import (
    ASK_TEXT,
    Broker,
    answer_of,
    build_asker,
    build_library,
    need_user_namespaces,
    start,
    won,
    x86_64_only,
)
from attacks.test_code import REFUSED, inject
from keychain_auth.platform.posix.ownership import only_root_writes
from support import programs, users
from support.process import Process
from support.world import World

Disk = Callable[..., str]
_OURS = "/opt"  # a folder that only root can write

# Copies of a library, until one has the number that is asked for. On btrfs in a subvolume of their own.
_TWIN = """
import fcntl, os, shutil, struct, sys
disk, number, library = sys.argv[1], int(sys.argv[2]), sys.argv[3]
BTRFS_IOC_SUBVOL_CREATE = 0x5000940E
mine = disk + "/mine"
try:
    fcntl.ioctl(os.open(disk, os.O_RDONLY), BTRFS_IOC_SUBVOL_CREATE, bytearray(struct.pack("=q4088s", 0, b"mine")))
except OSError:
    mine = disk
for at in range(1000):
    path = f"{mine}/{at}.so"
    if os.stat(shutil.copy(library, path)).st_ino == number:
        break
    os.truncate(path, 0)
else:
    sys.exit(f"none of them got {number}")
print(path)
"""


@pytest.fixture
def disk(world: World) -> Iterator[Disk]:
    """Makes a filesystem and mounts it in a folder of root's; the user may write in its folder "users"."""
    if not users.may_be_root() or not only_root_writes(_OURS):
        pytest.skip(f"needs root, to mount a filesystem, and {_OURS} that only root can write")
    folder = tempfile.mkdtemp(prefix="ka-", dir=_OURS)
    os.chmod(folder, 0o755)
    mounted = []

    def make(kind: str, mebibytes: int, *options: str) -> str:
        mkfs = shutil.which(f"mkfs.{kind}", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if mkfs is None:
            pytest.skip(f"there is no mkfs.{kind} on this machine")
        image = world.path("disk.img")
        with open(image, "wb") as file:
            file.truncate(mebibytes << 20)
        subprocess.run([mkfs, "-q", *options, image], check=True, capture_output=True)
        done = subprocess.run(["mount", "-o", "loop", image, folder], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no {kind} can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        os.mkdir(os.path.join(folder, "users"))
        world.user.own(os.path.join(folder, "users"))
        return folder

    yield make
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)
    os.rmdir(folder)


def twin(world: World, disk: str, number: int, library: str) -> str:
    """A copy of the library, which is the user's, with the number of another file of the disk."""
    words = [world.python, "-c", _TWIN, os.path.join(disk, "users"), str(number), library]
    done = subprocess.run(
        words, env=world.environment(), capture_output=True, text=True, check=False, cwd="/", **world.user.popen()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def under_the_name(world: World, evil: str, name: str) -> tuple[Process, str]:
    """A path by which the file can be loaded from outside, and that the kernel calls ``name`` then."""
    script = f'mount --bind "{evil}" "{name}" && echo ready && exec sleep 600'
    holder = world.spawn(["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script])
    holder.out.find(lambda line: line == b"ready")
    return holder, f"/proc/{holder.pid}/root{name}"


@x86_64_only
def test_a_library_with_the_number_of_the_program(world: World, disk: Disk, naive: Broker) -> None:
    """On btrfs, from a subvolume of the user's own: his file counted as the program's own code."""
    place = disk("btrfs", 128)
    program = programs.install(build_asker(world), os.path.join(place, "users", "asker"), world.user)
    world.allow(program, ["aws"], ["aws"])
    evil = twin(world, place, os.stat(program).st_ino, build_library(world, "inject"))
    naive(program)
    assert won(answer_of(inject(world, program, world.path("naive.sock"), "library", LD_PRELOAD=evil)))
    daemon = start(world)
    assert answer_of(inject(world, program, world.socket, "library", LD_PRELOAD=evil)) == REFUSED
    daemon.wait_log("libraries")
    honest = world.spawn([program, world.socket, ASK_TEXT])
    honest.feed(b"\n")
    assert won(answer_of(honest))


@x86_64_only
def test_a_library_with_the_number_that_one_of_roots_had(world: World, disk: Disk, naive: Broker) -> None:
    """The daemon has seen root's library; an upgrade removes it, and a file of the user's gets number and name."""
    need_user_namespaces(world)
    place = disk("ext4", 16)
    library = programs.install(build_library(world, "preload"), os.path.join(place, "library.so"), users.root())
    number = os.stat(library).st_ino
    program = build_asker(world)
    naive(program)
    daemon = start(world)
    honest = world.spawn([program, world.socket, ASK_TEXT], env={"LD_PRELOAD": library})
    honest.feed(b"\n")
    assert won(answer_of(honest))
    honest.end_input()
    assert honest.wait() == 0
    programs.install(build_library(world, "preload"), library, users.root())
    evil = twin(world, place, number, build_library(world, "inject"))
    _, loaded = under_the_name(world, evil, library)
    assert won(answer_of(inject(world, program, world.path("naive.sock"), "library", LD_PRELOAD=loaded)))
    assert answer_of(inject(world, program, world.socket, "library", LD_PRELOAD=loaded)) == REFUSED
    daemon.wait_log("libraries")


@x86_64_only
def test_expected_open_number_and_name_of_a_library_of_roots_on_btrfs(world: World, disk: Disk, naive: Broker) -> None:
    """Both files are there: number and name are all that maps says, and neither tells of which subvolume."""
    need_user_namespaces(world)
    place = disk("btrfs", 128)
    library = programs.install(build_library(world, "preload"), os.path.join(place, "library.so"), users.root())
    program = build_asker(world)
    evil = twin(world, place, os.stat(library).st_ino, build_library(world, "inject"))
    _, loaded = under_the_name(world, evil, library)
    naive(program)
    assert won(answer_of(inject(world, program, world.path("naive.sock"), "library", LD_PRELOAD=loaded)))
    start(world)
    assert answer_of(inject(world, program, world.socket, "library", LD_PRELOAD=evil)) == REFUSED
    assert won(answer_of(inject(world, program, world.socket, "library", LD_PRELOAD=loaded)))

"""What a process has mapped to run, and what strict mode sees: against real processes."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator

import pytest

from keychain_auth.identity.attest import LOCAL_FILESYSTEMS
from keychain_auth.identity.facts import Code
from keychain_auth.platform.base import NeedsThread
from keychain_auth.platform.linux import strict
from keychain_auth.platform.linux.filesystem import UNKNOWN, MountTable
from keychain_auth.platform.linux.mappings import Mappings
from keychain_auth.platform.linux.procfs import Process
from keychain_auth.platform.linux.syscalls import statx_descriptor
from keychain_auth.platform.posix.ownership import only_root_writes
from support.process import Process as Started
from support.world import World, filesystem_of

HERE = os.path.dirname(os.path.abspath(__file__))
MAPPER, LIBRARY = os.path.join(HERE, "c", "mapper.c"), os.path.join(HERE, "c", "library.c")


@pytest.fixture
def mappings() -> Iterator[tuple[Mappings, MountTable]]:
    mounts = MountTable()
    yield Mappings(mounts, LOCAL_FILESYSTEMS | {filesystem_of("/usr/lib")}), mounts
    mounts.close()


@pytest.fixture
def program(world: World) -> str:
    return world.build_client("mapper", source=MAPPER)


@pytest.fixture
def library(world: World) -> str:
    return world.build_library("liblibrary.so", LIBRARY)


def started(world: World, *words: str) -> Started:
    process = world.spawn(words)
    process.out.find(lambda line: line == b"ready")
    return process


def code_of(looks: tuple[Mappings, MountTable], pid: int) -> Code:
    mappings, mounts = looks
    process = Process(pid)
    try:
        fd = process.open_executable()
        try:
            about = statx_descriptor(fd)
        finally:
            os.close(fd)
        mount, path = mounts.mount(about.mount_id), process.executable_path()
        return mappings.code_of(process.folder, mount, about.inode, path, patient=True)
    finally:
        process.close()


def test_a_plain_program_maps_itself_and_what_root_installed(
    world: World, mappings: tuple[Mappings, MountTable], program: str
) -> None:
    code = code_of(mappings, started(world, program, "nothing").pid)
    assert code == Code(program=True)


def test_a_program_that_others_have_mapped_as_roots_is_still_its_own(
    world: World, mappings: tuple[Mappings, MountTable], program: str
) -> None:
    """The loader is a file of root's in every process, and the program itself of one that runs it by hand."""
    loader = os.path.realpath("/lib64/ld-linux-x86-64.so.2")
    if not os.path.exists(loader):
        pytest.skip(f"no {loader} on this machine")
    assert code_of(mappings, started(world, program, "nothing").pid).files == ()
    assert code_of(mappings, started(world, loader, program, "nothing").pid).program


def test_a_library_of_the_user_is_seen(
    world: World, mappings: tuple[Mappings, MountTable], program: str, library: str
) -> None:
    for words in ((program, "library", library), ("/usr/bin/env", f"LD_PRELOAD={library}", program, "nothing")):
        code = code_of(mappings, started(world, *words).pid)
        assert code.program
        assert [file.path for file in code.files] == [library]
        assert code.files[0].inode == os.stat(library).st_ino


def test_a_library_that_was_removed_since_is_still_seen(
    world: World, mappings: tuple[Mappings, MountTable], program: str, library: str
) -> None:
    process = started(world, program, "library", library)
    os.unlink(library)
    assert [file.path for file in code_of(mappings, process.pid).files] == [f"{library} (deleted)"]


@pytest.mark.parametrize("what", ["anonymous", "shared", "memfd", "named"])
def test_code_that_comes_from_no_file_is_seen(
    world: World, mappings: tuple[Mappings, MountTable], program: str, what: str
) -> None:
    assert code_of(mappings, started(world, program, what).pid) == Code(program=True, in_memory=True)


def test_a_file_just_behind_memory_without_a_name_is_seen(
    world: World, mappings: tuple[Mappings, MountTable], program: str, library: str
) -> None:
    """The line of a mapping without a name ends in a space: whoever takes that and the newline for what separates the
    fields takes the next line for its name, and does not see what is mapped there."""
    process = started(world, program, "behind", library)
    with open(f"/proc/{process.pid}/maps", "rb") as file:
        lines = re.findall(rb"^\S+ ..x. \S+ \S+ \d+\s*(.*)$", file.read(), re.MULTILINE)
    assert not any(line == library.encode() for line in lines)  # a naive look
    code = code_of(mappings, process.pid)
    assert code.in_memory
    assert [file.path for file in code.files] == [library]


def test_many_mappings_are_for_a_thread(world: World, mappings: tuple[Mappings, MountTable], program: str) -> None:
    process = Process(started(world, program, "many").pid)
    try:
        with pytest.raises(NeedsThread):
            mappings[0].code_of(process.folder, UNKNOWN, 0, "", patient=False)
        assert not mappings[0].code_of(process.folder, UNKNOWN, 0, "", patient=True).program
    finally:
        process.close()


def test_what_root_owns_in_a_folder_of_the_user_is_not_roots(world: World) -> None:
    assert only_root_writes("/usr/bin/env")
    assert not only_root_writes("/usr/bin/no such file")
    assert not only_root_writes(world.write("bin/mine", b""))
    if os.geteuid() == 0:
        path = world.write("bin/roots", b"")
        os.chown(path, 0, 0)
        assert not only_root_writes(path)  # its folder is the user's, who can put another file there


class TestStrict:
    def test_patched_code_is_seen_and_other_writes_are_not(self, world: World, program: str) -> None:
        for what, patched in (("nothing", ""), ("patched", program), ("anonymous", "")):
            process = Process(started(world, program, what).pid)
            try:
                assert strict.patched_file(process.folder) == patched, what
            finally:
                process.close()

    def test_other_holders_of_a_socket_are_found(self, world: World, program: str) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            number = os.fstat(theirs.fileno()).st_ino
            assert strict.holders(number, os.getpid()) == ()
            holder = world.spawn([program, "nothing"], pass_fds=(theirs.fileno(),))
            holder.out.find(lambda line: line == b"ready")
            assert strict.holders(number, os.getpid()) == (holder.pid,)

    def test_a_process_without_tracer(self, world: World, program: str) -> None:
        process = Process(started(world, program, "nothing").pid)
        try:
            assert not strict.is_traced(process.folder)
        finally:
            process.close()


@pytest.mark.skipif(
    os.geteuid() != 0 or not only_root_writes("/opt") or os.stat("/opt").st_dev != os.stat("/").st_dev,
    reason="needs root, and a folder /opt on the same filesystem as /",
)
def test_the_number_of_a_library_of_roots_gets_no_new_owner(
    world: World, mappings: tuple[Mappings, MountTable], program: str, library: str
) -> None:
    """What was seen once counts as root's also after an upgrade removed it: so nobody else may be given its number."""
    folder = tempfile.mkdtemp(prefix="ka-", dir="/opt")
    os.chmod(folder, 0o755)
    try:
        path = os.path.join(folder, "library.so")
        shutil.copy(library, path)
        process = started(world, program, "library", path)
        assert code_of(mappings, process.pid) == Code(program=True)
        number = os.stat(path).st_ino
        os.unlink(path)
        assert code_of(mappings, process.pid) == Code(program=True)
        process.kill()
        later = [os.path.join(folder, str(at)) for at in range(100)]
        for name in later:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
        assert number not in [os.stat(name).st_ino for name in later]
    finally:
        shutil.rmtree(folder)

"""keychain-auth-guarded: what programs of the same user do to a client. They win without it, and lose with it.

Only a daemon of the whole machine can look at such a client, so these run against one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from attacks.lab import MAY_NOT_TRACE, may_trace, source
from daemon.requests import SUCCESS, read, results, write
from support import programs, users
from support.programs import ROOT
from support.system import SystemWorld
from support.talker import Talker
from support.users import Account
from support.world import World

SECRET = "what only the guarded program has"
GROUP = users.THIRD
LAUNCHER = os.path.join(ROOT, "src", "keychain_auth", "platform", "linux", "guarded.c")
pytestmark = [
    pytest.mark.skipif(not users.may_be_root(), reason="only root can install a setgid program"),
    pytest.mark.skipif(not may_trace(), reason=MAY_NOT_TRACE),
]

# Each of these is run by the user whose client it is, with the client's pid, and says "won" or why not.
_PEEK = """
import ctypes, os, re, sys
pid, secret = int(sys.argv[2]), sys.argv[3].encode()
libc = ctypes.CDLL(None, use_errno=True)

def memory():
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if " rw" in line:
                mem.seek(start)
                if secret in mem.read(end - start):
                    return True

def write():
    with open(f"/proc/{pid}/mem", "r+b", 0):
        return True

def seize():
    if libc.ptrace(0x4206, pid, 0, 0) == 0:
        return True
    raise OSError(ctypes.get_errno(), "ptrace")

def descriptor():
    fd = libc.syscall(438, os.pidfd_open(pid), 3, 0)  # pidfd_getfd
    if fd >= 0:
        return True
    raise OSError(ctypes.get_errno(), "pidfd_getfd")

def environment():
    with open(f"/proc/{pid}/environ", "rb") as file:
        return bool(file.read())

try:
    print("won" if globals()[sys.argv[1]]() else "lost: nothing found", flush=True)
except OSError as error:
    print(f"lost: {error.strerror} {error.errno}", flush=True)
"""
WAYS = ("memory", "write", "seize", "descriptor", "environment")


@pytest.fixture
def machine(world: World) -> Iterator[SystemWorld]:
    users.third()  # whose group it is
    made = SystemWorld(world)
    made.settings(f'guard_group = "{GROUP}"\n')
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def launcher(machine: SystemWorld) -> str:
    third = users.third()
    assert third is not None
    path = programs.install(programs.compiled(LAUNCHER), machine.path("bin", "keychain-auth-guarded"), users.root())
    os.chown(path, 0, third.gid)
    os.chmod(path, 0o2755)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        pytest.skip("this file system is mounted nosuid")
    return path


@pytest.fixture
def client(machine: SystemWorld) -> str:
    """A program that must be guarded for one service, and need not be for another."""
    program = machine.program("client")
    machine.allow(machine.world.entry(program, ["aws"], ["aws"], guarded=True))
    return program


def attack(machine: SystemWorld, account: Account, way: str, victim: Talker) -> str:
    """What the attack says."""
    words = [machine.world.python, "-c", _PEEK, way, str(victim.pid), SECRET]
    process = machine.spawn(words, account)
    return process.out[process.out.find(lambda line: True)].decode()


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_is_not_guarded_is_an_open_book(
    machine: SystemWorld, client: str, stranger: Account, way: str
) -> None:
    machine.allow(machine.world.entry(client, ["aws"], ["aws"]))
    machine.start()
    victim = machine.talker(client, stranger)
    assert victim.ask(write({"key": SECRET})) == SUCCESS
    assert victim.ask(read("key")) == results({"target": "key", "value": SECRET})
    assert attack(machine, stranger, way, victim) == "won"


@pytest.mark.parametrize("way", WAYS)
def test_a_guarded_client_is_closed_to_its_own_user(
    machine: SystemWorld, launcher: str, client: str, stranger: Account, way: str
) -> None:
    machine.start()
    victim = machine.talker(client, stranger, launcher)
    assert victim.ask(write({"key": SECRET})) == SUCCESS
    assert victim.ask(read("key")) == results({"target": "key", "value": SECRET})
    refused = ("lost: Permission denied 13", "lost: ptrace 1", "lost: pidfd_getfd 1")
    assert attack(machine, stranger, way, victim) in refused


def test_a_guarded_entry_serves_no_other(machine: SystemWorld, client: str, stranger: Account) -> None:
    daemon = machine.start()
    assert machine.talker(client, stranger).ask(read("key"))["reason"] == "identity_not_verified"
    assert "keychain-auth-guarded" in daemon.wait_log("refused")


def test_root_says_who_must_be_guarded(machine: SystemWorld, launcher: str, stranger: Account) -> None:
    """The two commands of docs/operations.md."""
    program = machine.program("dbtool")
    machine.start()
    assert machine.cli("register", program, "--user", stranger.name, "--guarded").returncode == 0
    assert machine.cli("authorize", program, "aws").returncode == 0
    assert machine.talker(program, stranger).ask(read("key"))["reason"] == "identity_not_verified"
    assert machine.talker(program, stranger, launcher).ask(read("key")) == results()


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_AUDIT"])
def test_a_library_from_the_environment(
    machine: SystemWorld, launcher: str, client: str, stranger: Account, variable: str
) -> None:
    library = machine.program("evil.so", source=source("preload"), flags=("-shared", "-fPIC"))
    machine.start()

    def mapped(*before: str) -> bool:
        victim = machine.spawn([*before, client, machine.socket], stranger, env={variable: library})
        victim.out.find(lambda line: line.startswith(b"#"))
        with open(f"/proc/{victim.pid}/maps", encoding="utf-8") as maps:
            return "evil.so" in maps.read()

    if variable == "LD_PRELOAD":
        assert mapped()
    assert not mapped(launcher)


_TRACED = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    libc.ptrace(0, 0, 0, 0)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print("exit", os.WEXITSTATUS(status), flush=True)
        break
    libc.ptrace(7, child, 0, 0)
"""


def test_a_launcher_that_is_traced_from_its_start_guards_nothing_and_says_so(
    machine: SystemWorld, launcher: str, stranger: Account
) -> None:
    traced = machine.spawn([machine.world.python, "-c", _TRACED, launcher, "/bin/true"], stranger)
    assert traced.wait() == 0
    assert traced.out.all() == [b"exit 126"]
    assert "is traced" in traced.err.text()


def test_without_new_privileges_it_guards_nothing_and_says_so(
    machine: SystemWorld, launcher: str, stranger: Account
) -> None:
    setpriv = shutil.which("setpriv") or pytest.skip("setpriv is not here (Debian: util-linux)")
    done = machine.spawn([setpriv, "--no-new-privs", launcher, "/bin/true"], stranger)
    assert done.wait() == 126


_FORGE = "import os, sys; os.setregid(os.getegid(), os.getegid()); os.execv(sys.argv[1], sys.argv[1:])"


def test_a_program_that_takes_the_group_for_its_own_guards_nothing(
    machine: SystemWorld, launcher: str, client: str, stranger: Account
) -> None:
    """With the group as its real one, what it executes has the group, but is dumpable and obeys LD_PRELOAD."""
    machine.start()
    forged = machine.talker(client, stranger, launcher, machine.world.python, "-c", _FORGE)
    with open(f"/proc/{forged.pid}/status", encoding="ascii") as lines:
        gids = next(line.split()[1:4] for line in lines if line.startswith("Gid:"))
    assert set(gids) == {str(os.stat(launcher).st_gid)}
    assert forged.ask(read("key"))["reason"] == "identity_not_verified"


_DROP = "import os, sys; os.setregid(os.getgid(), os.getgid()); os.execv(sys.argv[1], sys.argv[1:])"


def test_a_program_that_gives_the_group_back_guards_nothing(
    machine: SystemWorld, launcher: str, client: str, stranger: Account
) -> None:
    machine.start()
    dropped = machine.talker(client, stranger, launcher, machine.world.python, "-c", _DROP)
    assert dropped.ask(read("key"))["reason"] == "identity_not_verified"

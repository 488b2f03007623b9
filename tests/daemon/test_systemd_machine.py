"""``install --system`` with a real systemd as the machine's first process, on a machine of its own: namespaces.

What is thrown away is put in the way of what is real: /etc is a copy, /run, /opt, /var/lib, /var/log and what installs
write of /usr/local are empty. The daemon runs there as its own user, by the units as they are, and so do its clients,
for it serves only programs that see its mounts and processes.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from daemon.requests import SUCCESS, read, results, write
from support import programs, users
from support.installation import copy_with_needs
from support.lines import until
from support.systemd import NEEDS, SYSTEMD, ControlGroups, answering
from support.talker import Talker
from support.users import Account
from support.world import World

PYTHON = "/usr/bin/python3"
pytestmark = [
    *NEEDS,
    pytest.mark.skipif(not os.path.exists(PYTHON), reason=f"there is no {PYTHON} to install from"),
]
PROGRAM, GUARDED, GROUP = "/opt/keychain-auth/bin/talker", "/usr/local/bin/keychain-auth-guarded", "4242"
CAPABILITIES = (1 << 2) | (1 << 19) | (1 << 28)  # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_LEASE
# Nothing of the real machine is started: a folder of units with no more than what boots. The daemon's own units are put
# where they belong, and found there.
_BOOT = """
set -e
for group in $GROUPS_HERE; do mkdir -p "$group"; echo $$ > "$group/cgroup.procs"; done
exec unshare --pid --fork --kill-child --mount --ipc --uts --cgroup --propagation private /bin/sh -ec '
mount -t proc proc /proc
for folder in /run /opt /var/lib /var/log /usr/local/bin /usr/local/share; do
    mkdir -p "$folder"; mount -t tmpfs -o mode=755 tmpfs "$folder"
done
# Locks and new versions of passwd and group come and go there; what is copied without them is whole.
cp -a /etc /opt/etc || test -s /opt/etc/passwd; mount --bind /opt/etc /etc
rm -rf /etc/systemd/system /etc/sysusers.d /etc/tmpfiles.d
mkdir -p /etc/systemd/system /run/boot /opt/keychain-auth
cp -a "$MADE/." /opt/keychain-auth
for name in sysinit basic sockets shutdown multi-user default; do
    printf "[Unit]\\nDescription=%s\\n" "$name" > "/run/boot/$name.target"
done
exec "$SYSTEMD" --system --unit=default.target'
"""


class Machine:
    """A booted systemd, and what is installed on it from /opt/keychain-auth."""

    def __init__(self, world: World, made: str) -> None:
        self._world = world
        self._groups = ControlGroups(world, ("systemd", "unified", "memory", "pids", "devices"))
        env = {
            "SYSTEMD": SYSTEMD, "MADE": made, "GROUPS_HERE": " ".join(self._groups.folders), "container": "test",
            "SYSTEMD_UNIT_PATH": "/run/boot:/etc/systemd/system", "SYSTEMD_LOG_TARGET": "console",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }  # fmt: skip
        self.process = world.spawn(["/bin/sh", "-c", _BOOT], env=env, account=users.root(), cwd="/")
        self._first = 0

    def answers(self) -> bool:
        """Whether it can be asked yet. Raises AssertionError when it has ended."""
        assert self.process.returncode is None, self.process.err.text()
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as children:
            self._first = int((children.read().split() or ["0"])[0])
        return self._first != 0 and "PATH=" in self.run("systemctl", "show-environment", code=None)

    def inside(self, *words: str) -> list[str]:
        """Words that run these on it."""
        return ["nsenter", f"--target={self._first}", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--", *words]

    def run(self, *words: str, code: int | None = 0, given: str = "") -> str:
        """What root's command prints."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            self.inside(*words), env=env, cwd="/", input=given, capture_output=True, text=True, check=False, timeout=60
        )
        assert code is None or done.returncode == code, done.stderr or done.stdout
        return done.stdout

    def keychain_auth(self, *words: str, code: int = 0, given: str = "") -> str:
        """A command of ours, as root types it."""
        return self.run(
            "/opt/keychain-auth/bin/python", "-I", "-m", "keychain_auth.cli.main", *words, code=code, given=given
        )

    def shows(self, unit: str, field: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", field, unit).strip()

    def talker(self, account: Account, *before: str, group: str = GROUP) -> Talker:
        """A client of that user, who is also in that group."""
        ids = f"--reuid={account.uid}", f"--regid={account.gid}", f"--groups={group}"
        words = self.inside("setpriv", *ids, *before, PROGRAM, "/run/keychain-auth/agent.sock")
        talker = Talker(words, self._world.environment(), users.root(), "/")
        self._world._processes.append(talker)
        return talker

    def close(self) -> None:
        """End it, and with the first process everything."""
        if self._first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
        self.process.close()
        self._groups.remove()


@pytest.fixture
def machine(world: World) -> Iterator[Machine]:
    made = world.path("made")
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", made], check=True)
    [packages] = glob.glob(f"{made}/lib/python3.*/site-packages")
    source = os.path.join(programs.ROOT, "src", "keychain_auth")
    shutil.copytree(source, os.path.join(packages, "keychain_auth"), ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("msgspec", "cryptography", "click", "rich"):
        copy_with_needs(name, packages)
    programs.install(programs.compiled(programs.TALKER), f"{made}/bin/talker", users.root())
    os.chmod(f"{made}/bin/talker", 0o755)
    with answering(Machine(world, made), "systemd does not boot in namespaces here") as machine:
        yield machine


def test_a_daemon_for_all_users_by_its_units(machine: Machine, stranger: Account) -> None:
    bob = users.third()
    assert bob is not None
    machine.run("groupadd", "--gid", GROUP, "developers")
    assert "The daemon is running." in machine.keychain_auth("install", "--system", "--group", "developers")
    service = "keychain-auth.service"
    assert machine.shows(service, "ActiveState") == "active"
    # Of the daemon's own user: three capabilities and nothing else, and files that only it can read.
    status = machine.run("sh", "-c", f"cat /proc/{machine.shows(service, 'MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    owner = machine.run("id", "-u", "keychain-auth").strip()
    assert fields["Uid"].split() == [owner] * 4
    assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {CAPABILITIES}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "0")
    assert machine.run("stat", "-c", "%a %u", "/var/lib/keychain-auth/vault.key").split() == ["600", owner]
    assert machine.run("stat", "-c", "%a %U:%G", GUARDED).strip() == ("2755 root:keychain-auth-clients")

    # The programs of this machine lie on memory, which is to be allowed.
    setting = "printf 'filesystems = [\"tmpfs\"]\\n' > /etc/keychain-auth/daemon.toml"
    machine.run("setpriv", "--reuid=keychain-auth", "--regid=keychain-auth", "--clear-groups", "sh", "-c", setting)
    pid = machine.shows(service, "MainPID")
    machine.keychain_auth("--system", "restart")
    assert machine.shows(service, "MainPID") == pid
    machine.keychain_auth("--system", "register", PROGRAM)
    machine.keychain_auth("--system", "authorize", PROGRAM, "aws")
    anns, bobs = machine.talker(stranger).connected(), machine.talker(bob).connected()
    assert anns.ask(write({"key": "of ann"})) == SUCCESS
    assert bobs.ask(read("key")) == results()
    outside = machine.talker(bob, group=str(bob.gid))
    assert "Permission denied" in outside.event(lambda text: text.startswith("failed"))
    machine.keychain_auth("--system", "register", PROGRAM, "--user", stranger.name, "--guarded")
    assert anns.ask(read("key"))["reason"] == "identity_not_verified"
    assert machine.talker(bob, GUARDED).connected().ask(read("key"))["reason"] == "user_not_allowed"
    guarded = machine.talker(stranger, GUARDED).connected()
    assert guarded.ask(read("key")) == results({"target": "key", "value": "of ann"})

    # Killed, it is started anew by systemd, which kept the sockets.
    machine.run("systemctl", "kill", "--signal=KILL", service)
    until(lambda: machine.shows(service, "MainPID") not in ("0", pid), "systemd starts the daemon anew")
    assert machine.talker(stranger, GUARDED).connected().ask(read("key"))["status"] == "success"
    assert machine.keychain_auth("--system", "get", f"@{stranger.uid}:aws", "key") == "of ann"

    machine.keychain_auth("uninstall", "--system")
    assert machine.shows(service, "LoadState") == "not-found"
    assert machine.run("ls", "/run/keychain-auth").split() == []
    assert "vault.db" in machine.run("ls", "/var/lib/keychain-auth")

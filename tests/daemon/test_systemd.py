"""``install`` with a real service manager: systemd, as the manager of the user under test.

systemd wants to find itself booted (sd_booted(3)), and a control group of its own. Root can give it both: in a mount
namespace where /run is empty but for one folder, and by a group below the one that is there. Everything of the test
then runs in that namespace, for the daemon serves only programs that see its mounts.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from support import users
from support.lines import until
from support.process import Process
from support.systemd import NEEDS, SYSTEMD, ControlGroups, answering
from support.world import World

pytestmark = NEEDS
_START = """
mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/systemd/system || exit 1
for group in $GROUPS_HERE; do
    mkdir -p "$group" && chown -R "$OWNER:$GROUP" "$group" && echo $$ > "$group/cgroup.procs" || exit 1
done
exec setpriv --reuid="$OWNER" --regid="$GROUP" --clear-groups "$SYSTEMD" --user
"""


class Manager:
    """A running ``systemd --user`` of the world's user."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._groups = ControlGroups(world, ("systemd", "unified"))
        env = {
            "SYSTEMD": SYSTEMD, "OWNER": str(world.user.uid), "GROUP": str(world.user.gid),
            "GROUPS_HERE": " ".join(self._groups.folders), "SYSTEMD_LOG_TARGET": "console",
        }  # fmt: skip
        words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", _START]
        self.process: Process = world.spawn(words, env=env, account=users.root(), cwd="/")

    def answers(self) -> bool:
        """Whether it can be asked yet. Raises AssertionError when it has ended."""
        assert self.process.returncode is None, self.process.err.text()
        if not os.path.exists(self._world.path("run/systemd/private")):
            return False
        return "PATH=" in self.run("systemctl", "--user", "show-environment", code=None)

    def run(self, *words: str, code: int | None = 0, given: str = "") -> str:
        """What the command prints, run where the manager runs."""
        inside = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", "setpriv", f"--reuid={self._world.user.uid}",
                  f"--regid={self._world.user.gid}", "--clear-groups", *words]  # fmt: skip
        done = subprocess.run(
            inside, env=self._world.environment(), input=given, capture_output=True, text=True, check=False, timeout=60,
            cwd="/",
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stderr or done.stdout
        return done.stdout

    def keychain_auth(self, *words: str, code: int = 0, given: str = "") -> str:
        """A command of ours."""
        return self.run(self._world.python, "-P", "-m", "keychain_auth.cli.main", *words, code=code, given=given)

    def shows(self, unit: str, field: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "--user", "show", "--value", "-p", field, unit).strip()

    def close(self) -> None:
        """End it and all that it started."""
        if self.process.returncode is None:
            self.run("systemctl", "--user", "exit", code=None)
            with contextlib.suppress(AssertionError):
                self.process.wait()
        self.process.close()
        self._groups.remove()


@pytest.fixture
def manager(world: World) -> Iterator[Manager]:
    with answering(Manager(world), "systemd does not run as a user's manager here") as manager:
        yield manager


def test_systemd_keeps_the_sockets_whatever_becomes_of_the_daemon(world: World, manager: Manager) -> None:
    told = manager.keychain_auth("install")
    assert "The daemon is running." in told
    service, socket = "keychain-auth.service", "keychain-auth.socket"
    assert manager.shows(service, "ActiveState") == "active"
    assert manager.shows(socket, "ActiveState") == "active"
    manager.keychain_auth("set", "app", "key", given="kept")
    assert manager.keychain_auth("get", "app", "key") == "kept"

    # Stopped, it is started by whoever asks.
    manager.run("systemctl", "--user", "stop", service)
    assert manager.shows(service, "ActiveState") == "inactive"
    assert os.path.exists(world.socket)
    assert manager.keychain_auth("get", "app", "key") == "kept"

    # An upgrade: the same process, which systemd never saw stop.
    pid = manager.shows(service, "MainPID")
    manager.keychain_auth("restart")
    assert manager.shows(service, "MainPID") == pid
    assert manager.shows(service, "NRestarts") == "0"

    # Killed, it is started anew, and the socket was never away.
    inode = os.stat(world.socket).st_ino
    os.kill(int(pid), 9)
    until(lambda: manager.shows(service, "MainPID") not in ("0", pid), "systemd starts the daemon anew")
    assert manager.keychain_auth("get", "app", "key") == "kept"
    assert os.stat(world.socket).st_ino == inode

    done = manager.keychain_auth("uninstall")
    assert "Could not" not in done
    assert manager.shows(service, "LoadState") == "not-found"
    assert not os.path.exists(world.socket)
    assert not os.path.exists(world.path(".config/systemd"))
    assert os.path.exists(world.path(".local/share/keychain-auth/vault.db"))

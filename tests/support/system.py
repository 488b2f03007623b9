"""A daemon of the whole machine, below a folder of its own: its user is the one under test, its clients are others.

Only root can make it, as in production. Its binaries are what this checkout has; systemd is not needed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from support import programs, users
from support.daemon import Daemon
from support.process import Process
from support.talker import Talker
from support.world import World


class SystemWorld:
    """``world`` is where the daemon's user runs things; ``root`` is what stands for / in the daemon's paths."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = tempfile.mkdtemp(prefix="ka-sys-", dir=os.path.dirname(world.home))
        os.chmod(self.root, 0o755)
        for name in ("etc", "var", "var/lib", "var/log", "run", "bin"):
            os.mkdir(self.path(name), 0o755)
        for name in ("etc", "var/lib", "var/log"):
            os.mkdir(self.path(name, "keychain-auth"), 0o700)
            world.user.own(self.path(name, "keychain-auth"))
        self.socket = self.path("run/keychain-auth/agent.sock")
        self.policy = self.path("etc/keychain-auth/config.json")
        self._started: list[Process] = []
        self.settings("")

    def path(self, *names: str) -> str:
        """An absolute path below the root."""
        return os.path.join(self.root, *names)

    def settings(self, toml: str) -> None:
        """Replace daemon.toml."""
        if self.world.filesystem not in ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs"):
            toml = f'filesystems = ["{self.world.filesystem}"]\n{toml}'
        self._write("daemon.toml", toml)

    def _write(self, name: str, text: str) -> None:
        path = self.path("etc/keychain-auth", name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(f"{path}.new", 0o600)
        self.world.user.own(f"{path}.new")
        os.rename(f"{path}.new", path)

    def allow(self, *entries: Mapping[str, Any], services: Sequence[Mapping[str, Any]] = ()) -> None:
        """Replace config.json."""
        self._write(
            "config.json",
            json.dumps({"protocol_version": "1", "registered_binaries": list(entries), "services": list(services)}),
        )

    def start(self) -> Daemon:
        """Start the daemon as root does, and wait until it listens."""
        words = [self.world.python, "-m", "keychain_auth.cli.main", "--system", "--root", self.root, "start"]
        daemon = Daemon(words, self.world.environment(), users.root(), self.socket)
        self._started.append(daemon)
        return daemon.wait_ready()

    def cli(self, *arguments: str, account: users.Account | None = None, **keywords: Any) -> Any:
        """A command of root's about this daemon."""
        return self.world.cli("--system", "--root", self.root, *arguments, account=account or users.root(), **keywords)

    def program(self, name: str, variant: str = "plain", source: str = programs.TALKER, **more: Any) -> str:
        """Compile a C program into a folder of root's that everybody may enter."""
        program = programs.compiled(source, variant, tuple(more.get("flags", ())))
        path = programs.install(program, self.path("bin", name), users.root())
        os.chmod(path, 0o755)
        return path

    def talker(self, program: str, account: users.Account, *before: str, socket: str = "") -> Talker:
        """A client of ``account``, connected."""
        talker = Talker([*before, program, socket or self.socket], self.world.environment(), account, "/")
        self._started.append(talker)
        return talker.connected()

    def asking(self, request: Mapping[str, Any], program: str, account: users.Account) -> Talker:
        """A client that connects and sends ``request`` in one go, as a stranger has to."""
        talker = Talker([program, self.socket, "--late"], self.world.environment(), account, "/")
        self._started.append(talker)
        return talker.begin(request)

    def spawn(self, words: Sequence[str], account: users.Account, env: Mapping[str, str] | None = None) -> Process:
        """Any program, as ``account``."""
        process = Process(words, self.world.environment(env), account)
        self._started.append(process)
        return process

    def audit(self) -> list[dict[str, Any]]:
        """The record."""
        with open(self.path("var/log/keychain-auth/audit.log"), encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def close(self) -> None:
        """End everything, remove everything."""
        logs = []
        for process in reversed(self._started):
            process.close()
            if isinstance(process, Daemon) and "Traceback" in process.log:
                logs.append(process.log)
        shutil.rmtree(self.root, ignore_errors=True)
        assert not logs, logs

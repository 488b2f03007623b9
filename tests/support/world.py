"""A throwaway home with everything that a test of the whole needs: daemon, command line, policy, programs.

``World.close`` kills every process that was started in it, then looks through /proc for any that got away, and
fails if one did or if a daemon ended by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from support import programs, strays, users
from support.daemon import Daemon
from support.installation import installation_for
from support.lines import PATIENCE
from support.process import Process
from support.talker import Talker

_MARK = "KEYCHAIN_AUTH_WORLD"
# Where the daemon trusts executables by default. A container's /tmp may be overlay or tmpfs: then it has to be told.
_LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs"))


class World:
    """One user's home (0700, directly under the temporary folder: a socket path has 107 bytes at most)."""

    def __init__(self) -> None:
        self.user = users.owner()
        self.installation = installation_for(self.user)
        self.python = self.installation.python
        base = _base_folder()
        self.home = tempfile.mkdtemp(prefix="ka-", dir=base)
        self.user.own(self.home)
        self.filesystem = filesystem_of(self.home)
        for name in ("bin", "run", "tmp", ".config", ".local", ".local/share", ".cache"):
            self._make_folder(os.path.join(self.home, name))
        self.env = {
            "HOME": self.home, "USER": self.user.name, "LOGNAME": self.user.name, "LANG": "C.UTF-8",
            "PATH": "/usr/bin:/bin", "TMPDIR": self.path("tmp"), _MARK: self.home,
            "XDG_RUNTIME_DIR": self.path("run"), "XDG_CONFIG_HOME": self.path(".config"),
            "XDG_DATA_HOME": self.path(".local/share"), "XDG_CACHE_HOME": self.path(".cache"),
            "PYTHONFAULTHANDLER": "1", **dict(self.installation.env),
        }  # fmt: skip
        self.config_dir = self.path(".config/keychain-auth")
        self.data_dir = self.path(".local/share/keychain-auth")
        self.socket = self.path("run/keychain-auth/agent.sock")
        self._processes: list[Process] = []
        self.write_settings("")

    # --- files ------------------------------------------------------------------------------------

    def path(self, *names: str) -> str:
        """An absolute path under the home."""
        return os.path.join(self.home, *names)

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> str:
        """A file under the home, owned by the user, replaced in one step; returns its path."""
        path = self.path(name)
        self._make_folder(os.path.dirname(path))
        data = content.encode() if isinstance(content, str) else content
        fresh = f"{path}.new"
        with open(fresh, "wb") as file:
            file.write(data)
        os.chmod(fresh, mode)
        self.user.own(fresh)
        os.rename(fresh, path)
        return path

    def _make_folder(self, path: str) -> None:
        if not os.path.isdir(path):
            self._make_folder(os.path.dirname(path))
            os.mkdir(path, 0o700)
            self.user.own(path)

    # --- policy, queue, audit ---------------------------------------------------------------------

    @property
    def policy_path(self) -> str:
        """Where config.json is."""
        return os.path.join(self.config_dir, "config.json")

    def write_policy(self, policy: Mapping[str, Any]) -> None:
        """Replace config.json."""
        self.write(".config/keychain-auth/config.json", json.dumps(policy, indent=2))

    def write_settings(self, toml: str) -> None:
        """Replace daemon.toml, which a daemon reads at its start; where it needs to, it allows our filesystem."""
        if self.filesystem not in _LOCAL and "filesystems" not in toml:
            toml = f'filesystems = ["{self.filesystem}"]\n{toml}'
        if toml:
            self.write(".config/keychain-auth/daemon.toml", toml)

    def read_policy(self) -> dict[str, Any]:
        """config.json as it is; an empty policy if there is none."""
        try:
            with open(self.policy_path, encoding="utf-8") as file:
                return dict(json.load(file))
        except FileNotFoundError:
            return {"protocol_version": "1", "registered_binaries": []}

    def entry(
        self, path: str, read: Sequence[str] = (), write: Sequence[str] = (), search: bool = False, **more: Any
    ) -> dict[str, Any]:
        """A policy entry for the program as it is now on disk; ``more`` are further fields."""
        return {
            "path": os.path.realpath(path), "hash": sha256_of(path), "registered_at": "2026-05-21T12:00:00Z",
            "allowed_read_services": list(read), "allowed_write_services": list(write), "can_search": search,
            **more,
        }  # fmt: skip

    def allow(
        self, path: str, read: Sequence[str] = (), write: Sequence[str] = (), search: bool = False, **more: Any
    ) -> None:
        """Put the program into the policy by hand, in place of an older entry for the same path."""
        policy = self.read_policy()
        others = [old for old in policy["registered_binaries"] if old["path"] != os.path.realpath(path)]
        policy["registered_binaries"] = [*others, self.entry(path, read, write, search, **more)]
        self.write_policy(policy)

    def pending(self) -> list[dict[str, Any]]:
        """pending.json; empty if there is none."""
        try:
            with open(os.path.join(self.config_dir, "pending.json"), encoding="utf-8") as file:
                return list(json.load(file))
        except FileNotFoundError:
            return []

    def audit(self) -> list[dict[str, Any]]:
        """The lines of audit.log; empty if there is none."""
        try:
            with open(os.path.join(self.data_dir, "audit.log"), encoding="utf-8") as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return []

    def assert_nowhere(self, *secrets: str) -> None:
        """No file of the home and no log of a daemon contains any of these values in the clear."""
        for secret in secrets:
            for folder, _, names in os.walk(self.home):
                for name in names:
                    path = os.path.join(folder, name)
                    if os.path.isfile(path) and not path.startswith(self.path("bin")):
                        with open(path, "rb") as file:
                            assert secret.encode() not in file.read(), f"a value stands in {path}"
            for process in self._processes:
                if isinstance(process, Daemon):
                    assert secret not in process.log, "a value stands in the log of the daemon"

    # --- processes --------------------------------------------------------------------------------

    def environment(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """The environment of a process here; None takes a variable away."""
        merged: dict[str, str | None] = {**self.env, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def start(
        self,
        *arguments: str,
        socket: str | None = "",
        env: Mapping[str, str | None] | None = None,
        ready: bool = True,
        before: Sequence[str] = (),
    ) -> Daemon:
        """Start a daemon and wait until it listens (unless ``ready`` is False). ``before``: words that run its command.

        It is called with ``--socket`` and the path ``socket`` (default: ``self.socket``); with None it has to find
        the path itself, and ``self.socket`` is where it is expected, or KEYCHAIN_AUTH_SOCKET if ``env`` has it.
        """
        words = [*before, self.python, "-m", "keychain_auth.cli.main", "start"]
        path = socket or (env or {}).get("KEYCHAIN_AUTH_SOCKET") or self.socket
        if socket is not None:
            path = socket or self.socket
            words += ["--socket", path]
        daemon = Daemon([*words, *arguments], self.environment(env), self.user, path)
        self._processes.append(daemon)
        return daemon.wait_ready() if ready else daemon

    def cli(
        self,
        *arguments: str,
        input: str | bytes | None = None,  # noqa: A002 - the name that subprocess.run has for it
        env: Mapping[str, str | None] | None = None,
        account: users.Account | None = None,
        timeout: float = 60,
        before: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run ``keychain-auth ARGUMENTS`` to its end. ``before``: words that run it."""
        done = subprocess.run(
            [*before, self.python, "-m", "keychain_auth.cli.main", *arguments],
            input=input.encode() if isinstance(input, str) else input or b"", capture_output=True, check=False,
            env=self.environment(env), cwd="/", timeout=timeout, **(account or self.user).popen(),
        )  # fmt: skip
        out, err = (stream.decode("utf-8", "backslashreplace") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def cli_json(self, *arguments: str, **keywords: Any) -> Any:
        """Run a command with ``--json``, assert that it succeeds, and return what it printed."""
        done = self.cli(*arguments, "--json", **keywords)
        assert done.returncode == 0, done.stderr or done.stdout
        return json.loads(done.stdout)

    def spawn(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        account: users.Account | None = None,
        cwd: str = "",
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """Start any program with pipes; it is killed with the world."""
        process = Process(words, self.environment(env), account or self.user, cwd or self.home, pass_fds)
        self._processes.append(process)
        return process

    def build_client(
        self, name: str = "talker", variant: str = "plain", source: str = programs.TALKER, flags: Sequence[str] = ()
    ) -> str:
        """Compile a C program into the world's bin folder; another ``variant`` has another hash."""
        program = programs.compiled(source, variant, tuple(flags))
        return programs.install(program, self.path("bin", name), self.user)

    def build_library(self, name: str, source: str) -> str:
        """Compile a C file into a shared library in the world's bin folder."""
        return programs.install(programs.compiled(source, shared=True), self.path("bin", name), self.user)

    def talker(
        self,
        program: str = "",
        *options: str,
        socket: str = "",
        account: users.Account | None = None,
        env: Mapping[str, str | None] | None = None,
    ) -> Talker:
        """Start the talker ``program`` (built if not given) and wait until it is connected.

        With the option ``--late`` it waits for the order ``connect``.
        """
        program = program or self.build_client()
        talker = self.talk([program, socket or self.socket, *options], account=account, env=env)
        return talker if "--late" in options else talker.connected()

    def asking(self, request: Mapping[str, Any], program: str = "") -> Talker:
        """Start the talker ``program``, which connects and sends ``request`` in one go, as a stranger has to."""
        return self.talker(program, "--late").begin(request)

    def talk(
        self,
        words: Sequence[str],
        *,
        account: users.Account | None = None,
        env: Mapping[str, str | None] | None = None,
    ) -> Talker:
        """Start ``words``, which end in a talker (an attack may have more before it)."""
        talker = Talker(words, self.environment(env), account or self.user, self.home)
        self._processes.append(talker)
        return talker

    def granted(
        self, name: str = "talker", *services: str, search: bool = True, variant: str = "plain", **more: Any
    ) -> str:
        """Build a talker that may read and write ``services``; returns its path."""
        program = self.build_client(name, variant)
        self.allow(program, services, services, search, **more)
        return program

    # --- end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill everything, remove everything. Raises AssertionError about what should not have happened."""
        problems: list[str] = []
        for process in reversed(self._processes):
            if isinstance(process, Daemon) and process.returncode is not None and not process.expected_to_end:
                problems.append(f"a daemon ended by itself with {process.returncode}:\n{process.log}")
            try:
                process.close()
            except AssertionError as error:
                problems.append(f"{error}: {process.words}")
            if isinstance(process, Daemon) and "Traceback" in process.log:
                problems.append(f"a daemon logged an exception:\n{process.log}")
        for pid, words in strays.marked(self.home):
            if not strays.ends(pid):
                problems.append(f"a process got away: {pid} {words}")
        shutil.rmtree(self.home, ignore_errors=True)
        if problems:
            raise AssertionError("\n".join(problems))


def sha256_of(path: str) -> str:
    """The hash of a file as config.json has it: ``sha256:<hex>``."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def filesystem_of(path: str) -> str:
    """The type of the filesystem that holds ``path``: "ext4", "overlay", …"""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:  # proc(5): mnt_id, the first of mountinfo
            mount = next(line.split()[1] for line in lines if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            if before.split()[0] == mount:
                return after.split()[0]
    return "unknown"


def _base_folder() -> str:
    """The first temporary folder where the daemon trusts programs without being told to; else the usual one."""
    for folder in ("/tmp", "/var/tmp"):
        if filesystem_of(folder) in _LOCAL:
            return folder
    return "/tmp"


__all__ = ["PATIENCE", "World", "filesystem_of", "sha256_of"]

"""What ``install`` and ``uninstall`` ask, require and carry out: see there for the contract."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import click

import keychain_auth
from keychain_auth.cli.commands.manual import roff, shells, tree
from keychain_auth.cli.shared import output
from keychain_auth.client import admin
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import DaemonNotRunning, KeychainAuthError, UsageError, quoted
from keychain_auth.platform import paths, service
from keychain_auth.platform.place import only_root_writes
from keychain_auth.platform.plan import MARK, Plan, Request, ServiceFile, Step

_STEP_SECONDS = 60.0
_VARIABLES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME")


def request(socket: str | None) -> Request:
    config, data = paths.config_dir(), paths.data_dir()
    return Request(
        command=command(),
        home=os.path.expanduser("~"),
        config_dir=config,
        data_dir=data,
        runtime_dir=paths.runtime_dir(),
        socket=paths.chosen_socket_path(socket),
        uid=os.getuid() if hasattr(os, "getuid") else 0,
        environment=tuple((name, os.environ[name]) for name in _VARIABLES if os.path.isabs(os.environ.get(name, ""))),
    )


def system_request(group: str) -> Request:
    """For the daemon of the machine: the interpreter by its real name, and no variables of who calls."""
    return Request(
        command=(sys.executable, "-I", "-m", "keychain_auth.cli.main", "--system", "start"),
        home="/", config_dir=paths.config_dir(), data_dir=paths.data_dir(), runtime_dir=paths.runtime_dir(),
        group=group,
        launcher=os.path.join(os.path.dirname(keychain_auth.__file__), "platform", "linux", "guarded.c"),
        compiler=shutil.which("cc", path="/usr/local/bin:/usr/bin:/bin") or "",
    )  # fmt: skip


def documents(*, system: bool) -> tuple[ServiceFile, ...]:
    """The manual pages, and the completions of the shells that have a place for them."""
    if sys.platform == "win32":
        return ()
    share = "/usr/local/share" if system else os.path.dirname(paths.data_dir())
    program = tree.read()
    pages = roff.pages(program, MARK)
    return (
        *(ServiceFile(f"{share}/man/man1/{name}", text) for name, text in pages.items()),
        *(
            ServiceFile(f"{share}/{place}", shells.script(shell, program, MARK))
            for shell, place in shells.PLACES.items()
        ),
    )


def write_papers(papers: Iterable[ServiceFile]) -> None:
    """Each in one step, so that nobody reads half a page. Not one by one onto the disk: they can be made anew."""
    for paper in papers:
        os.makedirs(os.path.dirname(paper.path), exist_ok=True)
        fresh = f"{paper.path}.new"
        with open(fresh, "w", encoding=paper.encoding) as file:
            file.write(paper.content)
        os.chmod(fresh, paper.mode)
        os.replace(fresh, paper.path)


def installed_documents(*, system: bool) -> list[str]:
    """Those that are there, pages of commands that this version no longer has among them."""
    known = [file.path for file in documents(system=system) if state(file) in ("installed", "differs")]
    pages = {os.path.dirname(path) for path in known if path.endswith(".1")}
    old = [
        path for folder in pages for path in glob.glob(f"{glob.escape(folder)}/keychain-auth*.1") if is_product(path)
    ]
    return sorted({*known, *old})


def installed_choice() -> tuple[bool, str]:
    """Who may connect to the daemon of the machine that is installed: every user, or the members of a group."""
    for file in service.plan_system(system_request("")).files:
        with contextlib.suppress(FileNotFoundError), open(file.path, encoding="utf-8", errors="replace") as text:
            for line in text:
                if line.startswith("SocketGroup="):
                    return False, line.partition("=")[2].strip()
    return True, ""


def require_choice(*, world: bool, group: str) -> None:
    """Who may connect is for the person to say: neither is right for every machine."""
    if world == bool(group):
        raise UsageError(
            "say who may connect to the daemon: --world for every user, or --group NAME",
            hint="sudo keychain-auth install --system --group NAME",
        )


def require_root(command: str) -> None:
    if os.geteuid() != 0:
        raise KeychainAuthError(f"only root can {command}", hint=f"sudo keychain-auth {command}")


def require_root_owned(group: str) -> None:
    """What a daemon of the machine runs must be changeable by root alone: its code could read every user's programs.

    ``group``: who may connect, "" for all; what was chosen stands in the command for root, too.
    """
    require_root(f"install --system {f'--group {quoted(group)}' if group else '--world'}")
    package = os.path.dirname(keychain_auth.__file__)
    for path in (
        sys.executable,
        os.path.dirname(sys.executable),
        sys.prefix,
        package,
        *filter(os.path.isabs, sys.path),
    ):
        if os.path.exists(path) and not only_root_writes(os.path.realpath(path)):
            raise KeychainAuthError(
                f"{path} is not root's alone: whoever can change it could take over the daemon of the machine",
                hint="python3 -m venv /opt/keychain-auth && /opt/keychain-auth/bin/pip install keychain-auth",
            )


def is_product(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(16 * 1024 * 1024)
    except FileNotFoundError:
        return False


def command() -> tuple[str, ...]:
    """What starts this very installation: its script if it was called by that, else its interpreter."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "keychain-auth" and os.access(script, os.X_OK):
        return script, "start"
    return sys.executable, "-P", "-m", "keychain_auth.cli.main", "start"


def state(file: ServiceFile) -> str:
    """missing, installed (as this version writes it), differs (another version's), foreign (somebody's own)."""
    try:
        with open(file.path, encoding=file.encoding, errors="replace", newline="") as opened:
            content = opened.read(1024 * 1024)
    except FileNotFoundError:
        return "missing"
    if content == file.content:
        return "installed"
    return "differs" if MARK in content else "foreign"


def require_no_daemon(socket: str | None) -> None:
    """A daemon that somebody started by hand would keep the vault, and the service could not start."""
    try:
        status: dict[str, Any] = admin.ask("status", socket=socket, timeout=5)
    except (DaemonNotRunning, OSError):
        return
    raise KeychainAuthError(
        f"a daemon is running (pid {status['pid']})", hint=f"kill {status['pid']}; then do this again"
    )


def there_is(plan: Plan) -> bool:
    """Whether the service manager answers."""
    return not plan.probe or outcome(plan.probe) == ""


def run(steps: Iterable[Step], *, lenient: bool = False) -> list[str]:
    """Run them in order; what failed and was not needed. Raises KeychainAuthError about what was."""
    told = []
    for step in steps:
        problem = outcome(step.words)
        if problem and step.needed and not lenient:
            raise KeychainAuthError(f"cannot {step.why}: {problem}", hint=" ".join(step.words))
        if problem:
            told.append(f"Could not {step.why}: {' '.join(step.words)}: {problem}")
    return told


def outcome(words: tuple[str, ...]) -> str:
    """What went wrong, "" if nothing did."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_STEP_SECONDS,
            check=False,
        )  # fmt: skip
    except OSError as error:
        return error.strerror or str(error)
    except subprocess.TimeoutExpired:
        return f"it did not end within {_STEP_SECONDS:g} s"
    if done.returncode == 0:
        return ""
    return (done.stderr or done.stdout).strip().rpartition("\n")[2] or f"exit code {done.returncode}"


def purgeable() -> list[str]:
    """Every file of ours below our own folders: names that the daemon or a command gave, and nothing else."""
    places = find_places(None)
    found = []
    for folder in dict.fromkeys(
        (os.path.dirname(places.policy), places.vault, os.path.dirname(places.audit_log), places.trees)
    ):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                if (folder == places.trees or name.startswith(_OURS)) and os.path.isfile(path):
                    found.append(path)
    return found


_WORDS = {
    "missing": "not installed",
    "installed": "installed",
    "differs": "of another version: keychain-auth install",
    "foreign": "there, but not written by install",
}
_OURS = (
    "config.json",
    "pending.json",
    "daemon.toml",
    "vault.db",
    "vault.key",
    "audit.log",
    "audit.head",
    "builds.json",
)


def remove_empty(folders: Iterable[str]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def show(plan: Plan, *, as_json: bool) -> None:
    steps = [" ".join(step.words) for step in (*plan.prepare, *plan.start)]
    if as_json:
        output.print_json(
            {"manager": plan.manager, "files": {file.path: file.content for file in plan.files}, "commands": steps}
        )
        return
    for file in plan.files:
        output.say(f"# {file.path}", *file.content.splitlines(), "")
    output.say(*steps, *plan.notes)


def check(plan: Plan, written: tuple[ServiceFile, ...], *, as_json: bool) -> None:
    """Say what is installed, and fail unless all of it is, as this version writes it."""
    states = {file.path: state(file) for file in plan.files}
    documents = {state(file) for file in written} - {"installed"}
    if written:
        states["manual pages and completions"] = min(documents, default="installed")
    if as_json:
        output.print_json({"manager": plan.manager, "files": states})
    else:
        output.table(("file", "state"), [(path, _WORDS[state]) for path, state in states.items()])
    if any(state != "installed" for state in states.values()):
        raise click.exceptions.Exit(1)

"""``install`` and ``uninstall``: the daemon as a service of the machine's service manager.

What is written, and which commands are run, is a plan that ``platform.service`` makes; here it is shown, carried out
and taken back. Contract: a file that ``install`` did not write is never replaced nor removed; ``uninstall`` keeps
policy, secrets and audit log, unless ``--purge`` is given and confirmed, and then removes the files that it names and
no other.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import click

from keychain_auth import files
from keychain_auth.cli import output
from keychain_auth.cli.options import json_option, socket_option
from keychain_auth.client import admin
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import DaemonNotRunning, KeychainAuthError
from keychain_auth.platform import paths, service
from keychain_auth.platform.service import MARK, Plan, ServiceFile, Step

_STEP_SECONDS = 60.0
_VARIABLES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME")


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Show the files and the commands, and do nothing.")
@click.option("--check", "only_check", is_flag=True, help="Show what is installed, and do nothing.")
@click.option("--no-start", is_flag=True, help="Write the files, and leave the commands to you.")
@socket_option
@json_option
def install(only_print: bool, only_check: bool, no_start: bool, socket: str | None, as_json: bool) -> None:
    """Make the daemon a service that starts with your login.

    On Linux: two units of systemd for this user. systemd holds the sockets, so programs that connect while the daemon
    starts or is restarted wait, and are not refused. A unit that you wrote yourself is never replaced.
    """
    plan = service.plan(_request(socket))
    if only_print:
        _show(plan, as_json=as_json)
        return
    if only_check:
        _check(plan, as_json=as_json)
        return
    foreign = [file.path for file in plan.files if _state(file) == "foreign"]
    if foreign:
        raise KeychainAuthError(
            f"{foreign[0]} was not written by keychain-auth install", hint=f"mv {foreign[0]} {foreign[0]}.old"
        )
    if not any(_state(file) != "missing" for file in plan.files):
        _require_no_daemon(socket)
    for file in plan.files:
        os.makedirs(os.path.dirname(file.path), exist_ok=True)
        files.replace(file.path, file.content.encode(file.encoding), file.mode)
    started = not no_start and _there_is(plan)
    told = _run(plan.start) if started else []
    result = {"manager": plan.manager, "files": [file.path for file in plan.files], "started": started, "failed": told}
    if as_json:
        output.print_json(result)
        return
    output.say(*(f"Wrote {file.path}" for file in plan.files), *told, *plan.notes)
    if started:
        output.say("The daemon is running. Next: keychain-auth status")
    else:
        if not no_start:
            output.say(f"The service manager cannot be reached ({' '.join(plan.probe)} fails). Once it can:")
        output.say(*(f"  {' '.join(step.words)}" for step in plan.start))


@click.command()
@click.option(
    "--purge", is_flag=True, help="Remove policy, secrets and audit log too. Asks first; nothing brings them back."
)
@click.option("--yes", is_flag=True, help="With --purge: do not ask.")
@socket_option
@json_option
def uninstall(purge: bool, yes: bool, socket: str | None, as_json: bool) -> None:
    """Stop the service and remove what install wrote.

    Policy, secrets and audit log stay where they are. A file of install's that was replaced by one of yours stays too.
    """
    plan = service.plan(_request(socket))
    doomed = _purgeable() if purge else []
    if doomed and not yes:
        output.say(*doomed)
        click.confirm(f"Remove these {len(doomed)} files for ever, with every secret in them?", abort=True)
    ours = [file.path for file in plan.files if _state(file) in ("installed", "differs")]
    kept = [file.path for file in plan.files if _state(file) == "foreign"]
    reachable = bool(ours) and _there_is(plan)
    told = _run(plan.stop, lenient=True) if reachable else []
    if purge:
        _require_no_daemon(socket)
    for path in ours:
        os.unlink(path)
    told += _run(plan.forget, lenient=True) if reachable else []
    for path in doomed:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    _remove_empty(plan.folders if ours else ())
    if purge:
        places = find_places(socket)
        _remove_empty((places.trees, os.path.dirname(places.policy), places.vault))
    if as_json:
        output.print_json({"removed": ours + doomed, "kept": kept, "failed": told})
        return
    output.say(
        *(f"Removed {path}" for path in ours + doomed), *(f"Kept {path}: it is not install's" for path in kept), *told
    )
    if not ours:
        output.say("Nothing was installed.")
    if not purge:
        output.say("Policy, secrets and audit log were kept.")


def _request(socket: str | None) -> service.Request:
    config, data = paths.config_dir(), paths.data_dir()
    return service.Request(
        command=_command(),
        home=os.path.expanduser("~"),
        config_dir=config,
        data_dir=data,
        runtime_dir=paths.runtime_dir(),
        socket=paths.chosen_socket_path(socket),
        uid=os.getuid() if hasattr(os, "getuid") else 0,
        environment=tuple((name, os.environ[name]) for name in _VARIABLES if os.path.isabs(os.environ.get(name, ""))),
    )


def _command() -> tuple[str, ...]:
    """What starts this very installation: its script if it was called by that, else its interpreter."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "keychain-auth" and os.access(script, os.X_OK):
        return script, "start"
    return sys.executable, "-P", "-m", "keychain_auth.cli.main", "start"


def _state(file: ServiceFile) -> str:
    """missing, installed (as this version writes it), differs (another version's), foreign (somebody's own)."""
    try:
        with open(file.path, encoding=file.encoding, errors="replace", newline="") as opened:
            content = opened.read(1024 * 1024)
    except FileNotFoundError:
        return "missing"
    if content == file.content:
        return "installed"
    return "differs" if MARK in content else "foreign"


def _require_no_daemon(socket: str | None) -> None:
    """A daemon that somebody started by hand would keep the vault, and the service could not start."""
    try:
        status: dict[str, Any] = admin.ask("status", socket=socket, timeout=5)
    except (DaemonNotRunning, OSError):
        return
    raise KeychainAuthError(
        f"a daemon is running (pid {status['pid']})", hint=f"kill {status['pid']}; then do this again"
    )


def _there_is(plan: Plan) -> bool:
    """Whether the service manager answers."""
    return not plan.probe or _outcome(plan.probe) == ""


def _run(steps: Iterable[Step], *, lenient: bool = False) -> list[str]:
    """Run them in order; what failed and was not needed. Raises KeychainAuthError about what was."""
    told = []
    for step in steps:
        problem = _outcome(step.words)
        if problem and step.needed and not lenient:
            raise KeychainAuthError(f"cannot {step.why}: {problem}", hint=" ".join(step.words))
        if problem:
            told.append(f"Could not {step.why}: {' '.join(step.words)}: {problem}")
    return told


def _outcome(words: tuple[str, ...]) -> str:
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


def _purgeable() -> list[str]:
    """Every file of ours below our own folders: names that the daemon or a command gave, and nothing else."""
    places = find_places(None)
    found = []
    for folder in (os.path.dirname(places.policy), places.vault, places.trees):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                if (folder == places.trees or name.startswith(_OURS)) and os.path.isfile(path):
                    found.append(path)
    return found


_STATES = {
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


def _remove_empty(folders: Iterable[str]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _show(plan: Plan, *, as_json: bool) -> None:
    steps = [" ".join(step.words) for step in plan.start]
    if as_json:
        output.print_json(
            {"manager": plan.manager, "files": {file.path: file.content for file in plan.files}, "commands": steps}
        )
        return
    for file in plan.files:
        output.say(f"# {file.path}", *file.content.splitlines(), "")
    output.say(*steps, *plan.notes)


def _check(plan: Plan, *, as_json: bool) -> None:
    states = {file.path: _state(file) for file in plan.files}
    if as_json:
        output.print_json({"manager": plan.manager, "files": states})
    else:
        output.table(("file", "state"), [(path, _STATES[state]) for path, state in states.items()])
    if any(state != "installed" for state in states.values()):
        raise click.exceptions.Exit(1)

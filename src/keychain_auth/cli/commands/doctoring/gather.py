"""The facts for ``keychain-auth doctor``: looked up, never judged; nothing is changed.

Contract: whatever is missing, damaged or in the way becomes a fact. No look waits for longer than the daemon's answer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from datetime import datetime
from typing import Any

import keychain_auth
from keychain_auth.audit import shelf
from keychain_auth.audit.reading import Line, backwards
from keychain_auth.cli.commands.doctoring.facts import (
    DaemonFact,
    Facts,
    LeakyProgram,
    PathFact,
    PathKind,
    ProgramFact,
)
from keychain_auth.cli.shared import config_file
from keychain_auth.cli.shared.judging import present
from keychain_auth.cli.shared.signers import seen_builds
from keychain_auth.client import admin
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.settings import load_settings
from keychain_auth.errors import DaemonNotRunning, KeychainAuthError
from keychain_auth.keychain.vault import peek_slots
from keychain_auth.keychain.vault.opening import vault_path
from keychain_auth.model import Denial, Entry
from keychain_auth.oslayer import system
from keychain_auth.platform import condition
from keychain_auth.platform import paths as system_paths
from keychain_auth.policy.explain import explain, mend
from keychain_auth.policy.interpreters import is_interpreter
from keychain_auth.reasons import SOCKET_NOT_CLOEXEC

_STATUS_SECONDS = 10.0
_LATELY_SECONDS = 24 * 3600.0
_MOST_LINES = 100_000  # of the record, looked at from its end


def gather(places: Places) -> Facts:
    """Everything that ``checks`` wants to know."""
    now = time.time()
    found: dict[str, Any] = {
        **_socket(places, now),
        **_programs(places),
        **_vault(places),
        **_record(places, now),
    }
    return Facts(
        now=now,
        uid=system.user_id(),
        own_user=system_paths.is_system(),
        version=keychain_auth.__version__,
        code_changed=_newest_file(os.path.dirname(keychain_auth.__file__)),
        socket_path=places.agent_socket,
        paths=_paths(places),
        settings_problem=_settings_problem(places),
        settings_path=places.settings,
        policy_path=places.policy,
        remedies=condition.remedies(places.vault),
        kernel=condition.KERNEL_IS_LOOKED_AT,
        clock_synchronised=condition.clock_is_synchronised(),
        yama=condition.yama_scope(),
        user_namespaces=condition.allows_user_namespaces(),
        socket_diagnosis=condition.diagnoses_sockets(),
        missing=condition.lacks(),
        free_bytes=_free_bytes(places.vault),
        data_folder=places.vault,
        **found,
    )


def _socket(places: Places, now: float) -> dict[str, Any]:
    try:
        status = admin.ask("status", socket=places.agent_socket, timeout=_STATUS_SECONDS)
        return {"daemon": _daemon(status, now)}
    except DaemonNotRunning:
        there = system_paths.sockets_are_files() and os.path.lexists(places.agent_socket)
        return {"socket": "left over" if there else "absent"}
    except KeychainAuthError as error:
        return {"socket": "refused", "socket_problem": str(error), "socket_mend": error.hint}
    except (KeyError, TypeError, AttributeError):
        problem = "the daemon's status is that of another version"
        return {"socket": "refused", "socket_problem": problem, "socket_mend": "keychain-auth status --json"}


def _daemon(status: dict[str, Any], now: float) -> DaemonFact:
    return DaemonFact(
        version=str(status["version"]),
        pid=int(status["pid"]),
        started=now - float(status["uptime_seconds"]),
        unit=condition.unit_of(int(status["pid"])),
        policy_problem=str(status["policy"]["problem"]),
        settings_problem=str(status["settings"]["problem"]),
        settings_later=bool(status["settings"]["restart"]),
        key_memory_locked=bool(status["key_memory_locked"]),
        locked=str(status["keychain"].get("locked", "")),
        audit_waiting=int(status["audit"]["waiting"]),
        keychains=dict(status["keychains"]["keychains"]),
        unrouted=_unrouted(status["keychains"]),
        held=tuple(str(held["program"]) for held in status.get("held", ())),
    )


def _unrouted(health: dict[str, Any]) -> tuple[str, ...]:
    used = {"vault", health["default"], *health["routes"].values()}
    return tuple(name for name in health["keychains"] if name not in used)


def _newest_file(package: str) -> float:
    """When the newest module of this package was written."""
    newest = 0.0
    for folder, _, names in os.walk(package):
        for name in names:
            if name.endswith((".py", ".js")):
                newest = max(newest, os.stat(os.path.join(folder, name)).st_mtime)
    return newest


# --- files --------------------------------------------------------------------------------------


def _paths(places: Places) -> tuple[PathFact, ...]:
    # A daemon of the whole machine has the folder of its sockets, and the one for programs, from root, open to others.
    sockets: tuple[str, ...] = (places.admin_socket,)
    own: tuple[str, ...] = ()
    if not system_paths.is_system():
        own = (os.path.dirname(places.agent_socket),)
        sockets = (places.agent_socket, places.admin_socket)
    if not system_paths.sockets_are_files():
        own = sockets = ()
    folders = dict.fromkeys((os.path.dirname(places.policy), places.vault, os.path.dirname(places.audit_log), *own))
    vault, log = vault_path(places.vault), places.audit_log
    secret = (places.vault_key, vault, f"{vault}-wal", f"{vault}-shm", places.pending)
    plain = (places.policy, places.settings, places.builds, log, shelf.head_path(log))
    rotated = (shelf.numbered(log, number) for number in _numbers(log))
    facts = [
        *(_path(path, "folder") for path in folders),
        *(_path(path, "socket") for path in sockets),
        *(_path(path, "file", secret=True) for path in secret),
        *(_path(path, "file") for path in (*plain, *rotated)),
    ]
    return tuple(fact for fact in facts if fact is not None)


def _numbers(log: str) -> list[int]:
    with contextlib.suppress(OSError):
        return shelf.numbers(log)
    return []


def _path(path: str, wanted: PathKind, *, secret: bool = False) -> PathFact | None:
    try:
        # What a link leads to counts, as it does for the daemon; a link into nothing is told as one.
        info = os.stat(path) if os.path.exists(path) else os.lstat(path)
        uid, mode, found = system.exposure(path, info)
    except OSError:
        return None
    problem, mending = found or ("", "")
    kind = _kind(info.st_mode)
    return PathFact(path, kind, wanted, uid, mode, secret, problem, mending, system.aside_command(path))


def _kind(mode: int) -> PathKind:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return "socket" if stat.S_ISSOCK(mode) else "link" if stat.S_ISLNK(mode) else "other"


def _free_bytes(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _settings_problem(places: Places) -> str:
    try:
        load_settings(places.settings)
    except KeychainAuthError as error:
        return str(error)
    return ""


# --- policy and programs ------------------------------------------------------------------------


def _programs(places: Places) -> dict[str, Any]:
    try:
        known, builds = config_file.read(places), seen_builds(places)
    except KeychainAuthError as error:
        return {"policy_problem": str(error)}
    programs = []
    for path, entries in known.by_path.items():
        entry, _, problem = present(known, path, builds)
        programs.append(_program(path, entry or entries[0], problem))
    return {"programs": tuple(programs)}


def _program(path: str, entry: Entry, problem: Denial | None) -> ProgramFact:
    bare = entry.interpreter is None and is_interpreter(path)
    script = entry.interpreter is not None
    if problem is None:
        return ProgramFact(path, bare=bare, script=script)
    return ProgramFact(path, explain(problem), mend(problem), bare, script)


# --- vault and record ---------------------------------------------------------------------------


def _vault(places: Places) -> dict[str, Any]:
    if not os.path.lexists(vault_path(places.vault)):
        return {}
    try:
        return {"slots": {slot.number: slot.kind for slot in peek_slots(places.vault)}}
    except KeychainAuthError as error:
        return {"vault_problem": str(error), "vault_mend": error.hint}


def _record(places: Places, now: float) -> dict[str, Any]:
    if not os.path.isdir(os.path.dirname(places.audit_log)):
        return {}
    newest: float | None = None
    leaky: dict[str, list[str]] = {}
    try:
        for number, line in enumerate(backwards(places.audit_log)):
            moment = _moment(line)
            if newest is None:
                newest = moment
            if number >= _MOST_LINES or (moment is not None and moment < now - _LATELY_SECONDS):
                break
            if line.get("reason") == SOCKET_NOT_CLOEXEC:
                leaky.setdefault(_subject(line), []).append(str(line.get("timestamp")))
    except KeychainAuthError as error:
        return {"audit_problem": str(error)}
    programs = tuple(LeakyProgram(path, len(times), times[0]) for path, times in sorted(leaky.items()))
    return {"newest_record": newest, "leaky": programs}


def _moment(line: Line) -> float | None:
    try:
        return datetime.fromisoformat(str(line.get("timestamp"))).timestamp()
    except ValueError:
        return None


def _subject(line: Line) -> str:
    return str(line.get("script_path") or line.get("binary_path") or f"pid {line.get('pid')}")

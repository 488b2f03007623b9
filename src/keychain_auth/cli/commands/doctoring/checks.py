"""What the facts mean: one list of checks, each a small pure function.

Contract:
* Each check says something, also that all is well, so that a reader sees what was looked at.
* ``wrong``: something does not work, or is less safe than what the documents promise. ``advice``: it works as
  documented, and could be safer or surer. ``unknown``: it could not be looked at.
* What is wrong or advised comes with the command that mends it, wherever one does.

What it does not promise: that an installation without findings is safe. docs/threat-model.md says what is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from shlex import quote
from typing import NamedTuple

from keychain_auth.cli.commands.doctoring.facts import DaemonFact, Facts, PathFact
from keychain_auth.moments import stamp_of
from keychain_auth.protectors.strength import what_they_stop

_OTHERS_READ, _OTHERS_WRITE, _OTHERS = 0o044, 0o022, 0o077
_CLOCK_SLACK = 5.0  # seconds: two looks at one clock, and a file system that rounds
_LEAST_FREE = 32 * 1024 * 1024  # bytes: three files of the audit log
_START = "keychain-auth start"
_OPEN_KEYRING = "log in to the desktop, or start its keyring (gnome-keyring, KWallet, KeePassXC)"
_PASSPHRASE, _RECOVERY = "passphrase", "recovery"


class Level(StrEnum):
    """How much a finding matters, the least first."""

    OK = "ok"
    UNKNOWN = "unknown"
    ADVICE = "advice"
    WRONG = "wrong"


class Finding(NamedTuple):
    """What a check says. ``mend``: the command that mends it, "" if there is nothing to mend or none that does."""

    level: Level
    says: str
    mend: str = ""


class Checked(NamedTuple):
    """A finding, with the name of its check."""

    check: str
    level: Level
    says: str
    mend: str


def examine(facts: Facts) -> list[Checked]:
    """The findings of all checks, in the order of the list. What does not apply to this system is not there."""
    return [
        Checked(name, finding.level, finding.says, finding.mend)
        for name, check in CHECKS.items()
        if facts.kernel or name not in OF_THE_KERNEL
        for finding in check(facts)
    ]


# --- the daemon ---------------------------------------------------------------------------------


def _socket(facts: Facts) -> Iterator[Finding]:
    if facts.socket == "answers":
        yield Finding(Level.OK, f"a daemon answers on {facts.socket_path}")
    elif facts.socket == "absent":
        yield Finding(Level.WRONG, f"no daemon runs: there is no socket {facts.socket_path}", _START)
    elif facts.socket == "left over":
        why = "a daemon that was killed left it; the next one replaces it"
        yield Finding(Level.WRONG, f"nobody listens on {facts.socket_path}: {why}", _START)
    else:
        yield Finding(Level.WRONG, facts.socket_problem, facts.socket_mend)


def _version(facts: Facts) -> Iterator[Finding]:
    daemon = facts.daemon
    if daemon is None:
        yield Finding(Level.UNKNOWN, "no daemon to ask for its version")
    elif daemon.version != facts.version:
        says = f"the daemon is version {daemon.version}, this command {facts.version}: it was not restarted since"
        yield Finding(Level.WRONG, says, _restart(facts, daemon))
    elif facts.code_changed > daemon.started + _CLOCK_SLACK:
        says = f"the installed files are newer than the running daemon ({stamp_of(facts.code_changed)})"
        yield Finding(Level.WRONG, says, _restart(facts, daemon))
    else:
        yield Finding(Level.OK, f"the daemon is version {daemon.version}, as this command")


def _settings(facts: Facts) -> Iterator[Finding]:
    obeyed = facts.daemon.settings_problem if facts.daemon else ""
    if facts.settings_problem:
        says = f"{facts.settings_problem}: no daemon starts with these settings"
        yield Finding(Level.WRONG, says, f"edit {quote(facts.settings_path)}")
    elif obeyed:
        yield Finding(Level.WRONG, f"the daemon does not obey daemon.toml: {obeyed}", "keychain-auth policy seal")
    elif facts.daemon and facts.daemon.settings_later:
        yield Finding(Level.WRONG, "daemon.toml was changed since the daemon started", _restart(facts, facts.daemon))
    else:
        yield Finding(Level.OK, "the settings can be read, and are obeyed")


def _policy(facts: Facts) -> Iterator[Finding]:
    obeyed = facts.daemon.policy_problem if facts.daemon else ""
    if facts.policy_problem:
        yield Finding(Level.WRONG, facts.policy_problem, f"edit {quote(facts.policy_path)}")
    elif obeyed:
        yield Finding(Level.WRONG, f"the daemon does not obey config.json: {obeyed}", "keychain-auth policy seal")
    else:
        yield Finding(Level.OK, f"config.json is in order; programs: {len(facts.programs)}")


# --- files --------------------------------------------------------------------------------------


def _permissions(facts: Facts) -> Iterator[Finding]:
    found = [finding for fact in facts.paths for finding in _one_path(fact, facts.uid)]
    yield from found or [Finding(Level.OK, f"{len(facts.paths)} files and folders are yours alone")]


def _one_path(fact: PathFact, uid: int) -> Iterator[Finding]:
    name = quote(fact.path)
    if fact.kind != fact.wanted:
        yield Finding(Level.WRONG, f"{fact.path} is not a {fact.wanted}", fact.aside)
    elif fact.problem:
        yield Finding(Level.WRONG, fact.problem, fact.mend)
    elif fact.uid not in (uid, 0) or (fact.uid == 0 != uid and fact.secret):
        yield Finding(Level.WRONG, f"{fact.path} belongs to another user (uid {fact.uid})", f"chown {uid} {name}")
    elif fact.mode & _OTHERS_WRITE:
        yield Finding(Level.WRONG, f"other users can write {fact.path} (mode {fact.mode:04o})", _tighten(fact))
    elif fact.mode & _OTHERS_READ and (fact.secret or fact.kind == "folder"):
        yield Finding(Level.WRONG, f"other users can read {fact.path} (mode {fact.mode:04o})", _tighten(fact))
    elif fact.mode & _OTHERS and fact.kind != "link":
        says = f"{fact.path} is open to others (mode {fact.mode:04o}); only its folder keeps them out"
        yield Finding(Level.ADVICE, says, _tighten(fact))


def _tighten(fact: PathFact) -> str:
    return f"chmod {'700' if fact.kind == 'folder' else '600'} {quote(fact.path)}"


def _room(facts: Facts) -> Iterator[Finding]:
    if facts.free_bytes is None:
        yield Finding(Level.UNKNOWN, "how much room the disk has cannot be told")
    elif facts.free_bytes < _LEAST_FREE:
        says = f"{facts.free_bytes // 1024 // 1024} MiB are left in {facts.data_folder}: without room for the record"
        yield Finding(Level.WRONG, f"{says} no secret is given out", facts.remedies.room)
    else:
        yield Finding(Level.OK, "there is room for the audit log")


# --- programs -----------------------------------------------------------------------------------


def _bare_interpreters(facts: Facts) -> Iterator[Finding]:
    bare = [program for program in facts.programs if program.bare]
    for program in bare:
        says = f"{program.path} is registered by itself: it runs any script, so this entry grants nothing"
        yield Finding(Level.WRONG, says, f"keychain-auth unregister {quote(program.path)}")
    if not bare:
        yield Finding(Level.OK, "no interpreter is registered by itself")


def _changed_programs(facts: Facts) -> Iterator[Finding]:
    changed = [program for program in facts.programs if program.why and not program.bare]
    for program in changed:
        yield Finding(Level.WRONG, f"{program.path} would be refused: {program.why}", program.mend)
    if not changed:
        yield Finding(Level.OK, "every registered program is the file that was registered")


def _close_on_exec(facts: Facts) -> Iterator[Finding]:
    for program in facts.leaky:
        says = f"{program.path} opened its socket without close-on-exec, last {program.last}: refused"
        look = f"keychain-auth audit search --program {quote(program.path)} --denied"
        yield Finding(Level.WRONG, f"{says} {program.times} times; its author must use SOCK_CLOEXEC", look)
    if not facts.leaky:
        yield Finding(Level.OK, "no program was refused lately for a descriptor that children inherit")


def _canaries(facts: Facts) -> Iterator[Finding]:
    held = facts.daemon.held if facts.daemon else ()
    for program in held:
        says = f"{program} reached for a canary and is held: find out why before you release it"
        yield Finding(Level.WRONG, says, f"keychain-auth canary release {quote(program)}")
    if not held:
        yield Finding(Level.OK, "no program is held for reaching for a canary")


# --- what guards the secrets --------------------------------------------------------------------


def _slots(facts: Facts) -> Iterator[Finding]:
    if facts.vault_problem:
        yield Finding(Level.WRONG, facts.vault_problem, facts.vault_mend or "keychain-auth vault check")
    elif facts.slots is None:
        yield Finding(Level.UNKNOWN, "there is no vault yet: the first start makes one")
    else:
        yield from _judge_slots(facts.slots, own_user=facts.own_user)


def _judge_slots(slots: dict[int, str], *, own_user: bool) -> Iterator[Finding]:
    says = what_they_stop(slots.values(), own_user=own_user)
    if len(slots) > 1:
        says = f"{', '.join(slots.values())}: {says}"
    if own_user and _PASSPHRASE not in slots.values():
        yield Finding(Level.OK, says)
        return
    if _PASSPHRASE not in slots.values():
        yield Finding(Level.ADVICE, says, "keychain-auth protect add passphrase")
        return
    weaker = next((number for number, kind in slots.items() if kind not in (_PASSPHRASE, _RECOVERY)), None)
    if weaker is not None:
        says = f"{says}. Slot {weaker} opens the vault without the passphrase"
        yield Finding(Level.ADVICE, says, f"keychain-auth protect remove {weaker}")
    else:
        yield Finding(Level.OK, says)
    if _RECOVERY not in slots.values():
        says = "there is no recovery code: a forgotten passphrase would be the end of what only it opens"
        yield Finding(Level.ADVICE, says, "keychain-auth protect add recovery")


def _keychains(facts: Facts) -> Iterator[Finding]:
    daemon = facts.daemon
    if daemon is None:
        yield Finding(Level.UNKNOWN, "no daemon to ask whether the keychains can be reached")
        return
    if daemon.locked:
        yield Finding(Level.WRONG, f"the vault is locked: {daemon.locked}", "keychain-auth unlock")
    gone = {name: health for name, health in daemon.keychains.items() if health.get("problem")}
    for name, health in gone.items():
        says = f"keychain {name} ({health.get('backend')}): {health['problem']}"
        mend = _OPEN_KEYRING if health.get("backend") == "secret-service" else "keychain-auth status"
        if name in daemon.unrouted:
            yield Finding(Level.ADVICE, f"{says}. No service lies there, so no program needs it", mend)
        else:
            yield Finding(Level.WRONG, says, mend)
    if not gone and not daemon.locked:
        yield Finding(Level.OK, f"every keychain can be reached: {', '.join(daemon.keychains)}")


def _key_memory(facts: Facts) -> Iterator[Finding]:
    if facts.daemon is None:
        yield Finding(Level.UNKNOWN, "no daemon to ask whether its key can be swapped out")
    elif facts.daemon.key_memory_locked:
        yield Finding(Level.OK, "the key's memory is never swapped out")
    else:
        says = "the key's memory can be swapped out: the system lets the daemon lock too little (RLIMIT_MEMLOCK)"
        yield Finding(Level.WRONG, says, facts.remedies.key_memory)


# --- the machine --------------------------------------------------------------------------------


def _record(facts: Facts) -> Iterator[Finding]:
    if facts.audit_problem:
        yield Finding(Level.WRONG, facts.audit_problem, "keychain-auth audit verify")
    elif facts.newest_record is None:
        yield Finding(Level.UNKNOWN, "there is no audit log yet")
    elif facts.daemon is not None and facts.daemon.audit_waiting:
        says = f"{facts.daemon.audit_waiting} lines of the record wait for the vault's key"
        yield Finding(Level.ADVICE, says, "keychain-auth unlock")
    else:
        yield Finding(Level.OK, f"the last line of the audit log is of {stamp_of(facts.newest_record)}")


def _clock(facts: Facts) -> Iterator[Finding]:
    ahead = 0.0 if facts.newest_record is None else facts.newest_record - facts.now
    if ahead > _CLOCK_SLACK:
        says = f"the clock was put back: the last line of the audit log is {ahead:.0f} s in the future. What ends at a "
        yield Finding(Level.WRONG, f"{says}moment (a grace after an upgrade) ends later", facts.remedies.clock)
    elif facts.clock_synchronised is False:
        says = "nothing keeps this machine's clock right, and what ends at a moment goes by it"
        yield Finding(Level.ADVICE, says, facts.remedies.clock)
    else:
        yield Finding(Level.OK, "the clock agrees with the audit log")


def _tracing(facts: Facts) -> Iterator[Finding]:
    mend = "sudo sysctl -w kernel.yama.ptrace_scope=1"
    if facts.yama is None:
        says = "this kernel has no Yama: any program of yours may look into the memory of another, an approved one too"
        yield Finding(Level.ADVICE, says, "boot a kernel with CONFIG_SECURITY_YAMA and lsm=…,yama")
    elif facts.yama == 0:
        says = "kernel.yama.ptrace_scope is 0: any program of yours may look into the memory of an approved one"
        yield Finding(Level.ADVICE, says, mend)
    elif facts.yama > 1 and any(program.script for program in facts.programs):
        says = f"kernel.yama.ptrace_scope is {facts.yama}: the daemon cannot look at scripts either, none is launched"
        yield Finding(Level.WRONG, says, mend if facts.yama == 2 else "reboot with kernel.yama.ptrace_scope=1")
    else:
        yield Finding(Level.OK, f"kernel.yama.ptrace_scope is {facts.yama}")


def _namespaces(facts: Facts) -> Iterator[Finding]:
    if facts.user_namespaces:
        says = (
            "every program may make user namespaces, and in one of its own forge what it is (PR_SET_MM); browsers and "
        )
        yield Finding(Level.ADVICE, f"{says}containers of users need them", "sudo sysctl -w user.max_user_namespaces=0")
    else:
        yield Finding(Level.OK, "not every program may make user namespaces")


def _kernel(facts: Facts) -> Iterator[Finding]:
    if not facts.socket_diagnosis:
        yield Finding(Level.WRONG, "this kernel cannot say who holds a socket: no daemon starts", "modprobe unix_diag")
    for lack in facts.missing:
        yield Finding(Level.ADVICE, lack)
    if facts.socket_diagnosis and not facts.missing:
        yield Finding(Level.OK, "the kernel has every call that is used where there is one")


def _restart(facts: Facts, daemon: DaemonFact) -> str:
    if daemon.unit:
        return f"systemctl --user restart {daemon.unit.removesuffix('.service')}"
    return facts.remedies.restart


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "socket": _socket,
    "version": _version,
    "settings": _settings,
    "policy": _policy,
    "permissions": _permissions,
    "disk": _room,
    "interpreters": _bare_interpreters,
    "programs": _changed_programs,
    "close-on-exec": _close_on_exec,
    "canaries": _canaries,
    "slots": _slots,
    "keychains": _keychains,
    "key-memory": _key_memory,
    "audit": _record,
    "clock": _clock,
    "tracing": _tracing,
    "namespaces": _namespaces,
    "kernel": _kernel,
}
OF_THE_KERNEL = frozenset(("tracing", "namespaces", "kernel"))
"""Checks of which other systems have nothing alike (docs/platforms.md has what is open there)."""

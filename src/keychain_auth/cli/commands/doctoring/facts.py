"""What ``keychain-auth doctor`` knows of an installation before anybody judges it: frozen values.

A fact that could not be learned is None, or says why in a field ``problem``; it is for ``checks`` to say whether that
matters.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from keychain_auth.platform.remedies import Remedies

PathKind = Literal["folder", "file", "socket", "link", "other"]


class PathFact(msgspec.Struct, frozen=True):
    """One file or folder of ours that exists. ``mode``: its permission bits. ``secret``: whoever reads it has something
    of a secret (the vault, its key, command lines). ``problem``: what the system says of it beyond its bits, and
    ``mend`` the command for it. ``aside``: the command that moves it out of the way."""

    path: str
    kind: PathKind
    wanted: PathKind
    uid: int
    mode: int
    secret: bool = False
    problem: str = ""
    mend: str = ""
    aside: str = ""


class ProgramFact(msgspec.Struct, frozen=True):
    """One entry of the policy. ``why``: in what way its files are not what was registered, "" if they are. ``bare``:
    it is an interpreter, registered by itself."""

    path: str
    why: str = ""
    mend: str = ""
    bare: bool = False
    script: bool = False


class LeakyProgram(msgspec.Struct, frozen=True):
    """A program that connected with an inheritable descriptor: how often lately, and when last."""

    path: str
    times: int
    last: str


class DaemonFact(msgspec.Struct, frozen=True):
    """What a running daemon says of itself, and what the system says of its process.

    ``started``: seconds since the epoch. ``unit``: the systemd unit that it runs in, "" for none. ``keychains``: the
    health of each, by name. ``unrouted``: those that no service lies in, opened for a migration. ``held``: the programs
    that reached for a canary.
    """

    version: str
    pid: int
    started: float
    unit: str = ""
    policy_problem: str = ""
    settings_problem: str = ""
    settings_later: bool = False
    key_memory_locked: bool = True
    locked: str = ""
    audit_waiting: int = 0
    keychains: dict[str, dict[str, Any]] = {}
    unrouted: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. ``socket`` is what answers there, ``socket_problem`` why nothing of use does.

    ``code_changed``: when the newest file of this package was written. ``yama``: kernel.yama.ptrace_scope, None without
    Yama. ``newest_record``: when the last line of the audit log was written. ``slots``: the vault's key slots, number
    to kind, None if there is no vault, or it cannot be read (``vault_problem``). ``clock_synchronised``: None if the
    kernel does not say. ``own_user``: it is the daemon of the whole machine. ``kernel``: whether there is a kernel of
    which the next facts say something. ``missing``: calls that it lacks, and what is done without them.
    """

    now: float
    uid: int
    version: str
    own_user: bool = False
    code_changed: float
    socket_path: str
    socket: Literal["answers", "absent", "left over", "refused"] = "answers"
    socket_problem: str = ""
    socket_mend: str = ""
    daemon: DaemonFact | None = None
    paths: tuple[PathFact, ...] = ()
    settings_problem: str = ""
    settings_path: str = ""
    policy_problem: str = ""
    policy_path: str = ""
    programs: tuple[ProgramFact, ...] = ()
    slots: dict[int, str] | None = None
    vault_problem: str = ""
    vault_mend: str = ""
    newest_record: float | None = None
    audit_problem: str = ""
    leaky: tuple[LeakyProgram, ...] = ()
    clock_synchronised: bool | None = True
    remedies: Remedies
    kernel: bool = True
    yama: int | None = 1
    user_namespaces: bool = False
    socket_diagnosis: bool = True
    missing: tuple[str, ...] = ()
    free_bytes: int | None = None
    data_folder: str = ""

"""Facts to Identity, or a refusal that says which rule did not hold. Pure.

The rules, in the order in which they are applied (docs/threat-model.md tells the attack behind each):

1. The same user. User mode serves nobody else.
2. The same user and pid namespaces: in a user namespace of his own an unprivileged user can make /proc/PID/exe point at
   any file, mount over any path, and send forged credentials. Other mounts alone (which only root can give to a process
   of this user namespace) are for the entry to allow.
3. The executable lies on a filesystem whose answers the kernel itself gives.
4. The file at the registered path is that very file (device and inode): an equal copy elsewhere, or a file that was
   replaced, is not the program.
5. The process itself holds the peer end, and every descriptor of it is close-on-exec. Such a descriptor cannot
   have survived an exec, so whoever connected is who runs now. Nobody else may have put it there: a seccomp filter that
   the daemon does not run under itself (SECCOMP_IOCTL_NOTIF_ADDFD) is refused.
6. The code that it has mapped is its own. The program must be among it, and nobody may trace it. What else it has
   mapped is part of the identity, and the entry says what it may be.
7. Nothing of it changed while the facts were gathered (``same_process``).

Strict mode adds ``judge_strict``: the mapped code is unchanged in memory, and nobody else holds the peer end.

What this does not promise: anything against a process of the same user that traces this one, or writes into its memory,
between two looks.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from keychain_auth.identity.facts import HostFacts, PeerFacts, ScriptFacts, StrictFacts
from keychain_auth.model import Grade, Identity, Launch, Program, Signature
from keychain_auth.reasons import CALLER_CHANGED, IDENTITY_NOT_VERIFIED, SOCKET_NOT_CLOEXEC, USER_NOT_ALLOWED

# Filesystems whose metadata comes from this kernel and its own disks. Not here: fuse and 9p (their server answers what
# it likes), nfs and cifs (another machine does), tmpfs and overlay (opt-in: see docs/operations.md).
LOCAL_FILESYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "squashfs", "erofs"))


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A caller whose identity could not be established. ``why`` is for the log; ``path`` is where its executable seemed
    to be, which proves nothing."""

    reason: str
    why: str
    path: str = ""


REPLACED = Refusal(IDENTITY_NOT_VERIFIED, "its file was removed, and is not the one any more that was verified")
_CHANGED = Refusal(CALLER_CHANGED, "it replaced its program while it was being verified")


def judge_user(uid: int, host: HostFacts) -> Refusal | None:
    """None if the caller is this user (rule 1), or the daemon serves all.

    Asked first: in user mode another user's process cannot even be looked at.
    """
    if uid != host.uid and not host.serves_all:
        return Refusal(USER_NOT_ALLOWED, f"uid {uid}, this daemon serves uid {host.uid}")
    return None


def judge_place(facts: PeerFacts, host: HostFacts, *, own_mounts: bool) -> Refusal | None:
    """None if the caller sees the machine as the daemon does (rule 2). ``own_mounts``: such are no fault."""
    foreign = _foreign(facts, host)
    if foreign and not (own_mounts and foreign == ["mount"]):
        return Refusal(IDENTITY_NOT_VERIFIED, f"it runs in another {' and '.join(foreign)} namespace")
    return None


def judge(facts: PeerFacts, host: HostFacts) -> Refusal | None:
    """None if the facts hold by rules 1 to 6, and held still while they were gathered."""
    if (refusal := judge_user(facts.uid, host) or judge_place(facts, host, own_mounts=True)) is not None:
        return refusal
    if facts.integrity < host.integrity:
        return Refusal(
            IDENTITY_NOT_VERIFIED,
            f"its integrity level is {facts.integrity}, below the daemon's ({host.integrity}): it runs in a sandbox",
        )
    if not facts.steady:
        return _CHANGED
    executable = facts.executable
    if executable.filesystem not in host.filesystems:
        return Refusal(IDENTITY_NOT_VERIFIED, f"its executable lies on {executable.filesystem}")
    if not facts.retired and facts.at_path != (executable.key.device, executable.key.inode):
        return Refusal(
            IDENTITY_NOT_VERIFIED,
            f"the file at {executable.path} is not the one that runs: it was replaced since, or mounted over",
        )
    return judge_memory(facts, host) or judge_descriptor(facts)


def retired(facts: PeerFacts, verified: Mapping[tuple[int, int], Program]) -> PeerFacts:
    """The facts, under its old path if the running file was removed from there and had been verified there.

    ``verified`` are programs by device and inode, which no other file can have while it runs. The kernel writes
    " (deleted)" behind the name of a removed file; a name that really ends so is that of a file that stands there.
    """
    executable = facts.executable
    place = executable.key.device, executable.key.inode
    program = verified.get(place)
    if program is None or facts.at_path == place or executable.path != f"{program.path} (deleted)":
        return facts
    named = msgspec.structs.replace(executable, path=program.path)
    return msgspec.structs.replace(facts, executable=named, retired=True)


def judge_memory(facts: PeerFacts, host: HostFacts) -> Refusal | None:
    """None if nobody else has a hand on the process, and its own file is what it runs (rules 5 and 6)."""
    if facts.seccomp_filters > host.seccomp_filters:
        return Refusal(
            IDENTITY_NOT_VERIFIED,
            "it runs under a seccomp filter of its own: whoever installed that can put descriptors into it",
        )
    if facts.tracer:
        return Refusal(IDENTITY_NOT_VERIFIED, f"process {facts.tracer} traces it: run it without the debugger")
    if not facts.code.program:
        return Refusal(IDENTITY_NOT_VERIFIED, "its own file is not among the code that it has mapped")
    return None


def judge_descriptor(facts: PeerFacts) -> Refusal | None:
    """None if the program that runs now is the one that opened the connection (rule 5)."""
    if not facts.holds_socket:
        return Refusal(
            SOCKET_NOT_CLOEXEC,
            "another process holds the peer's end of the connection, not the one that connected",
        )
    if facts.inheritable:
        return Refusal(SOCKET_NOT_CLOEXEC, "its descriptor is inheritable: open the socket with SOCK_CLOEXEC")
    return None


def same_process(before: PeerFacts, after: PeerFacts) -> Refusal | None:
    """None if nothing that identity rests on changed between two looks (rule 7)."""
    if before.exec_id != after.exec_id or before.executable != after.executable:
        return _CHANGED
    return None


def judge_strict(facts: StrictFacts) -> Refusal | None:
    """None if the looks of strict mode found nothing."""
    if facts.traced:
        return Refusal(IDENTITY_NOT_VERIFIED, "strict: one of its threads is traced")
    if facts.patched:
        return Refusal(IDENTITY_NOT_VERIFIED, f"strict: its code of {facts.patched} was changed in memory")
    if facts.holders:
        pids = ", ".join(map(str, facts.holders))
        return Refusal(SOCKET_NOT_CLOEXEC, f"strict: its end of the connection is held by other processes too ({pids})")
    return None


def native(
    facts: PeerFacts,
    sha256: str,
    host: HostFacts,
    *,
    of_root: bool,
    libraries: frozenset[Program] = frozenset(),
    signature: Signature | None = None,
    publisher: str = "",
    certificate: str = "",
) -> Identity:
    """The identity of a program that the kernel runs directly. ``of_root``: only root can replace its file.

    ``publisher`` and ``certificate`` are who signed the file, where the system says it of that and not of the process.
    """
    return Identity(
        Program(facts.executable.path, sha256),
        Grade.SYSTEM if of_root and not libraries else Grade.USER,
        facts.pid,
        facts.uid,
        libraries=libraries,
        executable_memory=facts.code.in_memory,
        foreign_mounts=facts.namespaces.mount != host.namespaces.mount,
        retired=facts.retired,
        signature=signature,
        guarded=facts.guard == host.guard >= 0,
        publisher=facts.publisher or publisher,
        certificate=certificate,
    )


def judge_script(script: ScriptFacts, host: HostFacts) -> Refusal | None:
    """None if the script's content can mean something. Asked before it is read, which may take long."""
    if script.filesystem not in host.filesystems:
        return Refusal(IDENTITY_NOT_VERIFIED, f"the script {script.path} lies on {script.filesystem}")
    if script.writable_by_others:
        return Refusal(
            IDENTITY_NOT_VERIFIED,
            f"other users can change {script.writable_by_others}, so {script.path} proves nothing",
        )
    return None


def declared(facts: PeerFacts, sha256: str, script: ScriptFacts, host: HostFacts) -> Identity | Refusal:
    """The identity of an interpreter whose command line names ``script``.

    What it has mapped says nothing here: whoever can forge a command line need not map anything.
    """
    return judge_script(script, host) or Identity(
        Program(facts.executable.path, sha256),
        Grade.DECLARED,
        facts.pid,
        facts.uid,
        Program(script.path, script.sha256),
        foreign_mounts=facts.namespaces.mount != host.namespaces.mount,
    )


def launched(
    facts: PeerFacts, interpreter: Program, script: Program, launch: Launch, host: HostFacts, *,
    libraries: frozenset[Program],
) -> Identity:  # fmt: skip
    """The identity of a script that was looked at before its first instruction. An interpreter may make code."""
    return Identity(
        interpreter,
        Grade.LAUNCHED,
        facts.pid,
        facts.uid,
        script,
        libraries=libraries,
        foreign_mounts=facts.namespaces.mount != host.namespaces.mount,
        launch=launch,
    )


def _foreign(facts: PeerFacts, host: HostFacts) -> list[str]:
    ours, theirs = host.namespaces, facts.namespaces
    if ours == theirs:  # nearly always
        return []
    return [name for name in ("user", "pid", "mount") if getattr(ours, name) != getattr(theirs, name)]

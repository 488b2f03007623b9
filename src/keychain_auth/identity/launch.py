"""May the process that stands before its first instruction be called the launched script? Pure.

Somebody asked to launch a registered script, and has executed something. The kernel stopped it at the end of that exec
(PTRACE_EVENT_EXEC): nothing of the old program is left, nothing of the new one has run. What is looked at here is all
that an exec carries over, or lets the caller choose, and that could bend an honest interpreter:

* the file that runs, its arguments, its environment;
* its open files: a connection made by another program before the exec would be the script's by every later rule
  (Node marks what it inherits close-on-exec), so only standard streams and the script itself may be there;
* the script's bytes: a sealed memory file that nobody can change any more (memfd_create(2), F_GET_SEALS);
* code that was put into it: other mappings than the interpreter's and the loader's;
* a hand on it: tracers, seccomp filters, other namespaces;
* personality(2) flags, which an exec keeps: without address randomisation a later exec could look like this one;
* an ignored SIGCHLD, with which a script takes failed commands for successful ones; a core file to be had by a signal.

What this does not promise: anything about what the script does, or about memory that is written by a process which
the kernel lets do so later.
"""

from __future__ import annotations

import msgspec

from keychain_auth.identity.attest import Refusal
from keychain_auth.identity.facts import Code, ExecId, HostFacts, Namespaces
from keychain_auth.reasons import IDENTITY_NOT_VERIFIED


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What the daemon agreed to: the interpreter by path and hash, the beginning of the command line, variables
    that must be there, and the memory file (device, inode) on descriptor ``script_fd``. ``tracer``: the daemon's
    thread, by its number."""

    program: str
    sha256: str
    argv: tuple[str, ...]
    variables: dict[str, str]
    script: tuple[int, int]
    script_fd: int
    tracer: int


class FrontFacts(msgspec.Struct, frozen=True, gc=False):
    """A process that is about to become a script, or just has. ``tracer`` is 0 for none."""

    namespaces: Namespaces
    threads: int
    tracer: int
    seccomp_filters: int
    ignores_children: bool


class StoppedFacts(msgspec.Struct, frozen=True, gc=False):
    """The same process at the end of its exec, and what the exec made of it.

    ``files`` are its descriptors: number to (device, inode) of what is behind it; ``sealed``: the script's can be
    changed by nobody. ``strays`` says in words which of its standard streams lead to the daemon, or are no stream.
    ``forbidden`` are the names of variables that it must not have. ``core_bytes``: how large its core file may be.
    ``sockets``: those of the connections that the daemon had by then, or that waited for it, by number.
    """

    front: FrontFacts
    path: str
    sha256: str
    exec_id: ExecId
    command_line: bytes
    forbidden: tuple[str, ...]
    environment: bytes
    code: Code
    files: dict[int, tuple[int, int]]
    sealed: bool
    strays: tuple[str, ...]
    personality: int
    core_bytes: int
    sockets: frozenset[int] = frozenset()


def judge_front(facts: FrontFacts, host: HostFacts, tracer: int) -> Refusal | None:
    """None if nobody but ``tracer`` (0: nobody) has a hand on the process, and it sees what the daemon sees."""
    if facts.namespaces != host.namespaces:
        return _refuse("it runs in other namespaces than the daemon")
    if facts.threads != 1:
        return _refuse(f"it has {facts.threads} threads")
    if facts.tracer != tracer:
        return _refuse(f"process {facts.tracer} traces it" if facts.tracer else "it is not traced by the daemon")
    if facts.seccomp_filters > host.seccomp_filters:
        return _refuse("it runs under a seccomp filter of its own")
    if facts.ignores_children:
        return _refuse("it ignores SIGCHLD, and would take failed commands for successful ones")
    return None


def judge_stopped(facts: StoppedFacts, wanted: Wanted, host: HostFacts) -> Refusal | None:
    """None if the process is the script that was asked for, and nothing else, before its first instruction."""
    if (refusal := judge_front(facts.front, host, wanted.tracer)) is not None:
        return refusal
    if facts.path != wanted.program or facts.sha256 != wanted.sha256:
        return _refuse(f"it runs {facts.path} sha256:{facts.sha256}, not {wanted.program} sha256:{wanted.sha256}")
    if not facts.command_line.startswith(b"".join(_encode(word) + b"\0" for word in wanted.argv)):
        return _refuse("its command line is not the one that was agreed on")
    if facts.forbidden:
        return _refuse(f"variables that change what an interpreter runs: {', '.join(facts.forbidden[:8])}")
    if (variable := _missing(facts.environment, wanted.variables)) is not None:
        return _refuse(f"the variable {variable} is not as agreed")
    if not facts.code.program or facts.code.files or facts.code.in_memory:
        return _refuse("other code than the interpreter's own is mapped into it")
    if facts.personality:
        return _refuse(f"it runs with the personality {facts.personality:#x} (address randomisation off?)")
    if facts.core_bytes:
        return _refuse("it may leave core files")
    return _judge_files(facts, wanted)


def _judge_files(facts: StoppedFacts, wanted: Wanted) -> Refusal | None:
    others = sorted(facts.files.keys() - {0, 1, 2, wanted.script_fd})
    if others:
        return _refuse(f"it inherits the descriptors {', '.join(map(str, others[:8]))}")
    if facts.files.get(wanted.script_fd) != wanted.script or not facts.sealed:
        return _refuse(f"descriptor {wanted.script_fd} is not the sealed script")
    if facts.strays:
        return _refuse(f"a standard stream of it: {'; '.join(facts.strays)}")
    return None


def _missing(environment: bytes, variables: dict[str, str]) -> str | None:
    entries = environment.split(b"\0")
    for name, value in variables.items():
        if [entry for entry in entries if entry.startswith(_encode(name) + b"=")] != [_encode(f"{name}={value}")]:
            return name
    return None


def _encode(word: str) -> bytes:
    return word.encode("utf-8", "surrogateescape")


def _refuse(why: str) -> Refusal:
    return Refusal(IDENTITY_NOT_VERIFIED, why)

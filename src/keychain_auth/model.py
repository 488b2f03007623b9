"""The nouns that every room shares: frozen values, no behaviour that touches the world.

They are msgspec structs: creating one costs a tenth of a dataclass, the wire codec and the policy
parser fill them directly with type checks, and ``gc=False`` keeps them out of the garbage
collector's work on the request path (none of them can be part of a cycle).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

Action = Literal["read", "write", "delete", "search", "check"]
Match = Literal["exact", "prefix"]


class Grade(StrEnum):
    """How surely the daemon knows which program is asking, the weakest first.

    ``DECLARED``: the kernel runs a registered interpreter whose command line names the registered script. A command
    line is the process's own memory: this grade stops accidents, not an attacker who runs as the same user.
    ``LAUNCHED``: a registered script that was looked at before its first instruction.
    ``USER``: the kernel runs exactly the registered file, which this user could replace.
    ``SYSTEM``: the same for a file that only root can replace, in folders that only root can change.
    ``SIGNED``: the file carries the signature of a trusted signer.
    """

    DECLARED = "declared"
    LAUNCHED = "launched"
    USER = "user"
    SYSTEM = "system"
    SIGNED = "signed"

    def reaches(self, minimum: Grade) -> bool:
        """Is this grade ``minimum`` or a surer one?"""
        return _RANK[self] >= _RANK[minimum]


_RANK = {grade: rank for rank, grade in enumerate(Grade)}


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request that has passed every check of the wire format."""

    action: Action
    service: str
    match: Match = "exact"
    targets: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    attributes: dict[str, str] = {}  # msgspec copies a mutable default for each instance


class Item(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One stored secret as it is answered; ``value`` is None where none may be shown (search)."""

    target: str
    value: str | None = None
    attributes: dict[str, str] | None = None


class Program(msgspec.Struct, frozen=True, gc=False):
    """A file by name and content: ``sha256`` is 64 lower-case hex digits."""

    path: str
    sha256: str


class Signature(msgspec.Struct, frozen=True, gc=False):
    """A verified signature: the 32-byte public key that it fits, and the build number if it carries one."""

    key: bytes
    build: int | None = None


class Launch(msgspec.Struct, frozen=True, gc=False):
    """What a launched script may import beside its interpreter's own library.

    ``imports`` are the folders that are put on its path, in this order; ``prefix`` is its virtual environment, "" for
    none. ``trees`` are folders and files, with a digest over all that is in them, for what others than root can change.
    """

    prefix: str = ""
    imports: tuple[str, ...] = ()
    trees: tuple[Program, ...] = ()


class Requester(msgspec.Struct, frozen=True, gc=False):
    """Who stands behind a helper: the nearest of its parents that is no shell.

    ``program`` is the executable, or the script that it runs by the word of its command line; then ``interpreter`` is
    the executable. ``of_root``: only root could replace these files. ``problem`` says why it cannot be believed, "" if
    it can. ``chain`` are the executables between the helper and it, itself the last.
    """

    program: Program
    interpreter: Program | None = None
    of_root: bool = False
    problem: str = ""
    chain: tuple[str, ...] = ()


class Behind(msgspec.Struct, frozen=True, gc=False):
    """A requester that an entry names. ``sha256`` is "" where the path says enough: then the file must be root's.
    ``interpreter`` is the path of what runs a script, "" for a program."""

    path: str
    sha256: str = ""
    interpreter: str = ""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who is asking, as far as the kernel and the files vouch for it.

    ``program`` is the running executable. ``script`` is the file that an interpreter runs, when its
    command line declares one. ``pid`` and ``uid`` are in the daemon's own namespaces.

    ``signature`` was verified for the bytes of ``program``. Whether its key is trusted is for the policy to say, which
    also makes the grade ``signed`` of it; ``grade`` is what the file is without.

    ``libraries`` are the files beside the program whose code it has mapped and that this user could replace.
    ``executable_memory``: it has memory that holds code of no file (what a just-in-time compiler makes).
    ``foreign_mounts``: it sees other mounts than the daemon. ``launch``: how a launched script was started.
    ``retired``: its file was removed from its path since the daemon verified it there. ``guarded``: it was started so
    that no other program of its user can look into it (system mode). ``publisher``: who signed the code that runs, by
    the operating system's word: on macOS the team identifier, on Windows the subject of an Authenticode certificate, ""
    for nobody; ``certificate`` is then "sha256:…" of that (Windows).
    """

    program: Program
    grade: Grade
    pid: int
    uid: int
    script: Program | None = None
    libraries: frozenset[Program] = frozenset()
    executable_memory: bool = False
    foreign_mounts: bool = False
    signature: Signature | None = None
    launch: Launch | None = None
    retired: bool = False
    guarded: bool = False
    publisher: str = ""
    certificate: str = ""

    @property
    def subject(self) -> Program:
        """The file that a person registers and approves: the script if there is one."""
        return self.script or self.program


class Temporary(msgspec.Struct, frozen=True, gc=False):
    """A grant that ends: see ``policy.temporary``.

    ``targets`` are exact names, None for any. ``expires_at``: seconds since the epoch, None for never, ``expires_text``
    the same as it stands in the file; ``seconds``: how long it was given for, 0 if that is not known. ``uses``: how
    often, None for as often as it lasts. ``behind``: the path of who must stand behind a helper, "" for anyone.
    """

    id: str
    service: str
    read: bool
    write: bool
    targets: frozenset[str] | None = None
    expires_at: float | None = None
    expires_text: str = ""
    seconds: int = 0
    uses: int | None = None
    behind: str = ""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One registered program and what it may do, compiled for deciding.

    For a script, ``program`` is the script and ``interpreter`` what must run it. ``minimum_grade`` is how surely it
    must be known. ``allowed_targets`` is None (no limit) or a tuple of prefixes. ``libraries``, ``executable_memory``
    and ``foreign_mounts`` allow what ``Identity`` says under the same names; ``strict`` asks for the looks of strict
    mode; ``launch`` is what a launched script may import. ``signer`` is the public key whose signature this entry takes
    in place of the hash; ``no_rollback`` refuses what has a lower build number than was seen. ``automatic``: no line of
    config.json, but what a trusted signer gives.

    ``grace_seconds`` is for how long the version before stays accepted after an upgrade; ``until`` the moment when that
    ends, in seconds since the epoch, in the entry as it counts for such a version.

    ``allow_stale_reads``: while a keychain that is elsewhere does not answer, what it answered lately will do.
    ``temporary`` are grants that end. ``on_behalf_of`` are who may stand behind a helper; None: it answers whoever
    starts it.
    ``users`` are the names or numbers of the users that it counts for, None for all; ``guarded`` asks for a process
    that nobody else of its user can look into. ``publisher`` is who must have signed the code, by name or by
    certificate, "" for anybody.

    ``withheld`` are services that this entry names and that ask for a surer grade than the caller's, with that
    grade (filled in by ``policy.match``; they are in neither list then), and ``known_as`` is the caller's grade then.
    """

    program: Program
    read_services: frozenset[str]
    write_services: frozenset[str]
    can_search: bool
    registered_at: str
    interpreter: Program | None = None
    minimum_grade: Grade = Grade.USER
    allowed_targets: tuple[str, ...] | None = None
    libraries: frozenset[Program] = frozenset()
    executable_memory: bool = False
    foreign_mounts: bool = False
    strict: bool = False
    signer: bytes | None = None
    no_rollback: bool = False
    automatic: bool = False
    launch: Launch = Launch()
    withheld: dict[str, Grade] = {}
    known_as: Grade | None = None
    grace_seconds: int = 0
    until: float | None = None
    allow_stale_reads: bool = False
    on_behalf_of: tuple[Behind, ...] | None = None
    users: frozenset[str] | None = None
    guarded: bool = False
    publisher: str = ""
    temporary: tuple[Temporary, ...] = ()


class Grant(msgspec.Struct, frozen=True, gc=False):
    """The policy allows the request."""

    entry: Entry


class Denial(msgspec.Struct, frozen=True, gc=False):
    """The policy does not allow it, and why.

    ``reason`` is the wire reason. ``field`` names what in the entry decided, ``wanted`` what the request
    needed there, ``found`` what stands there. ``entry`` is None when no entry matched at all. ``grant`` is the id of
    the temporary grant that is over, or has other targets, if that is why.
    """

    reason: str
    field: str
    wanted: str
    found: str
    entry: Entry | None = None
    grant: str = ""


Decision = Grant | Denial

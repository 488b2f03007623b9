"""What the daemon would make of a program, were it started now: from its files, by the daemon's own functions.

For ``check``, ``explain`` and ``doctor``. What is not looked at is what only a process has: what it mapped, who traces
it, where it was started. A process that runs an older version of the file is judged by that version, not by this.
"""

from __future__ import annotations

import os
import shlex
import sys

from keychain_auth import reasons
from keychain_auth.cli.shared import config_file, location
from keychain_auth.cli.shared.programs import look_at
from keychain_auth.client import admin
from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError, NotFound
from keychain_auth.model import Denial, Entry, Grade, Identity, Program
from keychain_auth.oslayer import system
from keychain_auth.platform.place import publisher_of_file
from keychain_auth.policy.builds import Builds
from keychain_auth.policy.match import match
from keychain_auth.policy.parse import Policy
from keychain_auth.policy.signers import grade_of

_STATUS_SECONDS = 5.0


def known_name(known: Policy, path: str) -> str:
    """The path of a known program, or of one that a trusted signer signed. Raises NotFound."""
    try:
        return config_file.known_program(known, path)
    except NotFound as missing:
        try:
            file = look_at(path, known.signers)
        except KeychainAuthError:
            raise missing from None
        if file.signature is None or file.is_interpreter:
            raise
        return file.program.path


def present(known: Policy, name: str, builds: Builds) -> tuple[Entry, Grade | None, Denial | None]:
    """The entry that the files of this moment match or the nearest one, the grade of its program, what does not fit."""
    nearest = next(iter(known.by_path.get(name, ())), None)
    try:
        identity = identity_of(known, name, nearest)
    except KeychainAuthError as error:
        if nearest is None:
            raise
        # Without its file there is nothing to mend but the entry; what cannot be read is another matter.
        field = "path" if isinstance(error, NotFound) and not os.path.lexists(name) else "file"
        return nearest, None, Denial(reasons.PENDING_APPROVAL, field, name, str(error), nearest)
    found = match(known, identity, builds)
    problem = found if isinstance(found, Denial) else None
    entry = found.entry or nearest if isinstance(found, Denial) else found
    if entry is None:  # it was replaced between two looks at it
        raise NotFound(f"{name} is not registered", hint=f"keychain-auth register {shlex.quote(name)}")
    return entry, grade_of(known, identity), problem


def identity_of(known: Policy, name: str, nearest: Entry | None) -> Identity:
    """What the daemon would make of the program, started as its entry asks for. Raises KeychainAuthError."""
    file = look_at(name, known.signers)
    # The kernel names the real file: an entry by a link, written by hand, matches nobody.
    program = Program(file.program.path if os.name == "posix" else name, file.program.sha256)
    if nearest is None or nearest.interpreter is None:
        grade, signature = location.grade_of(name), file.signature
        publisher, certificate = publisher_of_file(name)
        if nearest is not None and sys.platform == "darwin":
            publisher = nearest.publisher  # macOS vouches for what runs
        return Identity(
            program, grade, pid=0, uid=system.user_id(), signature=signature, guarded=True, publisher=publisher,
            certificate=certificate,
        )  # fmt: skip
    interpreter = look_at(nearest.interpreter.path).program
    # The surest that it can be known. Started otherwise than by ``launch``, it is declared.
    return Identity(interpreter, location.SCRIPT_GRADE, pid=0, uid=system.user_id(), script=program)


def held(places: Places, name: str, entry: Entry) -> Denial | None:
    """Why a running daemon holds the program, whatever the policy says; None if it does not, or none can be asked."""
    try:
        status = admin.ask("status", socket=places.agent_socket, timeout=_STATUS_SECONDS)
        when = next(held["when"] for held in status["held"] if held["program"] == name)
    except (KeychainAuthError, KeyError, TypeError, StopIteration):
        return None
    return Denial(reasons.PENDING_APPROVAL, "held", "no canary touched", f"one touched at {when}", entry)

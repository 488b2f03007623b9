"""config.json on disk: read for the daemon, changed for the command line.

Contract (protocol, section "Files"): a change is seen at once, because the file's version is looked at before each use
of the policy (one stat, about a microsecond; a notification could arrive after the request that it should have
stopped). A file that becomes malformed, unreadable or unsafe while the daemon runs changes nothing: the last good
policy stays, and ``problem`` says so until the file is good again. A file that is removed is an empty policy: nobody
is registered.

With a *seal* (a passphrase is set) only the document that a person accepted is obeyed: the vault keeps its text. An
edit that nobody accepted, a removed file too, changes nothing, and ``problem`` says so. Formatting does not count. A
command has its change accepted before it writes the file: until it does, for at most some seconds, a file that still
says what was accepted before is no edit. What is obeyed is the new text all the time.

Changes are made under a lock, from the newest content, checked by the same parser, and replace the file atomically: two
commands at once both count.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import TypeVar

from keychain_auth import files
from keychain_auth.errors import KeychainAuthError, PolicyFormatError, UnsafeFile, quoted
from keychain_auth.policy import edit
from keychain_auth.policy.parse import EMPTY, Policy, parse_document, parse_policy

T = TypeVar("T")
Version = tuple[int, int, int, int, int]

# Kernels before 6.13 stamp files with the clock of the last tick (up to 10 ms): two edits within one can look the same.
_TICK_NS = 20_000_000
_WRITTEN_SECONDS = 10.0  # a command writes the file at once when its change is accepted; a disk may be slow


def load(path: str) -> Policy:
    """The policy in the file, EMPTY if there is none. Raises PolicyFormatError, UnsafeFile."""
    try:
        content = files.read_private(path)
    except FileNotFoundError:
        return EMPTY
    return parse_policy(content)


def change(
    path: str,
    edit_document: Callable[[edit.Document], tuple[edit.Document, T]],
    before_writing: Callable[[edit.Document, str], None] = lambda document, text: None,
) -> T:
    """Replace the document in the file by what ``edit_document`` makes of it; returns its second value.

    ``before_writing`` gets the old document and the new text, and can still refuse by raising.
    Raises PolicyFormatError for a file that is malformed already (it is not touched), UnsafeFile, OSError.
    """
    files.make_private_dir(os.path.dirname(path))
    with files.locked(path):
        try:
            content = files.read_private(path)
        except FileNotFoundError:
            document = edit.empty_document()
        else:
            parse_policy(content)
            _, document = parse_document(content)
        changed, result = edit_document(document)
        if changed != document or not os.path.exists(path):
            text = json.dumps(changed, indent=2, ensure_ascii=False) + "\n"
            parse_policy(text.encode())
            before_writing(document, text)
            files.replace(os.path.realpath(path), text.encode())  # a link to where somebody keeps it stays one
    return result


UNSEALED = "it was changed, and nobody sealed the change (keychain-auth policy seal)"
MISSING = (
    "there is no such file, and what was accepted last stays obeyed: bring the file back, or accept that no program "
    "may do anything (keychain-auth policy seal)"
)


class PolicyFile:
    """The daemon's view of config.json. ``generation`` grows with every policy that is put in force."""

    def __init__(self, path: str) -> None:
        """Raises PolicyFormatError or UnsafeFile when the file cannot be obeyed: the daemon must not start."""
        self.path = path
        self.problem = ""
        self.generation = 1
        self.on_change: Callable[[PolicyFile, Policy], None] = lambda policy_file, before: None
        self._version: Version | None = None
        self._settled = False  # false: a later edit could look the same, so read again
        self._accepted: object = None  # the JSON value that is obeyed, while there is a seal
        self._replaced: object = None  # what was accepted before, and stands in the file until the command writes it
        self._replaced_until = 0.0
        self.sealed = False
        self.policy = self._told = load(path)

    def seal(self, text: str | None, *, by_command: bool = False) -> None:
        """From now on obey only the document ``text``; None: the file, as it is.

        ``by_command``: a person accepted it now, and the file follows. Puts that policy in force, and looks at the
        file. Raises PolicyFormatError: then nothing changes.
        """
        self._replaced = None
        if text is not None:
            policy = parse_policy(text.encode())
            if by_command:
                self._replaced, self._replaced_until = self._accepted, time.monotonic() + _WRITTEN_SECONDS
            _, self._accepted = parse_document(text.encode())
            if policy != self.policy:
                self.policy = policy
                self.generation += 1
        self.sealed = text is not None
        self._version, self._settled = None, False
        if not by_command:  # it was in force already, when it was accepted
            self._told = self.policy
        self.refresh()
        if self._told is not self.policy:
            self._tell()

    def refresh(self) -> None:
        """Put the newest good content in force; ``on_change`` is called if the policy or ``problem`` changed.

        It gets this object, and the policy that was told to it before.
        """
        try:
            about = os.stat(self.path)
        except OSError:
            version = None
        else:
            version = (about.st_ino, about.st_ctime_ns, about.st_mtime_ns, about.st_size, about.st_dev)
        if version == self._version and self._settled:
            return
        self._version = version
        # abs: a file from the future, after the clock was set back, is not read again at each turn.
        self._settled = version is None or abs(time.time_ns() - version[1]) > _TICK_NS
        if self._read():
            self._tell()

    def _tell(self) -> None:
        before, self._told = self._told, self.policy
        self.on_change(self, before)

    def _read(self) -> bool:
        before = self.problem
        try:
            policy = self._load()
        except PolicyFormatError as error:
            self.problem = str(error)
            return self.problem != before
        except UnsealedEdit as error:
            self.problem = str(error)
            return self.problem != before
        except (UnsafeFile, OSError) as error:
            self._settled = False  # it may be a passing fault (no descriptors left): look again each time
            self.problem = str(error)
            return self.problem != before
        self.problem = ""
        if policy == self.policy:
            return before != ""
        self.policy = policy
        self.generation += 1
        return True

    def _load(self) -> Policy:
        """The policy that the file says now. Raises PolicyFormatError, UnsafeFile (an edit that nobody sealed too)."""
        if not self.sealed:
            return load(self.path)
        try:
            content = files.read_private(self.path)
        except FileNotFoundError:  # no file allows nothing, and if that was accepted all is well
            content = json.dumps(edit.empty_document()).encode()
        policy = parse_policy(content)
        document = parse_document(content)[1]
        if document == self._accepted:
            self._replaced = None  # from now on the text of before is an edit as any other
            return policy
        if self._replaced is not None and document == self._replaced and time.monotonic() < self._replaced_until:
            self._settled = False
            return self.policy
        raise UnsealedEdit(UNSEALED if os.path.lexists(self.path) else MISSING)


class UnsealedEdit(UnsafeFile):
    """The file is not what a person accepted."""


def require_good(path: str) -> Policy:
    """The policy for a command; a problem is told with the file's name. Raises KeychainAuthError."""
    try:
        return load(path)
    except PolicyFormatError as error:
        raise KeychainAuthError(f"{path}: {error}", hint=f"edit {quoted(path)}") from None

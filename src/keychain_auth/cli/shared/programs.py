"""From a path that a person typed to the file that is meant, its SHA-256, and what it is.

Contract: symlinks are resolved, because the kernel names a program by its real path. Only a regular file is read (never
a FIFO, never a device), in constant memory.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Collection
from typing import NamedTuple

from keychain_auth.errors import KeychainAuthError, NotFound, UsageError
from keychain_auth.identity.signature import Trailer
from keychain_auth.model import Program, Signature
from keychain_auth.oslayer import system
from keychain_auth.platform.signed_file import Examined, examine
from keychain_auth.policy.behalf import is_helper
from keychain_auth.policy.interpreters import is_interpreter

_HEAD_BYTES = 8192  # a first line, and a second one that names a path (PATH_MAX)
_SCRIPT_SUFFIXES = (".py", ".js", ".mjs", ".cjs", ".sh")


class File(NamedTuple):
    """A file as it is now: real path and hash, how it begins, the path as it was typed, and what was found of a
    signature: ``examined.trailer`` is a claim, ``signature`` is verified.
    """

    program: Program
    head: bytes
    typed: str
    examined: Examined

    @property
    def trailer(self) -> Trailer | None:
        """What its end claims, None if it is not signed."""
        return self.examined.trailer

    @property
    def signature(self) -> Signature | None:
        """Its signature, if it is by one of the keys that were given."""
        return self.examined.signature

    @property
    def is_script(self) -> bool:
        """Does the kernel run another program for it? Then it is never the executable of a process."""
        return self.head.startswith(b"#!") or self.program.path.endswith(_SCRIPT_SUFFIXES)

    @property
    def is_interpreter(self) -> bool:
        """By its real name, or by the one that was typed (``awk`` is ``mawk`` somewhere else)."""
        return is_interpreter(self.program.path) or is_interpreter(self.typed)

    @property
    def is_program(self) -> bool:
        """Is it what the kernel runs directly?"""
        return self.head.startswith(system.PROGRAM_MAGIC)


def look_at(path: str, keys: Collection[bytes] = ()) -> File:
    """Read and hash the file that ``path`` leads to, and look whether one of the public ``keys`` signed it.

    Raises as ``open_file``.
    """
    real, fd = open_file(path)
    try:
        examined = examine(fd, os.fstat(fd).st_size, keys, sys.maxsize)
        head = system.pread(fd, _HEAD_BYTES, 0)
    finally:
        os.close(fd)
    return File(Program(real, examined.sha256), head, path, examined)


def open_file(path: str) -> tuple[str, int]:
    """The real path that ``path`` leads to, and a readable descriptor of the regular file there.

    Raises NotFound, UsageError for what is not a regular file or has a name that config.json cannot hold,
    KeychainAuthError for what cannot be read.
    """
    real = os.path.realpath(path)
    try:
        real.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{real} is not UTF-8, and config.json can hold no other name", hint="rename it") from None
    try:
        # A FIFO must not be waited for, and what was resolved stays resolved.
        fd = system.open_file(real, os.O_RDONLY | system.CAREFUL | system.NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path} does not exist") from None
    except OSError as error:
        raise KeychainAuthError(f"cannot read {real}: {error.strerror}", hint=f"ls -l {shlex.quote(real)}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"{real} is not a regular file")
    return real, fd


def how_to_register(path: str) -> str:
    """The command that makes the file at ``path`` known, as a program or as a script; ``list`` if it cannot be."""
    try:
        file = look_at(path)
    except KeychainAuthError:
        return "keychain-auth list"
    if file.is_interpreter:
        return "keychain-auth register --script SCRIPT"
    if file.is_script and is_helper(path):
        return f"keychain-auth register --app {shlex.quote(path)}"
    return f"keychain-auth register {'--script ' if file.is_script else ''}{shlex.quote(path)}"


def require_program(path: str) -> File:
    """The file at ``path``, if it can be a registered program of its own. Raises UsageError, and as ``look_at``."""
    file = look_at(path)
    if file.is_interpreter:
        raise UsageError(
            f"{file.program.path} runs other programs, or speaks for them: to register it would register them all",
            hint="keychain-auth register --script SCRIPT",
        )
    if file.is_script:
        raise UsageError(
            f"{file.program.path} is a script: what runs is its interpreter",
            hint=f"keychain-auth register --script {shlex.quote(path)}",
        )
    return file


def spellings(path: str) -> tuple[str, ...]:
    """The names under which ``path`` may stand in the policy: where it leads, and as it was typed.

    The second is for programs that are gone, and for what was written into config.json by hand.
    """
    return tuple(dict.fromkeys((os.path.realpath(path), os.path.abspath(path), path)))

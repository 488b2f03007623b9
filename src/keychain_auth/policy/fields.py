"""Single fields of config.json: from words to values, or a refusal that names the line and the field. Pure.

Each function gets the text of the file, and the JSON path of the field in it, for the sake of that refusal.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NoReturn

from keychain_auth.errors import PolicyFormatError
from keychain_auth.identity.signature import parse_public_key
from keychain_auth.model import Grade, Program
from keychain_auth.moments import moment_of
from keychain_auth.policy.documents import EntryDocument, ProgramDocument
from keychain_auth.policy.locate import line_of
from keychain_auth.policy.names import is_absolute

_HASH = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


def parse_hash(text: str) -> str | None:
    """The 64 lower-case hex digits of ``sha256:<hex>`` or bare hex, or None if it is neither."""
    match = _HASH.fullmatch(text)
    return match.group(1).lower() if match else None


def moment(text: str, field: str, word: str) -> float | None:
    """Seconds since the epoch; None for an empty word. Raises PolicyFormatError, as all below."""
    if not word:
        return None
    try:
        return moment_of(word)
    except ValueError:
        refuse(text, field, "a moment is written 2026-05-21T12:00:00Z")


def check_name(text: str, field: str, word: str, longest: int) -> None:
    """Can a service or a target be called that?"""
    if not 1 <= len(word) <= longest or any(unicodedata.category(char) == "Cc" for char in word):
        refuse(text, field, f"1 to {longest} characters, no control characters")


def public_key(text: str, field: str, word: str) -> bytes:
    """The 32 bytes of a public key."""
    try:
        return parse_public_key(word)
    except ValueError as problem:
        refuse(text, field, str(problem))


def program_of(text: str, field: str, document: EntryDocument | ProgramDocument) -> Program:
    """Path and hash of a file."""
    sha256 = parse_hash(document.hash)
    if sha256 is None:
        refuse(text, f"{field}.hash", "a hash is sha256:<64 hex digits>, or the digits alone")
    if not is_absolute(document.path) or "\0" in document.path:
        refuse(text, f"{field}.path", "a path is absolute")
    return Program(path=document.path, sha256=sha256)


def grade_of(text: str, field: str, word: str) -> Grade:
    """A grade by its name."""
    try:
        return Grade(word)
    except ValueError:
        refuse(text, field, f"one of: {', '.join(Grade)}")


def refuse(text: str, field: str, problem: str) -> NoReturn:
    """Raises PolicyFormatError with the line of ``field`` in ``text``."""
    raise PolicyFormatError(problem, line=line_of(text, field), field=field)

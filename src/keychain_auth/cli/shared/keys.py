"""Keys as people give them to a command: a public key in base64, or the file that it lies in."""

from __future__ import annotations

import os

from keychain_auth.cli.shared.programs import open_file
from keychain_auth.crypto.ed25519 import NotAKey, load_public
from keychain_auth.errors import UsageError, quoted
from keychain_auth.identity.signature import checked_key, parse_public_key

_LARGEST_FILE = 64 * 1024


def public_key_of(text: str) -> bytes:
    """The 32 bytes of the key that ``text`` is, or that lies in the file ``text`` in PEM or DER. Raises UsageError."""
    try:
        return parse_public_key(text)
    except ValueError as problem:
        if not os.path.exists(text):
            raise UsageError(f"{text} is neither a public key ({problem}) nor a file") from None
    content = key_file(text)
    try:
        return checked_key(load_public(content) if content.lstrip().startswith(b"-----") else content)
    except (ValueError, NotAKey) as problem:
        mend = f"openssl pkey -in {quoted(text)} -pubout" if b"PRIVATE KEY" in content else ""
        raise UsageError(f"{text} is no public key: {problem}", hint=mend) from None


def key_file(path: str) -> bytes:
    """The content of a file that could hold a key. Raises UsageError, and as ``programs.open_file``."""
    _, fd = open_file(path)
    with os.fdopen(fd, "rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise UsageError(f"{path} is too large for a key")
    return content

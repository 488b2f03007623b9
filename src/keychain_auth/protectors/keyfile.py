"""The key file: 32 random bytes in a file of mode 0600. No question is asked at start.

What it stops: a copy of ``vault.db`` alone (a backup, a synchronised folder, a support archive that leaves the
key file out), and other users. What it does *not* stop: whoever can read files as this user, or as root,
reads the key file too. The broker's rules bind programs that ask the broker, not those that read the disk.

The file says what it is, and carries an id of its key, so that a damaged key and the key of another vault
can be told apart::

    keychain-auth key file 1
    id 0123456789abcdef
    key <base64 of 32 bytes>
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets

from keychain_auth import files
from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Params
from keychain_auth.crypto.kdf import subkey
from keychain_auth.errors import VaultError, VaultKeyMissing, quoted

KIND = "keyfile"
_TITLE = "keychain-auth key file 1"
_LIMIT = 4096


class KeyFile:
    """The protector of kind ``keyfile``; ``path`` is where its file is, or will be."""

    kind = KIND
    asked = False

    def __init__(self, path: str) -> None:
        self.path = path
        self._prepared: bytes | None = None

    def present(self) -> bool:
        """True if something is there under the file's name, even a dangling link."""
        return os.path.lexists(self.path)

    def create(self) -> tuple[Params, bytes]:
        """A new key, in memory only until ``commit``."""
        self._refuse_overwriting()
        self._prepared = secrets.token_bytes(KEY_BYTES)
        return {"key_id": _key_id(self._prepared)}, self._prepared

    def commit(self) -> None:
        """Write the file, whole and durable. Raises VaultError if that fails or a file is there."""
        if self._prepared is None:
            raise RuntimeError("commit() comes after create()")
        self._refuse_overwriting()
        key, self._prepared = self._prepared, None
        try:
            files.replace(self.path, _text(key))
        except OSError as error:
            raise VaultError(
                f"cannot write the key file {self.path}: {error.strerror}",
                hint=f"df -h {quoted(os.path.dirname(self.path))}",
            ) from error

    def withdraw(self, params: Params) -> None:
        """Remove the file. What the disk keeps of it, it keeps: copies of it open older copies of the vault."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            files.sync_dir(os.path.dirname(self.path))
        except OSError as error:
            raise VaultError(f"cannot remove {self.path}: {error.strerror}", hint=f"rm {quoted(self.path)}") from error

    def unwrap_key(self, params: Params) -> bytes:
        """The key, if it is the one that the slot was made with.

        Raises VaultKeyMissing (no file, not a key file, another vault's key) or UnsafeFile.
        """
        try:
            content = files.read_private(self.path, _LIMIT)
        except FileNotFoundError:
            raise VaultKeyMissing(
                f"the vault is there, but its key file {self.path} is missing",
                hint=f"restore {self.path} from a backup",
            ) from None
        key = self._parse(content)
        if params.get("key_id") != _key_id(key):
            raise VaultKeyMissing(
                f"{self.path} is the key of another vault (key id {_key_id(key)})",
                hint=f"restore vault.db and {os.path.basename(self.path)} from the same backup",
            )
        return key

    def _parse(self, content: bytes) -> bytes:
        lines = content.split(b"\n")
        try:
            key = base64.b64decode(lines[2].removeprefix(b"key "), validate=True)
        except (IndexError, binascii.Error):
            key = b""
        # Compared as a whole: one key has one text, so not a single bit may differ.
        if len(key) != KEY_BYTES or content != _text(key):
            raise VaultKeyMissing(f"the key file {self.path} is damaged", hint=f"restore {self.path} from a backup")
        return key

    def _refuse_overwriting(self) -> None:
        if self.present():
            raise VaultError(
                f"there is a key file already: {self.path}",
                hint="keychain-auth protect list; only if none of the slots is a key file: "
                f"mv {quoted(self.path)} {quoted(self.path)}.old",
            )


def _key_id(key: bytes) -> str:
    """16 hex digits that name the key and tell nothing about it."""
    return subkey(key, b"", "key file id")[:8].hex()


def _text(key: bytes) -> bytes:
    return f"{_TITLE}\nid {_key_id(key)}\nkey {base64.b64encode(key).decode()}\n".encode()

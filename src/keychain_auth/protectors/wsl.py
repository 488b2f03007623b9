"""Windows, from a Linux that runs inside it (WSL): a helper program on the Windows side keeps the vault's key.

The helper is any program that obeys this contract; interop starts it like a Linux program. It gets one line of JSON on
its standard input and answers with one line on its standard output, within a minute::

    {"version": 1, "action": "protect", "name": NAME, "secret": BASE64}     a key of 32 bytes
    {"ok": true, "blob": BASE64}                                            only Windows can make use of this

    {"version": 1, "action": "unprotect", "name": NAME, "blob": BASE64}
    {"ok": true, "secret": BASE64}

    {"ok": false, "error": "one line for the person"}

``NAME`` is random, chosen when the slot is made; a helper binds the blob to it (DPAPI: as entropy). How it protects the
key is its own affair: DPAPI for the user, the Credential Manager, or Windows Hello, which asks. What it returned is
kept in the slot, so the helper needs no memory of its own.

What it stops: whoever has the files without the Windows account. What it does *not* stop: a program of the same Linux
user that starts the helper itself, unless the helper asks the person. The helper's path comes from ``daemon.toml``, and
nothing is looked for on PATH: a program found there would see the key.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import subprocess
from typing import Any

from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.errors import VaultKeyMissing, quoted

KIND = "wsl"
_SECONDS = 60  # a person may have to look into a camera
_LONGEST_ANSWER = 64 * 1024
# What interop needs to reach Windows from a process that was not started by a WSL shell (init's socket).
_KEPT_VARIABLES = ("WSL_INTEROP", "WSL_DISTRO_NAME")


class WslHelper:
    """The protector of kind ``wsl``. ``path``: the helper, absolute; empty if none is set."""

    kind = KIND
    asked = False

    def __init__(self, path: str) -> None:
        self._path = path

    def present(self) -> bool:
        """Never: what belongs to a slot lies in the slot."""
        return False

    def create(self) -> tuple[Params, Key]:
        """A new key, and what the helper made of it. Raises VaultKeyMissing."""
        key = secrets.token_bytes(KEY_BYTES)
        name = f"keychain-auth {secrets.token_hex(8)}"
        blob = self._ask("protect", name, "secret", key, "blob")
        if key in blob:
            raise VaultKeyMissing(f"{self._path} returned the key as it was: that protects nothing")
        return {"name": name, "blob": base64.b64encode(blob).decode()}, key

    def commit(self) -> None:
        """Nothing to keep: the slot has it."""

    def withdraw(self, params: Params) -> None:
        """Nothing to remove: the helper keeps nothing."""

    def unwrap_key(self, params: Params) -> Key:
        """What the helper gives back. Raises VaultKeyMissing."""
        try:
            name, blob = params["name"], base64.b64decode(params["blob"], validate=True)
        except (KeyError, binascii.Error):
            raise ValueError("the slot lacks what the helper made") from None
        key = self._ask("unprotect", name, "blob", blob, "secret")
        if len(key) != KEY_BYTES:
            raise VaultKeyMissing(f"what {self._path} returned is no key")
        return bytearray(key)

    def _ask(self, action: str, name: str, given: str, content: bytes, wanted: str) -> bytes:
        if not self._path:
            raise VaultKeyMissing("no Windows helper is set", hint="write wsl_helper under [lock] in daemon.toml")
        question = {"version": 1, "action": action, "name": name, given: base64.b64encode(content).decode()}
        env = {variable: os.environ[variable] for variable in _KEPT_VARIABLES if variable in os.environ}
        try:
            done = subprocess.run(
                [self._path], input=json.dumps(question).encode() + b"\n", capture_output=True, check=False, cwd="/",
                env={"PATH": "/usr/bin:/bin", **env}, timeout=_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise VaultKeyMissing(f"{self._path} did not answer within {_SECONDS} s") from None
        except OSError as error:
            raise VaultKeyMissing(
                f"cannot run {self._path}: {error.strerror}", hint=f"ls -l {quoted(self._path)}"
            ) from None
        answer = _parsed(done.stdout)
        if answer.get("ok") is not True:
            said = answer.get("error")
            why = said[:200] if isinstance(said, str) else f"it ended with {done.returncode}, and without an answer"
            raise VaultKeyMissing(f"{self._path} does not {action} the key: {why}")
        try:
            return base64.b64decode(answer[wanted], validate=True)
        except (KeyError, TypeError, ValueError):
            raise VaultKeyMissing(f"the answer of {self._path} has no {wanted}") from None


def _parsed(line: bytes) -> dict[str, Any]:
    """The answer; empty if it is none. Windows programs end lines with CR LF, and some begin with a mark (BOM)."""
    if len(line) > _LONGEST_ANSWER:
        return {}
    try:
        answer = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}

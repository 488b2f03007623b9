"""The policy's seal: while a passphrase is set, only what a person accepted is obeyed.

The vault keeps the accepted text of config.json among its own rows. There it is sealed like every secret, part of the
same transactions, and cannot be put back to an earlier version alone. The file stays the file: people and commands
edit it, and it counts once it says what was accepted.

Contract: the accepted text is stored before it is obeyed, and before the passphrase's slot exists; it is dropped after
that slot is gone. So a vault with a passphrase always knows what is accepted.
"""

from __future__ import annotations

import json

from keychain_auth import files
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.errors import PolicyFormatError, UsageError
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_POLICY
from keychain_auth.policy.edit import empty_document
from keychain_auth.policy.parse import parse_policy
from keychain_auth.protectors import passphrase


class PolicySeal:
    """Ties ``policy_file`` to what ``safe`` remembers."""

    def __init__(self, safe: Safe, policy_file: PolicyFile) -> None:
        self._safe = safe
        self._policy_file = policy_file

    def opened(self, vault: Vault) -> None:
        """The vault was opened: from now on what it remembers is obeyed. Raises KeychainError.

        What this version cannot read (a newer one accepted it) allows nothing to nobody, until somebody seals anew.
        """
        if not any(slot.kind == passphrase.KIND for slot in vault.slots):
            return
        nothing = _text(empty_document())
        try:
            self._policy_file.seal(vault.own(OWN_POLICY) or nothing)
        except PolicyFormatError:
            self._policy_file.seal(nothing)

    def accepted(self) -> str | None:
        """The text that is obeyed; None without a seal. Raises VaultLocked if only the locked vault knows."""
        if passphrase.KIND not in self._safe.slot_kinds():
            return None
        return self._safe.vault.own(OWN_POLICY)

    async def prepare(self) -> None:
        """Before the first passphrase: accept what is obeyed now. Raises UsageError if the file says something else."""
        path = self._policy_file.path
        self._policy_file.refresh()
        try:
            content = files.read_private(path)
        except FileNotFoundError:
            content = _text(empty_document()).encode()
        if self._policy_file.problem or parse_policy(content) != self._policy_file.policy:
            raise UsageError(f"{path} is not obeyed at the moment, so it cannot be sealed", hint="keychain-auth status")
        await self._safe.vault.keep_own(OWN_POLICY, content.decode())

    def close(self) -> None:
        """The first passphrase is set: obey what was accepted, and nothing else."""
        self.opened(self._safe.vault)

    async def drop(self) -> None:
        """The last passphrase is gone: obey the file again."""
        await self._safe.vault.keep_own(OWN_POLICY, None)
        self._policy_file.seal(None)

    async def accept(self, text: str) -> None:
        """Obey ``text`` from now on. Raises UsageError if it is no policy, or if there is no seal."""
        if not self._safe.guarded:
            raise UsageError(
                "the policy is sealed only while a passphrase is set", hint="keychain-auth protect add passphrase"
            )
        try:
            parse_policy(text.encode())
        except PolicyFormatError as error:
            raise UsageError(f"this is no policy: {error}") from None
        except UnicodeEncodeError:
            raise UsageError("this is no policy: it is not UTF-8") from None
        await self._safe.vault.keep_own(OWN_POLICY, text)
        self._policy_file.seal(text, by_command=True)


def _text(document: object) -> str:
    return json.dumps(document, indent=2) + "\n"

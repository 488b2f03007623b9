"""How often each temporary grant was used. Kept in the vault, among its own rows: sealed, and durable before an answer.

Contract: a use is counted in memory in the moment in which it is decided, so that two requests never share one, and is
in the vault before anything is given out. What cannot be stored is not given out; its count stays, until the daemon
ends: a use is rather lost than given twice. A restart brings no use back.

What it does not promise: anything against a vault that is put back to an earlier time as a whole (docs/threat-model.md,
"Rollback").
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.errors import VaultDamaged
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_USES
from keychain_auth.policy.parse import Policy

_MOST = 4096
"""Counts that are kept of grants that no entry has any more: an older config.json may come back."""


class Uses:
    """Counts by the id of a grant."""

    def __init__(self, safe: Safe) -> None:
        self._safe = safe
        self._used: dict[str, int] = {}

    @property
    def used(self) -> Mapping[str, int]:
        """How often each was used; what is not there was not."""
        return self._used

    def opened(self, vault: Vault) -> None:
        """The vault was opened: what it knows counts. Raises KeychainError."""
        text = vault.own(OWN_USES)
        stored = {} if text is None else json.loads(text)
        if not isinstance(stored, dict) or not all(isinstance(count, int) for count in stored.values()):
            raise VaultDamaged("the counts of temporary grants in the vault are not what they must be")
        for grant, count in stored.items():
            self._used[grant] = max(count, self._used.get(grant, 0))

    def count(self, grant: str) -> int:
        """One use more, from now on; which one it is. ``keep`` makes it durable."""
        self._used[grant] = self._used.get(grant, 0) + 1
        return self._used[grant]

    async def keep(self) -> None:
        """Return when all that was counted is durable. Raises KeychainError (VaultLocked)."""
        await self._safe.vault.keep_own(OWN_USES, json.dumps(self._used))

    def forget_others(self, policy: Policy) -> None:
        """Drop the oldest counts that belong to no grant of ``policy``, where there are too many of them."""
        known = {grant.id for entry in policy.by_program.values() for grant in entry.temporary}
        others = [grant for grant in self._used if grant not in known]
        for grant in others[: max(0, len(others) - _MOST)]:
            del self._used[grant]

"""How far the audit log had come, remembered by the vault: a log that is gone, or was put back, does not begin anew.

``audit.head`` lies beside the log, and whoever removes or replaces one can do that to both while no daemon runs. The
vault is elsewhere, sealed, and cannot be put back for this alone.

Contract: a line is on the disk before the vault remembers it, so that a power cut never looks like an attack. It is
remembered once a minute if there are new ones, before a lock, and at the end. A log without that line is continued
behind it, with a finding, and ``audit verify`` says from then on what is missing.

What it does not promise: the lines of the last minute before a daemon is killed, and those of a locked vault. Nor
anything where the key file opens the vault: then whoever changes the log can change the vault too.
"""

from __future__ import annotations

import asyncio

from keychain_auth.audit.chain import Position
from keychain_auth.audit.log import AuditLog
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.state.settings_seal import SettingsSeal
from keychain_auth.errors import AuditError, KeychainError, VaultDamaged
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_AUDIT_MARK

_EVERY_SECONDS = 60.0


class AuditMark:
    """Opens the log by the settings that ``settings_seal`` has, and remembers where it is."""

    def __init__(self, safe: Safe, path: str, settings_seal: SettingsSeal, journal: Journal) -> None:
        self._safe = safe
        self._path = path
        self._settings_seal = settings_seal
        self._journal = journal
        self._log: AuditLog | None = None
        self._task: asyncio.Task[None] | None = None
        self.known: Position | None = None
        """The line that the vault remembers."""

    def opened(self, vault: Vault) -> None:
        """The vault was opened, the log perhaps not yet. Raises KeychainError."""
        self.known = marked_in(vault)

    def open_log(self, key: bytes) -> AuditLog:
        """The log, continued where it was, or behind what the vault remembers. Raises AuditError, UnsafeFile."""
        limits = self._settings_seal.obeyed.audit
        self._log = AuditLog.open(self._path, key, max_bytes=limits.max_bytes, keep=limits.keep, known=self.known)
        return self._log

    def start(self) -> None:
        """Begin to remember."""
        self._task = asyncio.ensure_future(self._from_time_to_time())

    async def stop(self) -> None:
        """End, and remember the last line."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.keep()

    async def keep(self) -> None:
        """Remember the present line, once it is on the disk. What cannot be done is told, and tried again."""
        log = self._log
        if log is None or not self._safe.is_open:
            return
        seq, chain = log.head
        if self.known is not None and self.known.seq == seq:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(None, log.sync)
            await self._safe.remember(OWN_AUDIT_MARK, f"{seq} {chain}")
        except (AuditError, KeychainError) as error:
            self._journal.error("how far the audit log has come is not remembered", why=error)
            return
        self.known = Position(seq, bytes.fromhex(chain))

    async def _from_time_to_time(self) -> None:
        while True:
            await self.keep()
            await asyncio.sleep(_EVERY_SECONDS)


def marked_in(vault: Vault) -> Position | None:
    """The line of the audit log that ``vault`` remembers. Raises KeychainError."""
    text = vault.own(OWN_AUDIT_MARK)
    if text is None:
        return None
    try:
        seq, chain = text.split()
        return Position(int(seq), bytes.fromhex(chain))
    except ValueError:
        raise VaultDamaged("what the vault remembers of the audit log is not what it must be") from None

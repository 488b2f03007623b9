"""The vault behind a door: a keychain that is open or locked, and the ways from one to the other.

    start ──► open (a slot opens without a person) ──► lock, timers ──► locked ──► unlock ──► open
         └──► locked (only a person can open it)

Contract:
* While it is locked, every operation raises VaultLocked at once (``keychain_locked`` on the wire). Nobody waits, and
  nobody but ``keychain-auth unlock`` asks a person for anything.
* Locking waits for the changes under way, then wipes the keys. Afterwards only the file's lock is kept, so that no
  other daemon takes the vault meanwhile.
* Wrong answers are looked at one at a time, with a growing pause between them (``lock_rules.Backoff``).

What it does not promise: that no secret is left in memory after a lock. What was answered was a Python object; what the
vault wipes, and what not, is said in ``keychain.vault.vault``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from keychain_auth.crypto.envelope import Protector
from keychain_auth.daemon.locking.lock_rules import Backoff, Timers
from keychain_auth.daemon.settings import LockSettings
from keychain_auth.errors import KeychainAuthError, TooManyGuesses, VaultLocked, WrongPassphrase
from keychain_auth.keychain.vault import Keys, Vault, claim_vault, open_vault, peek_slots
from keychain_auth.model import Item
from keychain_auth.oslayer import system
from keychain_auth.policy.users import belongs

T = TypeVar("T")
_MOST_GUESSES_WAITING = 8
_GUARDING = "passphrase"


def clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return system.seconds_since_boot()


class Safe:
    """One vault and its door. A Keychain. All methods belong to the event loop but ``open_at_start``."""

    def __init__(
        self,
        folder: str,
        unattended: Callable[[], Sequence[Protector]],
        key: memoryview,
        settings: LockSettings,
        *,
        history: Callable[[Vault], int],
    ) -> None:
        """``unattended``: what can open a slot without a person. ``key``: memory for the vault key. ``history``: see
        ``open_vault``.

        Raises VaultInUse, VaultError, UnsafeFile.
        """
        self._folder = folder
        self._unattended = unattended
        self._key = key
        self._history = history
        self._claim = claim_vault(folder)
        self._vault: Vault | None = None
        self.why_locked = "nobody has unlocked it yet"
        self._used = False
        self._timers = Timers(settings.idle_seconds, settings.absolute_seconds)
        self._backoff = Backoff()
        self._guessing = asyncio.Lock()
        self._guesses = 0
        self._moving = asyncio.Lock()  # from open to locked or back, one at a time
        self._watch: asyncio.Task[None] | None = None
        self.on_open: Callable[[Vault], None] = lambda vault: None
        """Called with the vault before anybody can use it; if it raises, the vault stays locked."""
        self.on_lock: Callable[[str], None] = lambda why: None
        self.before_lock: Callable[[], Awaitable[None]] = _nothing
        """Awaited while it can still be written to."""

    # --- open and locked ----------------------------------------------------------------------

    def open_at_start(self, makers: Sequence[Protector]) -> None:
        """Open it, or make it with slots of ``makers``, if that needs no person; else it stays locked.

        Raises VaultError or UnsafeFile for a vault that nobody could open, and what ``on_open`` raises.
        """
        try:
            vault = self._opened(self._unattended(), makers)
        except VaultLocked as locked:
            why = (
                str(locked).removeprefix("the vault is locked").strip()
            )  # what opens it by itself, and why that did not
            self.why_locked = f"nobody has unlocked it yet {why}".strip()
            return
        try:
            self.on_open(vault)
        except BaseException:
            asyncio.run(vault.close())
            raise
        self._admit(vault)

    def require_open(self) -> None:
        """Raises VaultLocked."""
        if self._vault is None:
            raise self._locked()

    @property
    def vault(self) -> Vault:
        """The open vault; to ask for it is to use it. Raises VaultLocked."""
        if self._vault is None:
            raise self._locked()
        self._used = True
        return self._vault

    @property
    def is_open(self) -> bool:
        """Can secrets be read now?"""
        return self._vault is not None

    @property
    def guarded(self) -> bool:
        """Is a passphrase set? While the vault is locked: False, for nothing can be done with it then."""
        return self._vault is not None and any(slot.kind == _GUARDING for slot in self._vault.slots)

    async def unlock(self, answers: Sequence[Protector]) -> None:
        """Open it with what a person answered; with no answer, by the slots that need none. Open is well too.

        Raises WrongPassphrase (after the pause that is due), VaultError, and what ``on_open`` raises.
        """

        async def opening() -> None:
            async with self._moving:
                if self._vault is not None:
                    return
                vault = await _in_thread(partial(self._opened, answers or self._unattended(), ()))
                try:
                    self.on_open(vault)
                except BaseException:
                    await vault.close()
                    raise
                self._admit(vault)

        await (self._guess(opening) if answers else opening())

    async def lock(self, why: str) -> bool:
        """Lock it; False if it is locked already."""
        async with self._moving:
            if self._vault is not None:
                await self.before_lock()
            vault, self._vault = self._vault, None
            if vault is None:
                return False
            self.why_locked = why
            await vault.close()
        self.on_lock(why)
        return True

    async def remember(self, name: str, text: str) -> bool:
        """Keep a row of the vault's own, which is no use of it; False, and nothing is kept, while it is locked.

        Raises KeychainError.
        """
        if self._vault is None:
            return False
        await self._vault.keep_own(name, text)
        return True

    async def prove(self, answers: Sequence[Protector]) -> None:
        """Return if ``answers`` open a slot of the open vault.

        Raises WrongPassphrase (after the pause that is due), VaultLocked.
        """
        vault = self.vault

        async def proving() -> None:
            if not await Keys(vault).fit(answers):
                raise WrongPassphrase("this passphrase opens no slot of the vault")

        await self._guess(proving)

    async def _guess(self, look: Callable[[], Awaitable[T]]) -> T:
        if self._guesses >= _MOST_GUESSES_WAITING:
            raise TooManyGuesses("too many passphrases are being tried at this moment", hint="keychain-auth status")
        self._guesses += 1
        try:
            async with self._guessing:
                if pause := self._backoff.pause(clock()):
                    await asyncio.sleep(pause)
                try:
                    result = await look()
                except WrongPassphrase:
                    self._backoff.failed(clock())
                    raise
                self._backoff.succeeded()
                return result
        finally:
            self._guesses -= 1

    def _opened(self, protectors: Sequence[Protector], makers: Sequence[Protector]) -> Vault:
        return open_vault(self._folder, protectors, self._key, history=self._history, claim=self._claim, makers=makers)

    def _admit(self, vault: Vault) -> None:
        self._vault = vault
        self._timers.opened(clock())

    def _locked(self) -> VaultLocked:
        return VaultLocked(f"the vault is locked: {self.why_locked}", hint="keychain-auth unlock")

    # --- time ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the time."""
        self._watch = asyncio.ensure_future(self._watch_time())

    async def _watch_time(self) -> None:
        while True:
            await asyncio.sleep(self._timers.resolution)
            if self._vault is None:
                continue
            now = clock()
            if self._used:
                self._used = False
                self._timers.used(now)
            if why := self._timers.expired(now):
                await self.lock(why)

    # --- the keychain -------------------------------------------------------------------------

    def read_now(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item] | None:
        """See Keychain."""
        vault = self._vault
        if vault is None:
            raise self._locked()
        self._used = True
        return vault.read_now(service, targets, attributes)

    def read(
        self, service: str, targets: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        vault = self._vault
        if vault is None:
            raise self._locked()
        self._used = True
        return vault.read(service, targets, attributes)

    def read_prefix(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self.vault.read_prefix(service, prefixes, attributes)

    def search(
        self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]
    ) -> Coroutine[Any, Any, list[Item]]:
        """See Keychain."""
        return self.vault.search(service, prefixes, attributes)

    def write(
        self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str], program: str = ""
    ) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        return self.vault.write(service, entries, attributes, program)

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> Coroutine[Any, Any, None]:
        """See Keychain."""
        return self.vault.delete(service, targets, attributes)

    def services(self) -> Coroutine[Any, Any, list[str]]:
        """See Keychain."""
        return self.vault.services()

    async def stored(self, owner: str, but: str, targets: Sequence[str]) -> tuple[int, int]:
        """What ``owner`` (``policy.users``) stores, see Vault. Raises VaultLocked."""
        return await self.vault.stored(partial(belongs, owner=owner), but, targets)

    async def probe(self) -> None:
        """Nothing to ask: what is known here is how it is."""

    def health(self) -> dict[str, object]:
        """See Keychain. Of a locked vault: why it is locked, and the kinds of its slots as the file says."""
        if self._vault is not None:
            return self._vault.health()
        return {"backend": "vault", "open": False, "locked": self.why_locked, "slots": self.slot_kinds()}

    def slot_kinds(self) -> list[str]:
        """The kinds of the key slots, by number; of a locked vault, as its file says."""
        if self._vault is not None:
            return [slot.kind for slot in self._vault.slots]
        try:
            return [slot.kind for slot in peek_slots(self._folder)]
        except KeychainAuthError:
            return []

    async def close(self) -> None:
        """Lock it for good, and let others have the file."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        async with self._moving:
            vault, self._vault = self._vault, None
            self.why_locked = "the daemon is stopping"
            if vault is not None:
                await vault.close()
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def _nothing() -> None:
    """Before a lock, unless somebody has something to do."""

"""The seal of daemon.toml: while a passphrase is set, a daemon serves by the settings that a person accepted.

The vault keeps the accepted text, as it keeps that of config.json (``policy_seal``). Settings shape the daemon from its
first moment on, and the vault that knows them opens later. So a daemon begins by what the file says, gives nothing out
while the vault is locked, and compares when it opens: one that began by other settings ends there (``StartAnew``), and
the next begins by the accepted text. Nothing that was verified, remembered or counted by the wrong settings lives on.

Contract:
* No program is served, no earlier value dropped, no line of the audit log rotated away by settings that differ from the
  accepted ones. Two texts are the same if they say the same: formatting and comments do not count.
* The accepted text is stored before the passphrase's slot exists, and dropped after that slot is gone.
* The text that one daemon gives the next (``hand_on``) is not trusted either: it is compared like the file.

What it does not promise: the accepted settings while the vault was not open yet. Until then the file decides how long a
stranger waits, or which helper is asked for the key. Nor a seal where nobody has accepted anything since this version
was installed: then the file is obeyed, and ``problem`` says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.settings import HistorySettings, Settings, parse_settings, read_settings
from keychain_auth.errors import EXIT_LOCKED, KeychainAuthError, UsageError
from keychain_auth.keychain.vault import Vault
from keychain_auth.keychain.vault.format import OWN_SETTINGS
from keychain_auth.protectors import passphrase

LONGEST = 64 * 1024
"""Bytes of a text that is accepted: it must fit into a variable (MAX_ARG_STRLEN of execve(2) is 128 KiB)."""
UNSEALED = "it was changed, and nobody sealed the change (keychain-auth policy seal)"
NEVER_SEALED = "a passphrase is set, and nobody has accepted these settings yet (keychain-auth policy seal)"
UNREADABLE = "what was accepted last cannot be read by this version, and the strictest settings are obeyed"
_VARIABLE = "KEYCHAIN_AUTH_ACCEPTED_SETTINGS"
_EVERY_VALUE = 1_000_000

STRICTEST = Settings(strict=True, history=HistorySettings(values=_EVERY_VALUE))
"""What is obeyed in place of an accepted text that this version cannot read: it refuses more, and loses nothing."""


class StartAnew(KeychainAuthError):
    """This daemon runs by other settings than those that were accepted: the next one must begin by ``text``.

    ``kept``: the listeners that it gets (``Listener.share``).
    """

    exit_code = EXIT_LOCKED

    def __init__(self, text: str) -> None:
        super().__init__("the daemon starts anew with the settings that were accepted", hint="keychain-auth unlock")
        self.text = text
        self.kept: list[tuple[int, bool]] = []


class Ending(NamedTuple):
    """How a daemon ended. What the next one is to be given, if there has to be one (``again``): the listeners ``kept``
    (``Listener.share``), and the text of ``settings`` to begin by in place of those of the file."""

    kept: list[tuple[int, bool]]
    settings: str | None
    again: bool


def accepted_settings(text: str) -> Settings:
    """What an accepted text says."""
    try:
        return parse_settings(text.encode())
    except ValueError:
        return STRICTEST


def hand_on(text: str | None) -> None:
    """Leave the accepted text for the daemon that this process becomes; None: it reads the file."""
    os.environ.pop(_VARIABLE, None)
    if text is not None:
        os.environ[_VARIABLE] = f"{os.getpid()}:{text}"


def handed() -> str | None:
    """The text that was left for this process, and for no other."""
    pid, _, text = os.environ.pop(_VARIABLE, "").partition(":")
    return text if pid == str(os.getpid()) else None


class SettingsSeal:
    """Ties the settings ``running`` of this daemon, and the file at ``path``, to what ``safe`` remembers.

    ``tell`` is called with the path and each new ``problem`` of a file that is not obeyed.
    """

    def __init__(self, safe: Safe, path: str, running: Settings, tell: Callable[[str, str], None]) -> None:
        self.path = path
        self._safe = safe
        self._running = running
        self._tell = tell
        self._told = ""
        self._read: tuple[tuple[int, ...] | None, Settings | str] | None = None
        self._accepted: Settings | None = None
        self.text: str | None = None
        """What was accepted, as far as this daemon knows: None without a seal, and before the vault was ever open."""

    # --- when the vault opens -------------------------------------------------------------------

    def opened(self, vault: Vault) -> Settings:
        """What must be obeyed from now on. Raises KeychainError."""
        self._know(_remembered(vault))
        return self.obeyed

    @property
    def obeyed(self) -> Settings:
        """What is, or must be, obeyed."""
        return self._running if self._accepted is None else self._accepted

    def history(self, vault: Vault) -> int:
        """How many earlier values of a secret stay: asked before anything of ``vault`` is changed."""
        return self.opened(vault).history.values

    def require_running(self) -> None:
        """Raises StartAnew if this daemon runs by something else than what must be obeyed."""
        if self.text is not None and self.obeyed != self._running:
            raise StartAnew(self.text)

    def _know(self, text: str | None) -> None:
        self.text = text
        self._accepted = None if text is None else accepted_settings(text)

    # --- what a person does ---------------------------------------------------------------------

    def accepted(self) -> str | None:
        """The text that was accepted; None if none was. Raises VaultLocked if only the locked vault knows."""
        if passphrase.KIND not in self._safe.slot_kinds():
            return None
        return _remembered(self._safe.vault)

    async def prepare(self) -> None:
        """Before the first passphrase: accept what is obeyed now. Raises UsageError if the file says something else."""
        text, settings = read_settings(self.path)
        if settings != self._running:
            raise UsageError(f"{self.path} was changed since the daemon started", hint="keychain-auth restart")
        await self._keep(text)

    def close(self) -> None:
        """The first passphrase is set."""
        self._know(_remembered(self._safe.vault))

    async def drop(self) -> None:
        """The last passphrase is gone: the next start obeys the file again."""
        await self._safe.vault.keep_own(OWN_SETTINGS, None)
        self._know(None)

    async def accept(self, text: str) -> None:
        """Obey ``text`` from the next start on. Raises UsageError if these are no settings, or if there is no seal."""
        if not self._safe.guarded:
            raise UsageError(
                "settings are sealed only while a passphrase is set", hint="keychain-auth protect add passphrase"
            )
        try:
            parse_settings(text.encode())
        except ValueError as error:
            raise UsageError(f"these are no settings: {error}") from None
        await self._keep(text)
        self._know(text)

    async def _keep(self, text: str) -> None:
        if len(text.encode()) > LONGEST:
            raise UsageError(f"{self.path} has more than {LONGEST} bytes", hint="shorten its comments")
        await self._safe.vault.keep_own(OWN_SETTINGS, text)

    # --- the file -------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the file, and tell of a change that is not obeyed."""
        problem = self.problem
        if problem and problem != self._told and self.text is not None:
            self._tell(self.path, problem)
        self._told = problem

    @property
    def problem(self) -> str:
        """Why the file is not what is obeyed, "" if it is, or if nobody can know yet."""
        if self._accepted is None:
            sealed = passphrase.KIND in self._safe.slot_kinds()
            return NEVER_SEALED if sealed and self._safe.is_open else ""
        if self._accepted is STRICTEST:
            return UNREADABLE
        said = self._file()
        if isinstance(said, str):
            return said
        return UNSEALED if said != self._accepted else ""

    def status(self) -> dict[str, object]:
        """For ``keychain-auth status``. ``restart``: something else is obeyed after one."""
        after = self._file() if self._accepted is None else self._accepted
        return {
            "path": self.path,
            "state": self._state(),
            "sealed": self.text is not None,
            "problem": self.problem,
            "restart": isinstance(after, Settings) and after != self._running,
        }

    def _state(self) -> str:
        if self.text is not None:
            return "last accepted" if self.problem else "as accepted"
        if self._safe.is_open or passphrase.KIND not in self._safe.slot_kinds():
            return "in force"
        return "in force until the vault is opened"

    def _file(self) -> Settings | str:
        """What the file says, or what is wrong with it; read only when it is another version of it."""
        try:
            about = os.stat(self.path)
            version = (about.st_ino, about.st_ctime_ns, about.st_mtime_ns, about.st_size, about.st_dev)
        except OSError:
            version = None
        if self._read is None or self._read[0] != version:
            said: Settings | str
            try:
                said = read_settings(self.path)[1]
            except (KeychainAuthError, OSError) as error:
                said = str(error)
            self._read = (version, said)
        return self._read[1]


def _remembered(vault: Vault) -> str | None:
    if not any(slot.kind == passphrase.KIND for slot in vault.slots):
        return None
    return vault.own(OWN_SETTINGS)

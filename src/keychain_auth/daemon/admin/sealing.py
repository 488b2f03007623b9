"""What a person accepts while a passphrase is set: the policy, and the settings. Over the admin socket.

Contract: as in ``admin.socket``. What was accepted is told to every program of the user: it is the content of files
that are the user's. To accept something takes the passphrase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keychain_auth.daemon.admin.socket import AdminCommands, AdminRequest, Command
from keychain_auth.daemon.state.policy_seal import PolicySeal
from keychain_auth.daemon.state.settings_seal import SettingsSeal
from keychain_auth.errors import UsageError
from keychain_auth.platform.base import Peer

SEALING_OPEN_TO_ALL = frozenset(("policy-accepted", "settings-accepted"))


class SealCommands:
    """``table`` is for ``AdminCommands.add``."""

    def __init__(self, policy: PolicySeal, settings: SettingsSeal, commands: AdminCommands) -> None:
        self._policy = policy
        self._settings = settings
        self._record = commands.record
        self.table: Mapping[str, Command] = {
            "policy-accepted": self._policy_accepted,
            "policy-seal": self._policy_seal,
            "settings-accepted": self._settings_accepted,
            "settings-seal": self._settings_seal,
        }

    async def _policy_accepted(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        text = self._policy.accepted()
        return {"sealed": text is not None, "text": text}

    async def _policy_seal(self, request: AdminRequest, peer: Peer, path: str) -> None:
        text = _text(request)
        self._record(peer, path, "policy_seal", "", ())
        await self._policy.accept(text)

    async def _settings_accepted(self, request: AdminRequest, peer: Peer, path: str) -> dict[str, Any]:
        text = self._settings.accepted()
        return {"sealed": text is not None, "text": text}

    async def _settings_seal(self, request: AdminRequest, peer: Peer, path: str) -> None:
        text = _text(request)
        self._record(peer, path, "settings_seal", "", ())
        await self._settings.accept(text)


def _text(request: AdminRequest) -> str:
    if request.value is None:
        raise UsageError("the text that is accepted is needed")
    return request.value

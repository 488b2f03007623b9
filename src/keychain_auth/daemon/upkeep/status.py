"""What the daemon says of itself: ``keychain-auth status``, and the facts of ``doctor``.

Contract: no secret, no name of one; nothing is changed, and nobody is waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from keychain_auth import __version__
from keychain_auth.daemon.admin.canaries import alarms_of
from keychain_auth.daemon.locking.late_audit import LateAudit
from keychain_auth.daemon.locking.safe import Safe
from keychain_auth.daemon.locking.sleep_watch import SleepWatch
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.serving.server import Server
from keychain_auth.daemon.state import pending_file
from keychain_auth.daemon.state.canary_watch import CanaryWatch
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.daemon.state.settings_seal import SettingsSeal
from keychain_auth.daemon.upkeep.notifying import Notifier
from keychain_auth.errors import KeychainAuthError
from keychain_auth.keychain.router import Router
from keychain_auth.platform import paths
from keychain_auth.protectors.strength import what_they_stop


class Status(NamedTuple):
    """The parts that are asked. ``rules``: how callers are identified, ``counts``: how many were."""

    places: Places
    started: float
    server: Server
    policy_file: PolicyFile
    settings_seal: SettingsSeal
    safe: Safe
    router: Router
    sleep: SleepWatch
    canaries: CanaryWatch
    notifier: Notifier
    audit: LateAudit
    rules: dict[str, str]
    counts: Mapping[str, int]
    key_locked: bool

    def tell(self) -> dict[str, Any]:
        """The state of this moment."""
        policy = self.policy_file
        seq, chain = self.audit.head
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": int(time.time() - self.started),
            "socket": self.places.agent_socket,
            "connections": self.server.connections,
            "policy": {
                "path": self.places.policy,
                "entries": len(policy.policy.by_program),
                "state": "last good" if policy.problem else "in force",
                "sealed": policy.sealed,
                "problem": policy.problem,
                "trusted_signers": len(policy.policy.signers),
            },
            "settings": self.settings_seal.status(),
            "pending": self._count_pending(),
            "keychain": self.safe.health(),
            "keychains": self.router.health(),
            "sleep": self.sleep.state,
            "held": alarms_of(self.canaries),
            "notifications": self.notifier.state,
            "protection": what_they_stop(self.safe.slot_kinds(), own_user=paths.is_system()),
            "audit": {"path": self.places.audit_log, "seq": seq, "chain": chain, "waiting": self.audit.waiting},
            "identity": self.rules,
            "counts": dict(self.counts),
            "key_memory_locked": self.key_locked,
        }

    def _count_pending(self) -> int | None:
        try:
            return len(pending_file.load(self.places.pending))
        except (KeychainAuthError, ValueError, OSError):
            return None

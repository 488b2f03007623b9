"""The daemon without a single check of who is asking, to measure what the checks cost. Never part of the product.

Usage: as ``keychain-auth``. Whoever connects is taken for the first program of the policy.
"""

from __future__ import annotations

import sys

from keychain_auth.cli.main import main
from keychain_auth.daemon.attesting.attestation import Attested, Attestor
from keychain_auth.model import Grade, Identity
from keychain_auth.platform.linux.channel import UnixChannel
from keychain_auth.policy.parse import Policy


class Anybody:
    """A peer that nobody looked at."""

    look = "not looked at"

    def __init__(self, pid: int, uid: int) -> None:
        self.pid = pid
        self.uid = uid

    def runs_same_file(self) -> bool:
        """Not looked at."""
        return True

    def close(self) -> None:
        """Nothing is held."""


async def attest(self: Attestor, peer: Anybody, policy: Policy) -> Attested:
    """Whoever it is."""
    entry = next(iter(policy.by_program.values()))
    return Attested(Identity(entry.program, Grade.SYSTEM, peer.pid, peer.uid), ())


Attestor.attest = attest  # type: ignore[method-assign,assignment]
UnixChannel.peer = lambda channel: Anybody(*channel.peer_credentials())  # type: ignore[method-assign,assignment,return-value]
sys.exit(main())

"""From a passphrase to a key: Argon2id (RFC 9106), as costly as this machine bears in the time that was set.

Contract: ``calibrate`` finds a cost, ``stretch`` pays it. The cost is stored beside the key, so a vault that moves to a
slower machine still opens, only later.

What it does not promise: that a short passphrase resists. Each guess costs an attacker about what it costs here (a
half-second of one machine, and the memory); a passphrase of six random words holds, a pet's name does not.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SALT_BYTES = 16
_KEY_BYTES = 32
_MEMORY_KIB = 64 * 1024  # RFC 9106, section 4: the choice for machines that cannot spare 2 GiB
_LANES = 4
_FEWEST_PASSES = 3  # the same choice: also on a machine that was busy when the cost was measured
_MOST_PASSES = 200

# What a stored cost may ask for. Whoever can write the file must not be able to take all memory, or a day.
_MEMORY_BOUNDS = (8 * _LANES, 4 * 1024 * 1024)
_PASSES_BOUNDS = (1, 1000)
_LANES_BOUNDS = (1, 64)


class Cost(NamedTuple):
    """What one attempt costs: memory in KiB, passes over it, lanes side by side."""

    memory_kib: int
    passes: int
    lanes: int

    def check(self) -> Cost:
        """Itself. Raises ValueError if no vault of ours would ask for that."""
        for value, (least, most) in zip(self, (_MEMORY_BOUNDS, _PASSES_BOUNDS, _LANES_BOUNDS), strict=True):
            if not least <= value <= most:
                raise ValueError("a cost of Argon2id beyond what is known here")
        if self.memory_kib < 8 * self.lanes:  # RFC 9106, section 3.1
            raise ValueError("Argon2id needs 8 KiB for each lane")
        return self


def stretch(passphrase: bytes | bytearray, salt: bytes, cost: Cost) -> bytearray:
    """A key of 32 bytes, in a buffer that can be wiped. Takes long: not for the event loop. Raises MemoryError."""
    key = bytearray(_KEY_BYTES)
    argon = Argon2id(
        salt=salt, length=_KEY_BYTES, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    argon.derive_into(bytes(passphrase), key)
    return key


def calibrate(seconds: float) -> Cost:
    """The cost that takes about ``seconds`` here: 64 MiB, and as many passes as fit, at least three."""
    return cost_for(seconds, _measure(1), _measure(3))


def cost_for(seconds: float, one: float, three: float) -> Cost:
    """The same, where one pass was measured to take ``one`` second, and three took ``three``.

    From two measurements, because the first touch of the memory costs as much as a pass.
    """
    each = max((three - one) / 2, one / 20)
    passes = 1 + round((seconds - one) / each)
    return Cost(_MEMORY_KIB, max(_FEWEST_PASSES, min(passes, _MOST_PASSES)), _LANES)


def _measure(passes: int) -> float:
    began = time.perf_counter()
    stretch(b"calibration", bytes(SALT_BYTES), Cost(_MEMORY_KIB, passes, _LANES))
    return time.perf_counter() - began

"""What a protector is: see ``Protector``, which the vault below knows by the same name.

The Protocol itself lives in ``crypto.envelope``: the vault uses protectors without knowing any of them, and
neither room imports the other.
"""

from __future__ import annotations

from keychain_auth.crypto.envelope import Params, Protector

__all__ = ["Params", "Protector"]

"""The right of other programs of the same user to look into this one, taken away. This file chooses; the contract is
``linux.syscalls.forbid_dumps``.

On the way of every ``start``, before anything else is loaded: it loads nothing else.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.syscalls import forbid_dumps
else:

    def forbid_dumps() -> None:
        """What other systems know of the kind is done with the rest of the hardening."""


__all__ = ["forbid_dumps"]

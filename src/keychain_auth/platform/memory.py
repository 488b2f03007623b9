"""Content handed on without a path. This file chooses; ``linux/memory.py`` is the contract.

On the fast path of commands: it loads nothing else.
"""

from __future__ import annotations

import errno
import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.memory import sealed
else:

    def sealed(name: str, content: bytes) -> int:
        """Raises OSError: no other system has memory that nobody can change."""
        raise OSError(errno.ENOTSUP, "there are no sealed memory files")


__all__ = ["sealed"]

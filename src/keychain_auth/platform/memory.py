"""Content handed on without a path. This file chooses; ``linux/memory.py`` is the contract, and no other system has it.

On the fast path of commands: it loads nothing else.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.memory import sealed

__all__ = ["sealed"]

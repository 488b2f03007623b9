"""Who may trace this process. This file chooses; ``linux/tracer.py`` is the contract.

On the fast path of ``launch``: it loads nothing else.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.tracer import let_trace
else:

    def let_trace(pid: int) -> None:
        """There is no Yama."""


__all__ = ["let_trace"]

"""Who started a process. This file chooses; ``linux/started_by.py`` (for a person who decides) and
``linux/pinned_parent.py`` (for a rule) are the contract."""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.pinned_parent import own_ancestors
    from keychain_auth.platform.linux.started_by import starters
else:
    from keychain_auth.platform.elsewhere import own_ancestors, starters

__all__ = ["own_ancestors", "starters"]

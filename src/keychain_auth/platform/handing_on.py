"""How sockets are handed to the daemon that comes next, and how root becomes its user. This file chooses;
``linux/activation.py``, ``linux/become.py`` and ``linux/listener.py`` are the contract.

Only a system that hands listeners on (``Platform.hands_on``) has it: on others nobody imports this file.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.activation import hand_over
    from keychain_auth.platform.linux.become import READS_ALL, SERVES_ALL, become
    from keychain_auth.platform.linux.listener import bind_for

__all__ = ["READS_ALL", "SERVES_ALL", "become", "bind_for", "hand_over"]

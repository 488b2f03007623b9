"""In what condition this system is, for ``keychain-auth doctor``. This file chooses; ``linux/condition.py`` is the
contract."""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.condition import (
        allows_user_namespaces,
        clock_is_synchronised,
        diagnoses_sockets,
        lacks,
        unit_of,
        yama_scope,
    )
else:
    from keychain_auth.platform.elsewhere import (
        allows_user_namespaces,
        clock_is_synchronised,
        diagnoses_sockets,
        lacks,
        unit_of,
        yama_scope,
    )

__all__ = ["allows_user_namespaces", "clock_is_synchronised", "diagnoses_sockets", "lacks", "unit_of", "yama_scope"]

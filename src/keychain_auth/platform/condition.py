"""In what condition this system is, for ``keychain-auth doctor``. This file chooses; ``linux/condition.py`` is the
contract."""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from keychain_auth.platform.linux.condition import (
        KERNEL_IS_LOOKED_AT,
        allows_user_namespaces,
        clock_is_synchronised,
        diagnoses_sockets,
        lacks,
        remedies,
        unit_of,
        yama_scope,
    )
else:
    from keychain_auth.platform.elsewhere import (
        KERNEL_IS_LOOKED_AT,
        allows_user_namespaces,
        clock_is_synchronised,
        diagnoses_sockets,
        lacks,
        unit_of,
        yama_scope,
    )

    if sys.platform == "win32":
        from keychain_auth.platform.windows.condition import remedies
    else:
        from keychain_auth.platform.macos.condition import remedies

__all__ = [
    "KERNEL_IS_LOOKED_AT", "allows_user_namespaces", "clock_is_synchronised", "diagnoses_sockets", "lacks", "remedies",
    "unit_of", "yama_scope",
]  # fmt: skip

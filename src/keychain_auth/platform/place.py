"""Where files lie on this system, and who could change them. This file chooses; ``linux/place.py`` is the contract."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from keychain_auth.platform.windows.place import (
        LOCAL_FILESYSTEMS,
        filesystem_of,
        is_of_root,
        only_root_writes,
        writable_by_others,
    )
elif sys.platform == "darwin":
    from keychain_auth.platform.macos.place import (
        LOCAL_FILESYSTEMS,
        filesystem_of,
        is_of_root,
        only_root_writes,
        writable_by_others,
    )
else:
    from keychain_auth.platform.linux.place import (
        LOCAL_FILESYSTEMS,
        filesystem_of,
        is_of_root,
        only_root_writes,
        writable_by_others,
    )

__all__ = ["LOCAL_FILESYSTEMS", "filesystem_of", "is_of_root", "only_root_writes", "writable_by_others"]

"""Where files lie on this system, and who could change them. This file chooses; ``linux/place.py`` is the contract."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from keychain_auth.platform.windows.authenticode import publisher_of_file
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

if sys.platform != "win32":

    def publisher_of_file(path: str) -> tuple[str, str]:
        """Name and certificate of who signed a file, empty for nobody: here no system says that of a file."""
        return "", ""


__all__ = [
    "LOCAL_FILESYSTEMS", "filesystem_of", "is_of_root", "only_root_writes", "publisher_of_file", "writable_by_others",
]  # fmt: skip

"""The few calls that files and locks need, and that systems have in different shapes: ``system`` is this one's.

``posix.py`` and ``windows.py`` have the same functions; the first says what each must do. ``security.py`` is what
Windows has in place of mode bits. This room and ``platform/windows`` are the only importers of pywin32 beside the
client's connection.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from keychain_auth.oslayer import windows as system
else:
    from keychain_auth.oslayer import posix as system

__all__ = ["system"]

"""Settings of the kernel, below /proc/sys. It imports nothing else: the front process of a launch pays for it."""

from __future__ import annotations

SETTINGS = "/proc/sys"
_YAMA = "kernel/yama/ptrace_scope"


def setting(name: str, folder: str = SETTINGS) -> str | None:
    """What a setting says, None if this kernel does not have it. ``folder``: where settings lie."""
    try:
        with open(f"{folder}/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def yama_scope(folder: str = SETTINGS) -> int | None:
    """kernel.yama.ptrace_scope, None if this kernel has no Yama."""
    text = setting(_YAMA, folder)
    return int(text) if text is not None and text.isdigit() else None

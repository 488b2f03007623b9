"""C libraries of an operating system: found in the system's own place, loaded when they are first used.

Contract: ``system_dll`` and ``framework`` return what ctypes loads, or raise OSError. Both can be called on any
machine, so that what uses them is typed and imported everywhere; on a foreign system the load fails.

Only 64-bit Windows is meant: there the C library and the system have one calling convention (x64, ARM64), so CDLL
serves for both.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

# A DLL of the same name beside the interpreter, or in a folder of PATH, would see our keys (LoadLibraryExW).
_LOAD_LIBRARY_SEARCH_SYSTEM32 = 0x800
_FRAMEWORKS = "/System/Library/Frameworks"  # from the system volume, which is sealed


def system_dll(name: str) -> ctypes.CDLL:
    """The DLL ``name`` of Windows itself, from System32. Raises OSError."""
    return ctypes.CDLL(name, use_last_error=True, winmode=_LOAD_LIBRARY_SEARCH_SYSTEM32)


def framework(name: str) -> ctypes.CDLL:
    """The framework ``name`` of macOS. Raises OSError."""
    return ctypes.CDLL(f"{_FRAMEWORKS}/{name}.framework/{name}")


def bind(library: Any, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """The function ``name`` of ``library`` with its C types. Raises AttributeError if there is none."""
    function: Callable[..., Any] = getattr(library, name)
    function.restype = result  # type: ignore[attr-defined]
    function.argtypes = arguments  # type: ignore[attr-defined]
    return function


def last_error() -> int:
    """GetLastError of the call before, as ctypes kept it for this thread. 0 where there is no such thing."""
    get: Callable[[], int] = getattr(ctypes, "get_last_error", lambda: 0)
    return get()


def libsystem() -> ctypes.CDLL:
    """The system calls of macOS. Raises OSError."""
    return ctypes.CDLL("/usr/lib/libSystem.B.dylib", use_errno=True)

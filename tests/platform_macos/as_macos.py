"""Makes this Python, on Linux, lack what a Python of macOS lacks; imported before everything else by a child process.

    python tests/platform_macos/as_macos.py MODULE…      import these modules; say which cannot be

What it does not promise: that macOS has everything that is left. It shows that nothing asks for what is known not to be
there: names of modules, and files that only Linux can load.
"""

from __future__ import annotations

import importlib
import sys

_MISSING = {
    "os": ("O_PATH", "O_TMPFILE", "pidfd_open", "memfd_create", "eventfd", "getrandom", "pipe2", "posix_fadvise",
           "sched_getaffinity", "setresuid", "setresgid", "getresuid", "splice", "getxattr", "copy_file_range"),
    "select": ("epoll", "EPOLLIN", "EPOLLOUT", "EPOLLET"),
    "_socket": ("SO_PEERCRED", "SO_PASSCRED", "SCM_CREDENTIALS", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "MSG_CMSG_CLOEXEC",
                "AF_NETLINK", "MSG_NOSIGNAL"),
    "socket": ("SO_PEERCRED", "SO_PASSCRED", "SCM_CREDENTIALS", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "MSG_CMSG_CLOEXEC",
               "AF_NETLINK", "MSG_NOSIGNAL"),
    "fcntl": ("F_SETLEASE", "F_GETLEASE", "F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW",
              "F_SEAL_WRITE", "F_OFD_SETLK"),
    "signal": ("SIGRTMIN", "SIGRTMAX", "SIGPWR", "SIGSTKFLT", "pidfd_send_signal"),
    "mmap": ("MADV_DONTDUMP", "MADV_DONTFORK"),
    "time": ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_COARSE"),
    "resource": ("prlimit",),
}  # fmt: skip


def pretend() -> None:
    """From here on."""
    import asyncio  # noqa: F401 - what the standard library does by itself is not ours to break
    import selectors
    import subprocess  # noqa: F401
    import tempfile  # noqa: F401

    for module, names in _MISSING.items():
        loaded = importlib.import_module(module)
        for name in names:
            if hasattr(loaded, name):
                delattr(loaded, name)
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc, assignment]
    sys.platform = "darwin"


def main(modules: list[str]) -> int:
    """Import them. The exit code is the number of those that cannot be."""
    pretend()
    failed = 0
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            failed += 1
            print(f"{module}: {type(error).__name__}: {error}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

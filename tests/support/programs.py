"""Small C programs, compiled once for a test run. A variant has other bytes, so another hash, but acts the same."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
import zlib

from support.users import Account

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TALKER = os.path.join(HERE, "c", "talker.c")


@functools.lru_cache(maxsize=1)
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="ka-bin-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.lru_cache(maxsize=64)
def compiled(source: str = TALKER, variant: str = "plain", flags: tuple[str, ...] = (), *, shared: bool = False) -> str:
    """The path of the compiled C file ``source``; ``variant`` (a word) is compiled in as VARIANT, ``flags`` are given
    to the compiler last. ``shared``: a library.

    Raises AssertionError with the compiler's words.
    """
    assert re.fullmatch(r"[\w.-]+", variant), variant
    flags = ("-shared", "-fPIC", *flags) if shared else flags
    name = os.path.splitext(os.path.basename(source))[0]
    suffix = f"-{zlib.crc32(repr(flags).encode()):x}" if flags else ""
    program = os.path.join(_folder(), f"{name}.{variant}{suffix}")
    compiler = os.environ.get("CC", "gcc")
    done = subprocess.run(
        [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f'-DVARIANT="{variant}"',
         "-o", program, source, *flags],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return program


def install(program: str, path: str, account: Account) -> str:
    """Put a copy of ``program`` at ``path``, owned by ``account``, mode 0755; returns ``path``.

    Copied by another process: were it written here, a process that another thread forks meanwhile would hold the
    descriptor open for writing, and the kernel would refuse to run the file (ETXTBSY).
    """
    fresh = f"{path}.new"
    subprocess.run(["/bin/cp", "--", program, fresh], check=True)
    os.chmod(fresh, 0o755)
    account.own(fresh)
    os.rename(fresh, path)
    return path

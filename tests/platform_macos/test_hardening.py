"""The daemon guards itself on macOS, in a process of its own: limits of a process cannot be taken back."""

from __future__ import annotations

import json
import subprocess
import sys

_CHILD = """
import ctypes, json, os, resource, signal, sys
from keychain_auth.native import library
stand_in = ctypes.CDLL(sys.argv[1], use_errno=True)
stand_in.fake_record.restype = ctypes.c_char_p
library.libsystem = lambda: stand_in
from keychain_auth.platform.macos.hardening import harden_process, key_memory
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 400))
harden_process()
memory, locked = key_memory(32)
memory[:4] = b"key!"
print(json.dumps([
    stand_in.fake_record().decode(), locked, len(memory), os.umask(0), resource.getrlimit(resource.RLIMIT_CORE),
    resource.getrlimit(resource.RLIMIT_NOFILE), signal.getsignal(signal.SIGIO) == signal.SIG_IGN,
]))
"""


def test_no_debugger_no_core_private_files_and_many_descriptors(compiled: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, compiled], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    record, locked, size, mask, core, descriptors, ignored = json.loads(done.stdout)
    assert record.split() == ["ptrace", "31", "mlock"]
    assert (locked, size % 4096, mask, core, descriptors, ignored) == (True, 0, 0o077, [0, 0], [400, 400], True)

"""Scripts on Windows: declared by the command line of their interpreter, where an entry is content with that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

if sys.platform != "win32":
    pytest.skip("this is about paths and command lines of Windows (tests/windows runs it)", allow_module_level=True)

from pipe_lab import PATIENCE, Home

_ASKS = """
from keychain_auth import KeychainAuthClient
try:
    with KeychainAuthClient() as client:
        print(client.check("svc"))
except RuntimeError as error:
    print(type(error).__name__)
"""


def started(home: Home, *words: str) -> str:
    """What Python prints when a person types ``python WORDS`` in the home."""
    done = subprocess.run(
        [sys.executable, *words], env=home.env, cwd=home.folder, capture_output=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_a_declared_script_is_served_and_no_other(shared: Home) -> None:
    script, other = (os.path.realpath(shared.folder / name) for name in ("my app.py", "other.py"))
    with open(script, "w", encoding="utf-8") as file:
        file.write("#!/usr/bin/env python3\n" + _ASKS)  # nothing is started by its first line here
    shutil.copy(script, other)

    said = shared.cli("register", "--script", script)
    assert "No script can be launched on this system" in said and "--allow-declared" in said
    shared.cli("authorize", script, "svc", "--read", "--write", "--search")
    assert started(shared, script) == "IdentityNotVerified"
    shared.cli("register", "--script", script, "--allow-declared")
    assert started(shared, "-B", script) == "None"

    assert started(shared, other) == "ApprovalPending"
    assert started(shared, "-c", _ASKS) == "ApprovalPending"
    with open(script, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert started(shared, script) == "ApprovalPending"


def test_a_relative_name_declares_nothing(shared: Home) -> None:
    """Windows tells nobody the working folder of another process."""
    (shared.folder / "relative.py").write_text(_ASKS, encoding="utf-8")
    shared.cli("register", "--script", os.path.realpath(shared.folder / "relative.py"), "--allow-declared")
    assert started(shared, "relative.py") == "ApprovalPending"

"""``doctor`` on Windows: it says what is so there, and nothing of what only Linux has."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

if sys.platform != "win32":
    pytest.skip("what is wrong with an installation on Windows", allow_module_level=True)

import win32security
from pipe_lab import Home

from keychain_auth.cli.commands.doctoring.checks import CHECKS, OF_THE_KERNEL
from keychain_auth.oslayer import security


def examined(home: Home, code: int) -> dict[str, dict[str, Any]]:
    """Of each check the worst finding."""
    found = json.loads(home.cli("doctor", "--json", code=code))["checks"]
    assert {one["check"] for one in found} == set(CHECKS) - OF_THE_KERNEL
    levels = ["ok", "unknown", "advice", "wrong"]
    return {one["check"]: one for one in sorted(found, key=lambda one: levels.index(one["level"]))}


def test_from_before_the_first_start_to_a_file_that_others_can_write(home: Home) -> None:
    found = examined(home, 1)
    assert found["socket"]["says"] == f"no daemon runs: there is no socket {home.pipe}"
    assert found["socket"]["mend"] == "keychain-auth start"
    # The test made the folder for policies itself, as a person does with "mkdir"; a daemon closes it to others.
    assert {name for name, one in found.items() if one["level"] == "wrong"} - {"permissions"} == {"socket"}

    home.start()
    home.cli("register", home.program("tool"))
    found = examined(home, 0)
    assert {name for name, one in found.items() if one["level"] != "ok"} == {"slots"}
    assert found["slots"]["mend"] == "keychain-auth protect add passphrase"
    assert "0 wrong" in home.cli("doctor", "--quiet")

    policy = home.config / "config.json"
    everybody = win32security.ConvertStringSidToSid("S-1-1-0")
    opened = security.only_for(security.own_sid(), everybody).SECURITY_DESCRIPTOR
    win32security.SetFileSecurity(str(policy), win32security.DACL_SECURITY_INFORMATION, opened)
    found = examined(home, 1)
    assert found["permissions"]["says"].startswith(f"other users can write {policy}")
    assert found["permissions"]["mend"].startswith(f'icacls "{policy}"')

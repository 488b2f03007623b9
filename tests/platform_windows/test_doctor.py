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

from keychain_auth.cli.doctoring.checks import CHECKS, OF_THE_KERNEL
from keychain_auth.oslayer import security


def examined(home: Home, code: int) -> dict[str, dict[str, Any]]:
    """Of each check the worst finding."""
    found = json.loads(home.cli("doctor", "--json", code=code))["checks"]
    assert {one["check"] for one in found} == set(CHECKS) - OF_THE_KERNEL
    levels = ["ok", "unknown", "advice", "wrong"]
    return {one["check"]: one for one in sorted(found, key=lambda one: levels.index(one["level"]))}


def test_before_the_first_start_only_the_daemon_is_missing(home: Home) -> None:
    found = examined(home, 1)
    assert found["socket"]["says"] == f"no daemon runs: there is no socket {home.pipe}"
    assert found["socket"]["mend"] == "keychain-auth start"
    # The test made the folder for policies itself, as a person does with "mkdir"; a daemon closes it to others.
    assert {name for name, one in found.items() if one["level"] == "wrong"} - {"permissions"} == {"socket"}


def test_a_healthy_installation_is_called_healthy(shared: Home, tool: str) -> None:
    found = examined(shared, 0)
    assert {name for name, one in found.items() if one["level"] != "ok"} == {"slots"}
    assert found["slots"]["mend"] == "keychain-auth protect add passphrase"
    assert "0 wrong" in shared.cli("doctor", "--quiet")


def test_what_others_could_change_is_named_with_the_command_that_mends_it(shared: Home, tool: str) -> None:
    policy = shared.config / "config.json"
    before = win32security.GetFileSecurity(str(policy), win32security.DACL_SECURITY_INFORMATION)
    everybody = win32security.ConvertStringSidToSid("S-1-1-0")
    opened = security.only_for(security.own_sid(), everybody).SECURITY_DESCRIPTOR
    win32security.SetFileSecurity(str(policy), win32security.DACL_SECURITY_INFORMATION, opened)
    try:
        found = examined(shared, 1)["permissions"]
    finally:
        win32security.SetFileSecurity(str(policy), win32security.DACL_SECURITY_INFORMATION, before)
    assert (found["level"], found["says"].startswith(f"other users can write {policy}")) == ("wrong", True)
    assert found["mend"].startswith(f'icacls "{policy}"')
    assert examined(shared, 0)["permissions"]["level"] == "ok"

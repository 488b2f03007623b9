"""A daemon whose vault the Windows account opens, and secrets in Credential Manager: through the command line."""

from __future__ import annotations

import json
import secrets
import sys

import pytest

if sys.platform != "win32":
    pytest.skip("DPAPI and Credential Manager are parts of Windows", allow_module_level=True)

from pipe_lab import Home

from keychain_auth.keychain.windows import PREFIX, mark_of
from keychain_auth.native import credentials


def test_a_daemon_whose_vault_the_account_opens(home: Home) -> None:
    home.start()
    home.command("set", "svc", "a", stdin=b"hunter2")
    assert json.loads(home.cli("protect", "add", "dpapi", "--json"))["number"] == 2
    home.cli("protect", "remove", "1")
    assert "your Windows account" in home.cli("protect", "list")
    assert home.stop() == 0
    assert not (home.data / "vault.key").exists()
    home.start()  # nobody is asked
    assert home.command("get", "svc", "a").strip() == "hunter2"
    assert json.loads(home.cli("status", "--json"))["protection"].startswith("dpapi stops whoever has the files")
    assert b"hunter2" not in b"".join(file.read_bytes() for file in home.data.iterdir() if file.is_file())


def test_a_service_that_lies_in_credential_manager(home: Home) -> None:
    service = f"keychain-auth-test-{secrets.token_hex(8)}"
    home.settings(f'[keychains.routes]\n{service} = "credential-manager"\n')
    home.start()
    try:
        home.command("set", service, "a", stdin=b"1")
        assert home.command("get", service, "a").strip() == "1"
        assert credentials.read(PREFIX + mark_of(service, "a")) == f'["{service}","a",{{}}]\n1'.encode()
        with pytest.raises(AssertionError, match="Credential Manager holds 2560 bytes"):
            home.command("set", service, "b", stdin=b"x" * 2561)
        found = json.loads(home.cli("status", "--json"))["keychains"]["keychains"]["credential-manager"]
        assert found == {"backend": "credential-manager", "state": "open"}

        home.cli("migrate", service, "--from", "credential-manager", "--to", "vault")
        assert home.stop() == 0
        home.settings("")
        home.start()
        assert home.command("get", service, "a").strip() == "1"
        home.cli("migrate", service, "--from", "credential-manager", "--to", "vault", "--delete")
        assert credentials.read(PREFIX + mark_of(service, "a")) is None
    finally:
        credentials.delete(PREFIX + mark_of(service, "a"))

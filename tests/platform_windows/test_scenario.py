"""The main job on Windows, from the first secret to the last refusal: a daemon and two programs, each a process."""

from __future__ import annotations

import json
import sys

import pytest

if sys.platform != "win32":
    pytest.skip("the daemon's pipe is a part of Windows (tests/windows runs this under Wine)", allow_module_level=True)

from pipe_lab import Home

_VALUES = {
    "proj_1:development:DATABASE_URL": "postgres://dev",
    "proj_1:staging:DATABASE_URL": "postgres://staging",
    "proj_1:production:DATABASE_URL": "postgres://production",
}
_PREFIX = 'print(*(secret.value for secret in client.read("AgentSecrets", ["proj_1:staging:"], prefix=True)))'


def test_write_three_read_one_environment_refuse_a_stranger_approve_and_revoke(home: Home) -> None:
    home.start()
    writer, reader = home.program("writer"), home.program("reader")
    home.register(writer)
    home.cli("authorize", writer, "AgentSecrets", "--read", "--write", "--search")

    assert home.ask(writer, f'print(client.write("AgentSecrets", {_VALUES!r}))') == "None"
    assert home.ask(writer, _PREFIX) == "postgres://staging"

    refused = home.ask(reader, _PREFIX)
    assert refused == "ApprovalPending Daemon rejected request: unregistered_binary_pending_approval"
    (waiting,) = json.loads(home.cli("list-pending", "--json"))
    assert waiting["path"] == reader
    assert "AgentSecrets" in waiting["command_line"]

    home.cli("approve", waiting["hash"].removeprefix("sha256:")[:12], "--read", "AgentSecrets", "--search")
    assert home.ask(reader, _PREFIX).startswith("IdentityNotVerified")  # a library beside it: nobody has said which
    home.register(reader)
    assert home.ask(reader, _PREFIX) == "postgres://staging"
    denied = home.ask(reader, f'client.write("AgentSecrets", {_VALUES!r})')
    assert denied == "ServiceNotAllowed Daemon rejected request: service_not_allowed"

    home.cli("revoke", reader, "AgentSecrets")
    assert home.ask(reader, _PREFIX).startswith(("ServiceNotAllowed", "ActionNotInPolicy"))
    home.cli("unregister", reader)
    assert home.ask(reader, _PREFIX).startswith("ApprovalPending")

    assert home.command("get", "AgentSecrets", "proj_1:production:DATABASE_URL").strip() == "postgres://production"
    home.cli("audit", "verify")
    assert home.stop() == 0
    records = [(line["action"], line["result"], line["reason"]) for line in home.audit()]
    assert ("write", "GRANTED", "") in [(action, result, reason or "") for action, result, reason in records]
    assert any(result == "DENIED" and reason == "unregistered_binary_pending_approval" for _, result, reason in records)
    text = json.dumps(home.audit()) + "".join(home.log)
    assert not any(value in text for value in _VALUES.values())

    home.start()  # what was written is there after a restart; the commands are processes here, as a person runs them
    home.command("set", "AgentSecrets", "kept", stdin=b"for ever")
    assert home.command("get", "AgentSecrets", "kept").strip() == "for ever"
    assert home.ask(writer, _PREFIX) == "postgres://staging"


def test_a_program_that_is_another_file_now_is_refused(shared: Home) -> None:
    """Replaced after it was registered: path and SHA-256 must both be what a person approved."""
    program = shared.program("changing")
    shared.register(program)
    shared.cli("authorize", program, "svc", "--read", "--write", "--search")
    assert shared.ask(program, 'print(client.check("svc"))') == "None"
    with open(program, "ab") as file:
        file.write(b"changed")
    assert shared.ask(program, 'print(client.check("svc"))').startswith("ApprovalPending")
    shared.cli("unregister", program)


def test_python_itself_is_never_registered(shared: Home) -> None:
    said = shared.cli("register", sys.executable, code=2)
    assert "runs other programs" in said

"""The wait for a person, as the client library asks for it; and a daemon that does not know of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_lab import Conversation, ScriptedDaemon, deny

from keychain_auth import AsyncKeychainAuthClient, KeychainAuthClient, errors
from keychain_auth.wire.client import checked_wait

FOUND = [{"target": "t", "value": "v"}]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, 0), ("", 0), (0, 0), (60, 60), (0.2, 1), (1.5, 2), ("60", 60), ("60s", 60), ("5m", 300), ("1h", 3600)],
)
def test_a_wait_is_seconds_or_a_text(given: Any, seconds: int) -> None:
    assert checked_wait(given) == seconds


@pytest.mark.parametrize("given", [-1, 3601, "2h", "x", "s", "-5s", "1.5s", True, float("nan"), "\uff16\uff10", [60]])
def test_what_is_no_wait_is_refused_before_anything_is_sent(given: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match="a wait is"):
        checked_wait(given)


def test_every_request_asks_for_it_and_the_timeout_leaves_room(daemon: ScriptedDaemon) -> None:
    def script(conversation: Conversation) -> None:
        assert conversation.request() == {
            "type": "REQUEST", "action": "read", "service": "s", "targets": ["t"], "wait": 60,
        }  # fmt: skip
        conversation.answer(results=FOUND)
        assert conversation.request()["wait"] == 5  # what a program wrote itself stays
        conversation.answer(results=[])

    daemon.serve(script)
    with KeychainAuthClient(socket_path=daemon.path, wait="1m", timeout=5) as client:
        assert client.get("s", "t") == "v"
        client.send_request({"type": "REQUEST", "action": "read", "service": "s", "targets": ["t"], "wait": 5})


def older(conversation: Conversation) -> None:
    """A daemon that refuses the field, and stays."""
    assert "wait" in conversation.request()
    conversation.answer(status="error", reason="malformed_request")
    assert conversation.until_end() == b""


def serving(conversation: Conversation) -> None:
    for _ in range(2):
        assert "wait" not in conversation.request()
        conversation.answer(results=FOUND)


def test_a_daemon_that_does_not_know_it_is_asked_again_without(daemon: ScriptedDaemon) -> None:
    daemon.serve(older, serving)
    with KeychainAuthClient(socket_path=daemon.path, wait=60) as client:
        assert client.get("s", "t") == "v"
        assert client.get("s", "t") == "v"  # and from then on at once


def test_the_same_for_asyncio(daemon: ScriptedDaemon) -> None:
    async def ask() -> list[str | None]:
        async with AsyncKeychainAuthClient(socket_path=daemon.path, wait=60) as client:
            return [await client.get("s", "t"), await client.get("s", "t")]

    daemon.serve(older, serving)
    assert asyncio.run(ask()) == ["v", "v"]


def test_a_refusal_at_the_end_of_the_wait_is_the_same_error_as_ever(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYCHAIN_AUTH_WAIT", "2s")

    def script(conversation: Conversation) -> None:
        deny(conversation)

    daemon.serve(script)
    with KeychainAuthClient(socket_path=daemon.path) as client, pytest.raises(errors.ApprovalPending):
        client.get("s", "t")

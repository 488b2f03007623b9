"""KeychainAuthClient against a scripted daemon: the published class, the typed methods, and company."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from client_lab import Conversation, ScriptedDaemon, answer_one, deny, echo, run_program

from keychain_auth import KeychainAuthClient, errors
from keychain_auth.wire.answers import BadAnswer, Secret, SecretInfo

READ = {"type": "REQUEST", "action": "read", "service": "s", "targets": ["t"]}
BIG = "x" * 900_000


# --- the class that is in people's programs ---------------------------------------------------


def test_a_program_written_against_the_published_class_works(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {
        "type": "REQUEST", "action": "write", "service": "AgentSecrets",
        "targets": ["p:dev:URL", "p:staging:URL", "p:prod:URL"], "values": ["1", "2", "3"],
    }  # fmt: skip
    prefix = {"type": "REQUEST", "action": "read", "service": "AgentSecrets", "match": "prefix", "targets": ["p:st"]}
    found = [{"target": "p:staging:URL", "value": "2"}]

    def script(conversation: Conversation) -> None:
        assert conversation.request() == batch
        conversation.answer(results=[])
        assert conversation.request() == prefix
        conversation.answer(results=found)
        assert conversation.until_end() == b""

    daemon.serve(script)
    monkeypatch.setenv("KEYCHAIN_AUTH_SOCKET", daemon.path)
    client = KeychainAuthClient()
    assert client.send_request(batch)["status"] == "success"
    assert client.send_request(prefix) == {"type": "RESPONSE", "status": "success", "results": found}
    client.close()
    client.close()


def test_the_socket_may_be_given_by_position(daemon: ScriptedDaemon) -> None:
    daemon.serve(answer_one)
    with KeychainAuthClient(daemon.path) as client:
        client.check("s")


def leave_nothing(path: Path) -> None:
    """No socket, and not even a folder."""


def leave_a_stale_socket(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


def leave_a_file(path: Path) -> None:
    path.parent.mkdir()
    path.touch()


def leave_a_file_for_a_folder(path: Path) -> None:
    path.parent.touch()


@pytest.mark.parametrize("leave", [leave_nothing, leave_a_stale_socket, leave_a_file, leave_a_file_for_a_folder])
def test_without_a_daemon_the_fixed_message_is_raised(tmp_path: Path, leave: object) -> None:
    path = tmp_path / "folder" / "agent.sock"
    leave(path)  # type: ignore[operator]
    with pytest.raises(RuntimeError) as caught:
        KeychainAuthClient(socket_path=path)
    assert str(caught.value) == "keychain-auth daemon is not running. Start it with: keychain-auth start"
    assert isinstance(caught.value, errors.DaemonNotRunning)


def test_a_refusal_is_a_runtime_error_with_the_published_text(daemon: ScriptedDaemon) -> None:
    daemon.serve(lambda conversation: deny(conversation, "service_not_allowed"))
    with KeychainAuthClient(socket_path=daemon.path) as client, pytest.raises(RuntimeError) as caught:
        client.send_request(READ)
    assert str(caught.value) == "Daemon rejected request: service_not_allowed"
    assert isinstance(caught.value, errors.ServiceNotAllowed)


# --- typed methods ----------------------------------------------------------------------------


def test_typed_methods_ask_and_answer(daemon: ScriptedDaemon) -> None:
    seen: list[dict[str, object]] = []

    def script(conversation: Conversation) -> None:
        for results in (
            [{"target": "a", "value": "1", "attributes": {"env": "dev"}}, {"target": "b", "value": ""}],
            [{"target": "a", "value": "1"}],
            [],
            None,
            None,
            [{"target": "a", "attributes": {"env": "dev"}}],
            None,
        ):
            seen.append(conversation.request())
            conversation.answer(**({} if results is None else {"results": results}))

    daemon.serve(script)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        assert client.read("s", ["a", "b"]) == [Secret("a", "1", {"env": "dev"}), Secret("b", "", {})]
        assert client.get("s", "a") == "1"
        assert client.get("s", "absent") is None
        client.write("s", {"a": "1"}, attributes={"env": "dev"})
        client.delete("s", ["a:"], prefix=True)
        assert client.search("s", ["a"], attributes={"env": "dev"}) == [SecretInfo("a", {"env": "dev"})]
        client.check("s")
    assert [request["action"] for request in seen] == ["read", "read", "read", "write", "delete", "search", "check"]
    assert seen[3]["attributes"] == {"env": "dev"}
    assert seen[4]["match"] == "prefix"
    assert seen[5]["targets"] == ["a"]


def test_invalid_arguments_send_nothing(daemon: ScriptedDaemon) -> None:
    got: list[bytes] = []
    daemon.serve(lambda conversation: got.append(conversation.until_end()))
    with KeychainAuthClient(socket_path=daemon.path) as client:
        with pytest.raises(errors.InvalidRequest):
            client.read("s", [])
        with pytest.raises(errors.InvalidRequest):
            client.write("s", {"a": "b"}, timeout=0)
    daemon.wait()
    assert got == [b""]


def test_a_closed_client_says_so(daemon: ScriptedDaemon) -> None:
    daemon.serve(Conversation.until_end)
    client = KeychainAuthClient(socket_path=daemon.path)
    client.close()
    with pytest.raises(errors.KeychainAuthError, match="closed"):
        client.get("s", "t")


# --- answers ----------------------------------------------------------------------------------


def test_answers_of_tens_of_megabytes(daemon: ScriptedDaemon) -> None:
    value = "0123456789abcdef" * 2_000_000  # 32 MB

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.answer(results=[{"target": "t", "value": value}])

    daemon.serve(script)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        assert client.get("s", "t") == value


def test_a_denial_and_close_during_a_large_request_is_what_the_caller_hears(daemon: ScriptedDaemon) -> None:
    def script(conversation: Conversation) -> None:
        conversation.connection.recv(10)
        conversation.answer(status="error", reason="malformed_request")  # and closes with the rest unread

    daemon.serve(script, script)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        for _ in range(2):
            with pytest.raises(errors.MalformedRequest):
                client.write("s", {"t": BIG})


def test_a_line_that_is_no_answer_ends_the_connection(daemon: ScriptedDaemon) -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b"hello\n")
        assert conversation.until_end() == b""

    daemon.serve(script, answer_one)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        with pytest.raises(BadAnswer):
            client.check("s")
        client.check("s")


def test_an_answer_that_breaks_off_is_reported_and_not_asked_again(daemon: ScriptedDaemon) -> None:
    def script(conversation: Conversation) -> None:
        answer_one(conversation)
        conversation.request()
        conversation.send(b'{"type":"RESPONSE","status":"success"')

    daemon.serve(script)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        client.check("s")
        with pytest.raises(errors.ConnectionLost, match="in the middle of its answer"):
            client.check("s")
        assert daemon.nobody_waits()


# --- company ----------------------------------------------------------------------------------


def test_threads_share_a_client_and_get_their_own_answers(daemon: ScriptedDaemon) -> None:
    daemon.serve(echo)
    wrong: list[str] = []

    def work(client: KeychainAuthClient, name: str) -> None:
        for number in range(100):
            target = f"{name}:{number}"
            if client.get("s", target) != f"value of {target}":
                wrong.append(target)

    with KeychainAuthClient(socket_path=daemon.path) as client:
        threads = [threading.Thread(target=work, args=(client, f"thread {index}")) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_program_with_the_default_sigpipe_does_not_die_of_a_closed_connection(daemon: ScriptedDaemon) -> None:
    # A connection that was closed with nothing unread gives EPIPE, and with it the signal.
    daemon.serve(lambda conversation: conversation.answer(status="denied", reason="user_not_allowed"))
    printed = run_program(
        """
        import select, signal, sys
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as many command line programs do
        from keychain_auth import KeychainAuthClient, UserNotAllowed
        with KeychainAuthClient(socket_path=sys.argv[1]) as client:
            closed = select.poll()
            closed.register(client._connection.socket, 0)
            assert closed.poll(20_000)[0][1] & select.POLLHUP
            try:
                client.write("s", {"t": "v"})
            except UserNotAllowed as refusal:
                print(refusal)
        """,
        daemon.path,
    )
    assert printed == "Daemon rejected request: user_not_allowed\n"

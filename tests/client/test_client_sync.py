"""KeychainAuthClient against a scripted daemon: the published class, the typed methods, and how things end."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from pathlib import Path

import pytest
from client_lab import PATIENCE, Conversation, ScriptedDaemon, echo, run_program

from keychain_auth import KeychainAuthClient, errors
from keychain_auth.wire.client import BadAnswer, Secret, SecretInfo

READ = {"type": "REQUEST", "action": "read", "service": "s", "targets": ["t"]}
BIG = "x" * 900_000


def answer_one(conversation: Conversation) -> None:
    conversation.request()
    conversation.answer()


def deny(conversation: Conversation, reason: str = "unregistered_binary_pending_approval") -> None:
    conversation.request()
    conversation.answer(status="denied", reason=reason)


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


# --- reconnecting -----------------------------------------------------------------------------


def test_an_idle_connection_that_was_closed_is_replaced_even_for_a_write(daemon: ScriptedDaemon) -> None:
    seen: list[dict[str, object]] = []

    def second(conversation: Conversation) -> None:
        seen.append(conversation.request())
        conversation.answer()

    daemon.serve(answer_one)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        client.check("s")
        daemon.wait()  # the script has ended and its connection is closed
        daemon.serve(second)
        client.write("s", {"t": "v"})
        daemon.wait()
    assert [request["action"] for request in seen] == ["write"]


def test_a_first_request_long_after_the_constructor_finds_a_new_connection(daemon: ScriptedDaemon) -> None:
    daemon.serve(Conversation.close)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        daemon.wait()
        daemon.serve(answer_one)
        client.write("s", {"t": "v"})


def test_a_daemon_that_stopped_meanwhile_is_not_running(tmp_path: Path) -> None:
    daemon = ScriptedDaemon(tmp_path / "short-lived")
    daemon.serve(answer_one)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        client.check("s")
        daemon.close()
        with pytest.raises(errors.DaemonNotRunning):
            client.write("s", {"t": "v"})


@pytest.mark.parametrize("action", ["write", "delete"])
def test_a_change_that_may_have_happened_is_never_repeated(daemon: ScriptedDaemon, action: str) -> None:
    def script(conversation: Conversation) -> None:
        answer_one(conversation)
        conversation.request()  # executed, perhaps; no answer

    daemon.serve(script)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        client.check("s")
        with pytest.raises(errors.ConnectionLost, match=f"whether the {action} was carried out is unknown"):
            client.write("s", {"t": "v"}) if action == "write" else client.delete("s", ["t"])
        assert daemon.nobody_waits()


def test_a_read_is_repeated_once_and_only_once(daemon: ScriptedDaemon) -> None:
    def script(conversation: Conversation) -> None:
        answer_one(conversation)
        conversation.request()

    def silent(conversation: Conversation) -> None:
        assert conversation.request()["action"] == "read"

    daemon.serve(script, echo)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        client.check("s")
        assert client.get("s", "t") == "value of t"
    daemon.wait()

    daemon.serve(script, silent)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        client.check("s")
        with pytest.raises(errors.ConnectionLost, match="before it answered"):
            client.get("s", "t")
        assert daemon.nobody_waits()


def test_after_a_refusal_that_closes_the_next_call_has_a_new_connection(daemon: ScriptedDaemon) -> None:
    def deny_and_wait(conversation: Conversation) -> None:
        deny(conversation)
        assert conversation.until_end() == b"", "the client went on where the daemon is about to close"

    daemon.serve(deny_and_wait, answer_one)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        with pytest.raises(errors.ApprovalPending):
            client.write("s", {"t": "v"})
        client.write("s", {"t": "v"})


def test_a_daemon_may_refuse_before_it_is_asked(daemon: ScriptedDaemon) -> None:
    daemon.serve(lambda conversation: conversation.answer(status="error", reason="rate_limited"))
    with KeychainAuthClient(socket_path=daemon.path) as client:
        daemon.wait()
        with pytest.raises(errors.RateLimited):
            client.write("s", {"t": BIG})


# --- time -------------------------------------------------------------------------------------


def test_after_a_timeout_the_late_answer_meets_nobody(daemon: ScriptedDaemon) -> None:
    late = threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.request()
        with contextlib.suppress(BrokenPipeError):  # on a busy machine the client may have given up by now
            conversation.send(b'{"type":"RESPONSE","sta')
        assert late.wait(PATIENCE)
        assert conversation.until_end() == b"", "the connection was used again"

    daemon.serve(slow, echo)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        with pytest.raises(errors.RequestTimeout, match=r"no complete answer within 0\.05 s; whether the write"):
            client.write("s", {"t": "v"}, timeout=0.05)
        late.set()
        assert client.get("s", "t") == "value of t"


def test_waiting_for_another_threads_turn_counts(daemon: ScriptedDaemon) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        asked.set()
        assert go_on.wait(PATIENCE)
        conversation.answer()
        answer_one(conversation)

    daemon.serve(script)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        other = threading.Thread(target=client.check, args=("s",))
        other.start()
        assert asked.wait(PATIENCE)
        with pytest.raises(errors.RequestTimeout, match="the write was not carried out"):
            client.write("s", {"t": "v"}, timeout=0.05)
        go_on.set()
        client.check("s")
        other.join()


def test_a_daemon_that_accepts_nobody_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")

    def accept_two() -> None:
        for _ in range(2):
            listener.accept()[0].close()

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(path)
        listener.listen(0)  # one may wait
        waiting.connect(path)
        with pytest.raises(errors.RequestTimeout, match=r"accepted no connection within 0\.05 s"):
            KeychainAuthClient(socket_path=path, timeout=0.05)
        # A place becomes free while the client waits for one:
        accepting = threading.Thread(target=accept_two)
        accepting.start()
        KeychainAuthClient(socket_path=path, timeout=PATIENCE).close()
        accepting.join()


def test_ctrl_c_in_the_middle_of_an_answer_ends_the_connection(daemon: ScriptedDaemon) -> None:
    def interrupted(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b'{"type":"RESPONSE",')
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        assert conversation.until_end() == b""

    daemon.serve(interrupted, echo)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get("s", "t")
        assert client.get("s", "t") == "value of t"


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

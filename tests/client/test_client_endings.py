"""How calls end when they do not end well: closed connections, silence, interruption; what is asked again."""

from __future__ import annotations

import _thread
import contextlib
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
from client_lab import PATIENCE, Conversation, ScriptedDaemon, answer_one, deny, echo

from keychain_auth import KeychainAuthClient, errors

BIG = "x" * 900_000


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
        with pytest.raises(errors.RequestTimeout, match=r"no complete answer within 0\.5 s; whether the write"):
            client.write("s", {"t": "v"}, timeout=0.5)
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
            client.write("s", {"t": "v"}, timeout=0.5)
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
        with pytest.raises(errors.RequestTimeout, match=r"accepted no connection within 0\.5 s"):
            KeychainAuthClient(socket_path=path, timeout=0.5)
        # A place becomes free while the client waits for one:
        accepting = threading.Thread(target=accept_two)
        accepting.start()
        KeychainAuthClient(socket_path=path, timeout=PATIENCE).close()
        accepting.join()


def interrupt_main_thread() -> None:
    """What Ctrl-C does, and a wait that does not end by itself goes on."""
    if sys.platform == "win32":
        _thread.interrupt_main()
        return
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def test_ctrl_c_in_the_middle_of_an_answer_ends_the_connection(daemon: ScriptedDaemon) -> None:
    def interrupted(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b'{"type":"RESPONSE",')
        interrupt_main_thread()
        assert conversation.until_end() == b""

    daemon.serve(interrupted, echo)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get("s", "t")
        assert client.get("s", "t") == "value of t"

"""AsyncKeychainAuthClient against a scripted daemon: tasks in company, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from client_lab import PATIENCE, Conversation, ScriptedDaemon, answer_one, echo, run_program

from keychain_auth import AsyncKeychainAuthClient, KeychainAuthClient, errors
from keychain_auth.wire.answers import Secret, SecretInfo


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """One test's own event loop; a test that hangs fails."""

    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await coroutine

    # Under Wine, the stack that debugging keeps with every step costs 50 ms.
    asyncio.run(limited(), debug=sys.platform != "win32")


def test_it_has_the_methods_of_the_blocking_client() -> None:
    def public(client: type) -> set[str]:
        return {name for name in vars(client) if not name.startswith("_")}

    assert public(AsyncKeychainAuthClient) == public(KeychainAuthClient) | {"connect"}


def test_typed_methods_ask_and_answer(daemon: ScriptedDaemon) -> None:
    seen: list[object] = []

    def script(conversation: Conversation) -> None:
        for results in ([{"target": "a", "value": "1"}], [], None, None, [{"target": "a"}], None, None):
            seen.append(conversation.request()["action"])
            conversation.answer(**({} if results is None else {"results": results}))

    async def main() -> None:
        async with await AsyncKeychainAuthClient.connect(socket_path=daemon.path) as client:
            assert await client.read("s", "a") == [Secret("a", "1", {})]
            assert await client.get("s", "a") is None
            await client.write("s", {"a": "1"})
            await client.delete("s", ["a"])
            assert await client.search("s") == [SecretInfo("a", {})]
            await client.check("s")
            assert await client.send_request({"type": "REQUEST", "action": "check", "service": "s"}) == {
                "type": "RESPONSE", "status": "success",
            }  # fmt: skip
        with pytest.raises(errors.KeychainAuthError, match="closed"):
            await client.check("s")

    daemon.serve(script)
    run(main())
    assert seen == ["read", "read", "write", "delete", "search", "check", "check"]


def test_without_a_daemon_the_fixed_message_is_raised(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError) as caught:
            await AsyncKeychainAuthClient.connect(socket_path=tmp_path / "agent.sock")
        assert str(caught.value) == errors.NOT_RUNNING_MESSAGE
        with pytest.raises(errors.DaemonNotRunning):
            async with AsyncKeychainAuthClient(socket_path=tmp_path / "agent.sock"):
                pass

    run(main())


def test_concurrent_calls_on_one_connection_get_their_own_answers(daemon: ScriptedDaemon) -> None:
    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            found = await asyncio.gather(*(client.get("s", f"t{number}") for number in range(200)))
        assert found == [f"value of t{number}" for number in range(200)]

    daemon.serve(echo)
    run(main())
    assert daemon.nobody_waits()


def test_a_refusal_of_one_task_is_not_another_tasks(daemon: ScriptedDaemon) -> None:
    def script(conversation: Conversation) -> None:
        for _ in range(20):
            if conversation.request()["service"] == "forbidden":
                conversation.answer(status="denied", reason="service_not_allowed")
            else:
                conversation.answer()

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            services = ["allowed", "forbidden"] * 10
            done = await asyncio.gather(*(client.check(service) for service in services), return_exceptions=True)
        assert [type(result) for result in done] == [type(None), errors.ServiceNotAllowed] * 10

    daemon.serve(script)
    run(main())


def test_large_requests_and_answers(daemon: ScriptedDaemon) -> None:
    value = "0123456789abcdef" * 500_000  # 8 MB each way

    def script(conversation: Conversation) -> None:
        assert conversation.request()["values"] == [value]
        conversation.answer(results=[{"target": "t", "value": value}])

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            answer = await client.send_request(
                {"type": "REQUEST", "action": "write", "service": "s", "targets": ["t"], "values": [value]}
            )
        assert answer["results"][0]["value"] == value

    daemon.serve(script)
    run(main())


def test_the_loop_runs_while_the_daemon_thinks(daemon: ScriptedDaemon) -> None:
    go_on = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        assert go_on.wait(PATIENCE)
        conversation.answer()

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(client.check("s"))
            asyncio.get_running_loop().call_soon(go_on.set)  # would never be called by a loop that is blocked

    daemon.serve(script)
    run(main())


def test_a_denial_during_a_large_request_is_heard(daemon: ScriptedDaemon) -> None:
    heard = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.connection.recv(10)
        conversation.answer(status="denied", reason="unregistered_binary_pending_approval")
        assert heard.wait(PATIENCE)  # neither reads nor closes until the client has understood

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            with pytest.raises(errors.ApprovalPending):
                await client.write("s", {"t": "x" * 3_000_000})
            heard.set()

    daemon.serve(script)
    run(main())


# --- ends -------------------------------------------------------------------------------------


def test_a_cancelled_call_ends_its_connection_and_the_next_has_a_new_one(daemon: ScriptedDaemon) -> None:
    begun = threading.Event()
    gone = threading.Event()

    def interrupted(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b'{"type":"RESPONSE","status":"succ')
        begun.set()
        assert conversation.until_end() == b"", "the connection was used again"
        gone.set()

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            first = asyncio.create_task(client.get("s", "first"))
            waiting = asyncio.create_task(client.get("s", "waiting"))
            assert await asyncio.to_thread(begun.wait, PATIENCE)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await asyncio.to_thread(gone.wait, PATIENCE)
            assert await waiting == "value of waiting"
            assert await client.get("s", "next") == "value of next"

    daemon.serve(interrupted, echo)
    run(main())
    assert daemon.nobody_waits()


def test_a_call_that_is_cancelled_while_it_waits_its_turn_harms_nobody(daemon: ScriptedDaemon) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def script(conversation: Conversation) -> None:
        assert conversation.request()["targets"] == ["first"]
        begun.set()
        assert go_on.wait(PATIENCE)
        conversation.answer(results=[{"target": "first", "value": "1"}])
        assert conversation.request()["targets"] == ["third"]
        conversation.answer(results=[{"target": "third", "value": "3"}])

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            first = asyncio.create_task(client.get("s", "first"))
            assert await asyncio.to_thread(begun.wait, PATIENCE)
            second = asyncio.create_task(client.get("s", "second"))
            third = asyncio.create_task(client.get("s", "third"))
            await asyncio.sleep(0)  # one turn of the loop: both are in the queue now
            second.cancel()
            go_on.set()
            assert (await first, await third) == ("1", "3")
            with pytest.raises(asyncio.CancelledError):
                await second

    daemon.serve(script)
    run(main())
    assert daemon.nobody_waits()


def test_a_timeout_says_that_a_write_may_have_happened(daemon: ScriptedDaemon) -> None:
    def silent(conversation: Conversation) -> None:
        conversation.request()
        assert conversation.until_end() == b""

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            with pytest.raises(errors.RequestTimeout, match=r"within 0\.5 s; whether the write .* is unknown"):
                await client.write("s", {"t": "v"}, timeout=0.5)
            assert await client.get("s", "t") == "value of t"

    daemon.serve(silent, echo)
    run(main())


def test_an_answer_that_breaks_off_and_a_stream_that_ends(daemon: ScriptedDaemon) -> None:
    def breaks_off(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b"{")

    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            with pytest.raises(errors.ConnectionLost, match="in the middle of its answer"):
                await client.check("s")
            with pytest.raises(errors.ConnectionLost, match="whether the write was carried out is unknown"):
                await client.write("s", {"t": "v"})

    daemon.serve(breaks_off, Conversation.request)
    run(main())


def test_an_idle_connection_that_was_closed_is_replaced(daemon: ScriptedDaemon) -> None:
    async def main() -> None:
        async with AsyncKeychainAuthClient(socket_path=daemon.path) as client:
            await client.check("s")
            await asyncio.to_thread(daemon.wait)
            daemon.serve(answer_one)
            await client.write("s", {"t": "v"})

    daemon.serve(answer_one)
    run(main())


def test_a_full_queue_of_connections_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")

    async def main(listener: socket.socket) -> None:
        with pytest.raises(errors.RequestTimeout, match=r"accepted no connection within 0\.5 s"):
            await AsyncKeychainAuthClient.connect(socket_path=path, timeout=0.5)
        connecting = asyncio.create_task(AsyncKeychainAuthClient.connect(socket_path=path))
        listener.accept()[0].close()
        await (await connecting).close()

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(path)
        listener.listen(0)  # one may wait
        waiting.connect(path)
        run(main(listener))


def test_a_client_that_was_never_connected_is_closed_without_noise(daemon: ScriptedDaemon) -> None:
    run(AsyncKeychainAuthClient(socket_path=daemon.path).close())


FORKS = """
import asyncio, os, sys
from keychain_auth import AsyncKeychainAuthClient

async def main():
    client = await AsyncKeychainAuthClient.connect(socket_path=sys.argv[1])
    assert await client.get("s", "first") == "value of first"
    waiting = asyncio.create_task(client.get("s", "waiting"))
    await asyncio.sleep(0)  # it is sent, and the socket is watched
    child = os.fork()
    if child == 0:
        asyncio._set_running_loop(None)
        code = 1
        try:
            assert client._connection is None
            assert asyncio.new_event_loop().run_until_complete(client.get("s", "mine")) == "value of mine"
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert await waiting == "value of waiting"  # the parent still hears
    await client.close()
    print("done")

asyncio.run(main())
"""


def test_a_forked_child_opens_its_own_connection_and_leaves_the_parents_loop_alone(daemon: ScriptedDaemon) -> None:
    daemon.serve(echo, echo)
    assert run_program(FORKS, daemon.path, env={**os.environ, "PYTHONWARNINGS": "ignore"}) == "done\n"

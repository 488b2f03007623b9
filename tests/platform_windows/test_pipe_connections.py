"""Connections by pipe: programs written by hand, strangers' handles, limits, and a client that is careful."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading

import pytest

if sys.platform != "win32":
    pytest.skip("named pipes are a part of Windows (tests/windows runs this under Wine)", allow_module_level=True)

import pywintypes
import win32api
import win32con
import win32file
import win32pipe
import win32security
from pipe_lab import Home

from keychain_auth import AsyncKeychainAuthClient, KeychainAuthClient, errors
from keychain_auth.client import pipe as client_pipe
from keychain_auth.client import run
from keychain_auth.oslayer import security

_BY_HAND = """
import json, win32file, win32con
handle = win32file.CreateFile({pipe!r}, win32con.GENERIC_READ | win32con.GENERIC_WRITE, 0, None,
                              win32con.OPEN_EXISTING, 0, None)
request = dict(type="REQUEST", action="read", service="svc", targets=["a", "b"])
win32file.WriteFile(handle, (json.dumps(request) + "\\n").encode())
print(win32file.ReadFile(handle, 65536)[1].decode(), end="")
"""


def open_pipe(name: str) -> object:
    return win32file.CreateFile(
        name, win32con.GENERIC_READ | win32con.GENERIC_WRITE, 0, None, win32con.OPEN_EXISTING, 0, None
    )


def test_a_client_written_by_hand(shared: Home, tool: str) -> None:
    shared.ask(tool, 'client.write("svc", {"a": "1"})')
    answer = json.loads(shared.run(tool, _BY_HAND.format(pipe=shared.pipe)))
    assert answer == {"type": "RESPONSE", "status": "success", "results": [{"target": "a", "value": "1"}]}


def test_answers_of_any_length_and_many_requests_on_one_connection(shared: Home, tool: str) -> None:
    code = """values = {f"t{number:03}": "x" * 50_000 for number in range(15)}
        client.write("svc", values)
        found = client.read("svc", ["t"], prefix=True)
        assert {secret.target: secret.value for secret in found} == values
        for number in range(50):
            assert client.get("svc", "t001") == values["t001"]
        print("done")"""
    assert shared.ask(tool, code) == "done"


def test_the_asynchronous_client(shared: Home, tool: str) -> None:
    code = """
import asyncio
import contextlib
from keychain_auth import AsyncKeychainAuthClient
async def main():
    async with AsyncKeychainAuthClient() as client:
        await client.write("svc", {"a": "1"})
        print(await asyncio.gather(*(client.get("svc", "a") for _ in range(20))) == ["1"] * 20)
asyncio.run(main())
"""
    assert shared.run(tool, code) == "True"


def test_nobody_listens() -> None:
    with pytest.raises(
        RuntimeError, match=r"^keychain-auth daemon is not running\. Start it with: keychain-auth start$"
    ):
        KeychainAuthClient(socket_path=rf"\\.\pipe\keychain-auth-nobody-{os.getpid()}")


def test_without_pywin32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_pipe, "pywintypes", None)
    with pytest.raises(RuntimeError) as refused:
        KeychainAuthClient(socket_path=r"\\.\pipe\any")
    assert str(refused.value) == "Please install 'pywin32' package for named pipe connections on Windows."


def test_run_says_that_it_is_not_there() -> None:
    order = run.Order()
    order.command = ["python"]
    with pytest.raises(errors.UsageError, match="there is no run on Windows"):
        run.run(order, lambda _: {})


def test_a_pipe_of_somebody_else_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An impostor under the daemon's name: the client looks at the owner first, and sends not a byte."""
    name = rf"\\.\pipe\keychain-auth-impostor-{os.getpid()}"
    theirs = win32pipe.CreateNamedPipe(name, win32pipe.PIPE_ACCESS_DUPLEX, 0, 1, 4096, 4096, 0, None)
    stranger = win32security.ConvertStringSidToSid("S-1-5-21-1-2-3-1001")
    monkeypatch.setattr(security, "own_sid", lambda: stranger)  # who looks is another user than who made it
    with pytest.raises(errors.UntrustedDaemon, match="nothing was sent"):
        KeychainAuthClient(socket_path=name)
    with pytest.raises(pywintypes.error):  # the naive client is gone, and left no byte
        win32file.ReadFile(theirs, 100)
    theirs.Close()


def test_what_the_client_asks_of_windows(shared: Home, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wine does not enforce what the server may do with our identity, so what is asked for is looked at."""
    asked: list[tuple[object, ...]] = []
    create = client_pipe.win32file.CreateFile

    def created(*words: object) -> object:
        asked.append(words)
        return create(*words)

    monkeypatch.setattr(client_pipe.win32file, "CreateFile", created)
    connection = client_pipe.connect(shared.pipe)
    inheritable = win32api.GetHandleInformation(connection.socket.fileno()) & win32con.HANDLE_FLAG_INHERIT
    connection.close()
    flags = asked[0][5]
    assert isinstance(flags, int) and flags & 0x00100000 and flags & 0x00030000 == 0x00010000
    assert asked[0][3] is None and not inheritable


def test_a_busy_pipe_is_tried_again() -> None:
    """One instance, and it is taken: the client waits until the server has another."""
    name = rf"\\.\pipe\keychain-auth-busy-{os.getpid()}"

    def instance() -> object:
        mine = security.only_for(security.own_sid())
        return win32pipe.CreateNamedPipe(
            name, win32pipe.PIPE_ACCESS_DUPLEX, 0, win32pipe.PIPE_UNLIMITED_INSTANCES, 4096, 4096, 0, mine
        )

    first = instance()
    taken = open_pipe(name)
    with pytest.raises(BlockingIOError):
        client_pipe.connect(name)
    second: list[object] = []
    timer = threading.Timer(0.2, lambda: second.append(instance()))
    timer.start()
    with KeychainAuthClient(socket_path=name, timeout=60) as client:
        assert repr(client)
    timer.join()
    for handle in (first, taken, *second):
        handle.Close()  # type: ignore[attr-defined]


def test_a_line_beyond_the_limit_ends_the_connection_and_no_other(shared: Home) -> None:
    handle, other = open_pipe(shared.pipe), open_pipe(shared.pipe)
    with pytest.raises(pywintypes.error):
        for _ in range(64):  # it answers, and then reads no more
            win32file.WriteFile(handle, b"x" * 65536)
        while True:
            win32file.ReadFile(handle, 65536)
    win32file.WriteFile(other, b'{"type":"REQUEST"}\n')
    assert b'"reason"' in win32file.ReadFile(other, 65536)[1]
    handle.Close()  # type: ignore[attr-defined]
    other.Close()  # type: ignore[attr-defined]


def test_an_unfinished_line_has_its_deadline_and_many_are_told(shared: Home) -> None:
    """The limits are those of the shared daemon's settings: 3 seconds, 8 connections of one process."""
    handle = open_pipe(shared.pipe)
    win32file.WriteFile(handle, b"half a li")
    with pytest.raises(pywintypes.error):
        while True:
            win32file.ReadFile(handle, 100)
    handle.Close()  # type: ignore[attr-defined]
    handles = [open_pipe(shared.pipe) for _ in range(16)]
    answers = []
    for each in handles:
        with contextlib.suppress(pywintypes.error):  # who is one too many is told without being heard
            win32file.WriteFile(each, b'{"type":"REQUEST","action":"check","service":"svc"}\n')
        answers.append(json.loads(win32file.ReadFile(each, 65536)[1])["reason"])
        each.Close()  # type: ignore[attr-defined]
    assert "rate_limited" in answers and "unregistered_binary_pending_approval" in answers


def test_a_handle_of_a_process_that_has_ended_speaks_for_nobody(shared: Home, tool: str) -> None:
    """The tool hands its connection to another process and ends. The naive rule (who connected is who asks) would let
    that one in."""
    code = f"""
import win32api, win32con, win32file, sys
handle = win32file.CreateFile({shared.pipe!r}, win32con.GENERIC_READ | win32con.GENERIC_WRITE, 0, None, 3, 0, None)
win32file.WriteFile(handle, b'{{"type":"REQUEST","action":"search","service":"svc"}}\\n')
assert b'"success"' in win32file.ReadFile(handle, 65536)[1]
into = win32api.OpenProcess(win32con.PROCESS_DUP_HANDLE, False, {os.getpid()})
there = win32api.DuplicateHandle(win32api.GetCurrentProcess(), handle, into, 0, False, win32con.DUPLICATE_SAME_ACCESS)
print(there.Detach())
"""
    number = int(shared.run(tool, code))
    handle = pywintypes.HANDLE(number)
    win32file.WriteFile(handle, b'{"type":"REQUEST","action":"search","service":"svc"}\n')
    answer = json.loads(win32file.ReadFile(handle, 65536)[1])
    assert answer["reason"] == "caller_changed"
    handle.Close()


def test_the_file_of_a_registered_program_run_from_elsewhere_is_another(shared: Home, tool: str) -> None:
    copy = shared.program("copy")
    with open(tool, "rb") as source, open(copy, "wb") as target:
        target.write(source.read())
    assert shared.ask(copy, 'client.check("svc")').startswith("ApprovalPending")


def test_many_programs_at_once(shared: Home, tool: str) -> None:
    shared.ask(tool, 'client.write("svc", {"a": "1"})')
    code = "import keychain_auth, sys; print(*(keychain_auth.KeychainAuthClient().get('svc', 'a') for _ in range(20)))"
    running = [
        subprocess.Popen([tool, "-c", code], env=shared.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert out.split() == [b"1"] * 20, err.decode()


def test_the_loop_of_the_client_is_any(shared: Home, tool: str) -> None:
    """The asynchronous client waits by threads: it works on both loops that Windows has."""

    async def ask() -> None:
        async with AsyncKeychainAuthClient(socket_path=shared.pipe) as client:
            await client.check("svc")

    for policy in (asyncio.ProactorEventLoop, asyncio.SelectorEventLoop):
        with asyncio.Runner(loop_factory=policy) as runner, pytest.raises(errors.RequestRejected):
            runner.run(ask())

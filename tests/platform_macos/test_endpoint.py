"""Listening on macOS: one daemon for a socket, a loop of the system's own selector, where files are, who is trusted."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keychain_auth.client import trust
from keychain_auth.errors import DaemonAlreadyRunning, InvalidRequest, KeychainAuthError, UnsafeFile, UntrustedDaemon
from keychain_auth.platform import paths
from keychain_auth.platform.base import Platform
from keychain_auth.platform.macos import listener
from keychain_auth.platform.macos.macos import MacosPlatform


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a socket can lie, by a short path; who is behind a connection, macOS would say."""
    monkeypatch.setattr(listener, "peer_pid", lambda connection: 4711)
    made = tempfile.mkdtemp(prefix="ka-", dir="/tmp")
    yield made
    shutil.rmtree(made)


def test_a_platform_has_all_that_the_daemon_needs() -> None:
    platform: Platform = MacosPlatform()
    assert platform.host().filesystems == {"apfs", "hfs"}
    with pytest.raises(KeychainAuthError, match="whole machine"):
        MacosPlatform(system=True)


def test_one_daemon_for_a_socket(folder: str) -> None:
    path = f"{folder}/keychain-auth/agent.sock"
    first = MacosPlatform().listen(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    with pytest.raises(DaemonAlreadyRunning) as caught:
        MacosPlatform().listen(path)
    assert caught.value.pid == os.getpid()
    with pytest.raises(BlockingIOError):
        first.accept()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        channel = first.accept()
        client.send(b"x")
        known = os.getpid() if sys.platform == "darwin" else None  # others have no audit tokens: nobody is known there
        assert channel.receive() == (b"x", known)
        channel.end_output()
        assert client.recv(1) == b""
        channel.close()
    first.close()
    first.close()
    assert not os.path.exists(path)


def test_who_holds_no_lock_but_answers_keeps_the_socket(folder: str) -> None:
    path = f"{folder}/agent.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(5)
        with pytest.raises(DaemonAlreadyRunning) as caught:
            MacosPlatform().listen(path)
        assert caught.value.pid == 4711
    second = MacosPlatform().listen(path)  # it is stale now
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        second.close()
        assert os.path.exists(path)  # it is not the one that was bound
    os.unlink(path)
    Path(path).touch()
    with pytest.raises(UnsafeFile, match="no socket"):
        MacosPlatform().listen(path)
    with pytest.raises(UnsafeFile, match="longer than 103 bytes"):
        MacosPlatform().listen(f"{folder}/{'x' * 100}")
    os.chmod(folder, 0o777)
    with pytest.raises(UnsafeFile, match="other users"):
        MacosPlatform().listen(path)


def test_the_loop_serves_connections_in_one_turn(folder: str) -> None:
    readiness = MacosPlatform().readiness()
    turns: list[int] = []

    def serve(ready: list[Any]) -> None:
        turns.append(len(ready))
        for callback in ready:
            callback()

    readiness.serve_by(serve)

    async def work() -> list[bytes]:
        heard: list[bytes] = []
        done = asyncio.get_running_loop().create_future()

        def listen(ours: socket.socket) -> None:
            heard.append(ours.recv(10))
            readiness.remove(ours.fileno())
            if len(heard) == 3:
                done.set_result(None)

        pairs = [socket.socketpair() for _ in range(3)]
        for ours, theirs in pairs:
            readiness.add(ours.fileno(), lambda ours=ours: listen(ours))  # type: ignore[misc]
            theirs.send(b"x")
        await asyncio.wait_for(done, 10)
        await asyncio.to_thread(lambda: None)  # what is the loop's own still works
        for each in pairs:
            for end in each:
                end.close()
        return heard

    with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
        assert runner.run(work()) == [b"x"] * 3
    assert turns == [3]


def test_where_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_system", "darwin")
    monkeypatch.setenv("HOME", "/Users/ann")
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    monkeypatch.delenv("KEYCHAIN_AUTH_SOCKET", raising=False)
    base = "/Users/ann/Library/Application Support/keychain-auth"
    assert (paths.runtime_dir(), paths.config_dir(), paths.data_dir()) == (base, base, base)
    assert paths.log_dir() == "/Users/ann/Library/Logs/keychain-auth"
    assert paths.resolve_socket_path() == f"{base}/agent.sock"
    with pytest.raises(InvalidRequest, match="longer than 103"):
        paths.resolve_socket_path(f"/{'x' * 103}")
    assert paths.resolve_socket_path(f"/{'x' * 102}")
    monkeypatch.delenv("HOME")
    assert paths.config_dir().endswith("/Library/Application Support/keychain-auth")


@pytest.mark.parametrize(("uid", "trusted"), [(os.geteuid(), True), (0, True), (54321, False)])
def test_a_client_asks_who_listens(uid: int, trusted: bool, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_system", "darwin")

    class Connected:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (0, 1, 76)
            return struct.pack("=IIh2x16I", 0, uid, 1, *[0] * 16)

    connected: Any = Connected()
    if trusted and uid == os.stat(folder).st_uid:
        trust.check_listener(connected, f"{folder}/agent.sock")
    else:
        with pytest.raises(UntrustedDaemon):
            trust.check_listener(connected, f"{folder}/agent.sock")

"""The attacks that the client withstands: each is shown winning against a naive client first."""

from __future__ import annotations

import _socket
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from client_lab import Conversation, ScriptedDaemon, echo, run_program

from keychain_auth import KeychainAuthClient, UntrustedDaemon
from keychain_auth.client.trust import why_not
from support.installation import installation_for
from support.users import Account

SECRET_LINE = b'{"type":"REQUEST","action":"write","service":"s","targets":["t"],"values":["hunter2"]}\n'

# Listens as whoever it runs as; prints what each of two clients sent.
IMPOSTOR = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o777)
    listener.listen()
    print("ready", flush=True)
    for _ in range(2):
        with listener.accept()[0] as connection:
            connection.settimeout(60)
            print(b"".join(iter(lambda: connection.recv(65536), b"")), flush=True)
"""


def naive_write(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as naive:
        naive.connect(path)
        naive.sendall(SECRET_LINE)


def test_an_impostor_of_another_user_gets_nothing(stranger: Account) -> None:
    folder = Path("/tmp") / f"keychain-auth-impostor-{os.getpid()}"  # pytest's own folders are closed to the stranger
    folder.mkdir(mode=0o755)
    stranger.own(str(folder))
    path = str(folder / "agent.sock")
    impostor = subprocess.Popen(
        [installation_for(stranger).python, "-I", "-c", IMPOSTOR, path],
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        **stranger.popen(),
    )
    try:
        assert impostor.stdout is not None
        assert impostor.stdout.readline() == "ready\n"

        naive_write(path)
        assert "hunter2" in impostor.stdout.readline()

        with pytest.raises(UntrustedDaemon, match=f"belongs to user {stranger.uid}.*nothing was sent"):
            KeychainAuthClient(socket_path=path).write("s", {"t": "hunter2"})
        assert impostor.stdout.readline() == "b''\n"
        assert impostor.wait(60) == 0
    finally:
        impostor.kill()
        impostor.wait()
        impostor.stdout.close()  # type: ignore[union-attr]
        os.unlink(path)
        folder.rmdir()


def test_a_folder_that_others_can_write_is_not_trusted(daemon: ScriptedDaemon) -> None:
    got: list[bytes] = []
    folder = Path(daemon.path).parent

    def listen(conversation: Conversation) -> None:
        got.append(conversation.until_end())

    folder.chmod(0o777)
    daemon.serve(listen, listen)
    naive_write(daemon.path)
    with pytest.raises(UntrustedDaemon, match="other users can write the folder") as caught:
        KeychainAuthClient(socket_path=daemon.path).write("s", {"t": "hunter2"})
    daemon.wait()
    assert sorted(got) == [b"", SECRET_LINE]  # two threads listen: either may be first
    assert caught.value.hint == f"chmod go-w {folder}"

    subprocess.run(caught.value.hint.split(), check=True)  # the hint mends it
    daemon.serve(echo)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        assert client.get("s", "t") == "value of t"


@pytest.mark.parametrize(
    ("listener", "owner", "mode", "own", "problem"),
    [
        (1000, 1000, 0o700, 1000, None),
        (0, 0, 0o755, 1000, None),  # the system's daemon
        (0, 0, 0o755, 0, None),
        (1001, 1001, 0o700, 1000, "belongs to user 1001, not to user 1000 or root"),
        (1000, 1000, 0o700, 0, "belongs to user 1000, not to user 0 or root"),  # root is not served by users
        (65534, 0, 0o755, 1000, "belongs to user 65534"),  # not mapped into this user namespace
        (1000, 1001, 0o700, 1000, "the folder /d belongs to user 1001"),
        (0, 1000, 0o700, 1000, "the folder /d belongs to user 1000"),
        (1000, 0, 0o755, 1000, "the folder /d belongs to user 0"),
        (1000, 1000, 0o770, 1000, "can write"),
        (0, 0, 0o1777, 1000, "can write"),  # sticky or not
    ],
)
def test_who_is_trusted(listener: int, owner: int, mode: int, own: int, problem: str | None) -> None:
    verdict = why_not(listener, owner, mode, own, "/d")
    assert verdict is None if problem is None else verdict is not None and problem in verdict[0]


def test_the_descriptor_does_not_survive_an_exec(daemon: ScriptedDaemon) -> None:
    """What a program starts must not inherit its standing with the daemon."""
    look = "import os, sys; print(os.path.exists('/proc/self/fd/' + sys.argv[1]))"
    daemon.serve(echo)
    with KeychainAuthClient(socket_path=daemon.path) as client:
        assert client._connection is not None
        fd = client._connection.socket.fileno()
        naive = os.dup2(fd, 200, inheritable=True)
        flags = {number: fdinfo_flags(number) for number in (fd, naive)}
        seen = {
            number: subprocess.run(
                [sys.executable, "-c", look, str(number)], close_fds=False, capture_output=True, text=True, check=True
            ).stdout
            for number in (fd, naive)
        }
        os.close(naive)
    assert seen == {naive: "True\n", fd: "False\n"}
    assert not flags[naive] & os.O_CLOEXEC
    assert flags[fd] & os.O_CLOEXEC


def test_the_descriptor_is_close_on_exec_from_the_call_that_creates_it(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set afterwards it would be too late: another thread may fork and exec in between."""
    flags: list[int] = []

    class Looking(_socket.socket):
        def connect(self, address: str) -> None:
            flags.append(fdinfo_flags(self.fileno()))
            super().connect(address)

    monkeypatch.setattr(_socket, "socket", Looking)
    daemon.serve(Conversation.until_end)
    KeychainAuthClient(socket_path=daemon.path).close()
    assert len(flags) == 1
    assert flags[0] & os.O_CLOEXEC


def fdinfo_flags(fd: int) -> int:
    """The open flags that the kernel shows, which is where the daemon looks (proc(5))."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("flags:")), 8)


FORKS = """
import os, socket, struct, sys, threading
from keychain_auth import KeychainAuthClient

client = KeychainAuthClient(socket_path=sys.argv[1])
inherited = client._connection.socket.fileno()
assert client.get("s", "first") == f"{os.getpid()} first"

asked = threading.Event()
locked = threading.Thread(target=lambda: (client._lock.acquire(), asked.set()))
locked.start(); locked.join(); asked.wait()  # fork while "another thread" is in the middle of a call

child = os.fork()
if child == 0:
    try:
        assert client._connection is None
        try:
            os.fstat(inherited)
        except OSError:
            pass
        else:
            raise AssertionError("the parent's descriptor is still open in the child")
        assert client.get("s", "mine") == f"{os.getpid()} mine"
        client.close()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client._lock.release()
assert client._connection.socket.fileno() == inherited
assert client.get("s", "last") == f"{os.getpid()} last", "the child has ended the parent's connection"
print("done", os.getpid(), child)
"""

NAIVE_FORK = """
import os, socket, sys
naive = socket.socket(socket.AF_UNIX)
naive.connect(sys.argv[1])
child = os.fork()
if child == 0:
    naive.sendall(b'{"targets":["secret of the child"]}\\n')
    naive.recv(1, socket.MSG_PEEK)  # the answer is there, and a child that is slow leaves it to the parent
    os._exit(0)
os.waitpid(child, 0)
print(naive.recv(65536).decode())
"""


def test_a_forked_child_never_uses_its_parents_connection(daemon: ScriptedDaemon) -> None:
    # Naive: one stream in two processes. The parent reads the child's secret; the daemon sees only the parent.
    daemon.serve(echo)
    assert "secret of the child" in run_program(NAIVE_FORK, daemon.path)
    daemon.wait()

    connected: list[int] = []

    def name_the_peer(conversation: Conversation) -> None:
        """Answer with the pid that the kernel names."""
        pid, _, _ = struct.unpack("=iII", conversation.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        connected.append(pid)
        for line in conversation.lines():
            target = json.loads(line)["targets"][0]
            conversation.answer(results=[{"target": target, "value": f"{pid} {target}"}])

    daemon.serve(name_the_peer, name_the_peer)
    _, parent, child = run_program(FORKS, daemon.path).split()
    daemon.wait()
    assert connected == [int(parent), int(child)]

"""The single looks at processes and sockets of Linux: each against the real kernel."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from keychain_auth.platform.linux.activation import Handed
from keychain_auth.platform.linux.channel import has_passrights
from keychain_auth.platform.linux.descriptors import SocketDiagnosis, TooManyDescriptors, holding
from keychain_auth.platform.linux.linux import LinuxPlatform
from keychain_auth.platform.linux.listener import UnixListener
from keychain_auth.platform.linux.looks import Host
from keychain_auth.platform.linux.peercred import open_peer
from keychain_auth.platform.linux.procfs import Process
from support.world import World


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A child that waits for its stdin to end."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_the_diagnosis_names_the_other_end(pair: tuple[socket.socket, socket.socket]) -> None:
    diagnosis = SocketDiagnosis()
    try:
        assert diagnosis.peer_inode(inode(pair[0])) == inode(pair[1])
        assert diagnosis.peer_inode(inode(pair[1])) == inode(pair[0])
        pair[1].close()
        assert diagnosis.peer_inode(inode(pair[0])) == 0
        with pytest.raises(OSError, match="No such file"):
            diagnosis.peer_inode(0xFFFFFFF0)
    finally:
        diagnosis.close()


def test_who_holds_an_end_and_whether_it_is_inheritable(pair: tuple[socket.socket, socket.socket]) -> None:
    process = Process(os.getpid())
    try:
        assert holding(process.folder, inode(pair[1]), 10_000) == (True, False)
        copy = os.dup2(pair[1].fileno(), pair[1].fileno() + 500, inheritable=True)
        assert holding(process.folder, inode(pair[1]), 10_000) == (True, True)
        os.close(copy)
        assert holding(process.folder, inode(pair[1]), 10_000) == (True, False)
        assert holding(process.folder, 1, 10_000) == (False, False)
        with pytest.raises(TooManyDescriptors):
            holding(process.folder, inode(pair[1]), 2)
    finally:
        process.close()


def test_a_process_folder_never_shows_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    process = Process(sleeper.pid)
    try:
        assert os.stat("exe", dir_fd=process.folder).st_ino == os.stat("/bin/cat").st_ino
        before = process.exec_id()
        assert process.exec_id() == before
        sleeper.kill()
        sleeper.wait()
        with pytest.raises(OSError, match="No such"):
            os.stat("exe", dir_fd=process.folder)
        with pytest.raises(ProcessLookupError):
            process.exec_id()
    finally:
        process.close()


def test_an_exec_changes_the_exec_id_and_not_the_pid() -> None:
    """The layout is random for each exec (ASLR), even of the same program."""
    script = "echo ready; read go; exec /bin/sh -c 'echo again; read go'"
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdin is not None
        assert shell.stdout.readline() == b"ready\n"
        process = Process(shell.pid)
        before = process.exec_id()
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"again\n"
        after = process.exec_id()
        process.close()
        assert after.start_time == before.start_time
        assert after.layout != before.layout
        shell.stdin.close()


def test_the_name_of_a_process_cannot_shift_the_fields(tmp_path: object) -> None:
    """The name stands in parentheses in /proc/PID/stat and may hold anything, ") R 1 1" included."""
    program = os.path.join(str(tmp_path), ") R 1 (x")
    os.symlink("/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        looked = Process(process.pid)
        with open("/proc/uptime") as file:
            uptime = float(file.read().split()[0])
        assert 0 < looked.exec_id().start_time / os.sysconf("SC_CLK_TCK") <= uptime + 1
        looked.close()


def test_the_peer_is_the_one_that_connected(pair: tuple[socket.socket, socket.socket]) -> None:
    process = open_peer(pair[0], os.getpid())
    assert process.pid == os.getpid()
    process.close()


def _refused_descriptor(client: socket.socket) -> bool:
    try:
        socket.send_fds(client, [b"x"], [0])
    except PermissionError:
        return True
    return False


def test_descriptors_are_refused_at_the_sender_before_anybody_accepts(world: World) -> None:
    """What a listener of our own accepts has inherited that; what waited at one that was handed over gets it then."""
    if not has_passrights():
        pytest.skip("this kernel has no SO_PASSRIGHTS (Linux 6.16)")
    platform = LinuxPlatform()
    listener = platform.listen(world.path("run", "own", "agent.sock"))
    handed = socket.socket(socket.AF_UNIX)
    handed.bind(world.path("run", "own", "handed.sock"))
    handed.listen()
    with socket.socket(socket.AF_UNIX) as own, socket.socket(socket.AF_UNIX) as early:
        own.connect(listener.path)
        assert _refused_descriptor(own)
        early.connect(world.path("run", "own", "handed.sock"))
        host = Host(frozenset(), 0)
        taken = UnixListener(world.path("run", "own", "handed.sock"), host, Handed(handed, True, True))
        channel = taken.accept()
        assert _refused_descriptor(early)
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(taken.path)
            assert _refused_descriptor(late)
        channel.close()
        taken.close()
        host.close()
    listener.close()
    platform.close()


def test_a_listener_knows_whether_somebody_waits(world: World) -> None:
    platform = LinuxPlatform()
    listener = platform.listen(world.path("run", "own", "agent.sock"))
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        assert not listener.may_have_more()
        first.connect(listener.path)
        second.connect(listener.path)
        listener.accept().close()
        assert listener.may_have_more()
        listener.accept().close()
        assert not listener.may_have_more()
    listener.close()
    platform.close()


def test_only_peers_of_one_process_share_a_look(world: World) -> None:
    platform = LinuxPlatform()
    listener = platform.listen(world.path("run", "own", "agent.sock"))
    world.user.own(world.path("run", "own"))
    world.user.own(listener.path)
    program = world.build_client()
    for _ in range(2):  # one program, two processes
        world.talker(program, socket=listener.path)
    mine = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for end in mine:
        end.connect(listener.path)
    channels = [listener.accept() for _ in range(4)]
    peers = [channel.peer() for channel in channels]
    assert {peer.look for peer in peers} == {""}
    for peer in peers:
        peer.facts(patient=True)
    one, other, here, again = (peer.look for peer in peers)
    assert here == again
    assert len({here, one, other, ""}) == 4
    for thing in (*peers, *channels, *mine, listener, platform):
        thing.close()


def test_an_exec_between_two_looks_is_seen_without_address_randomisation(world: World) -> None:
    """Start time and layout survive an exec of a twin when randomisation is off, so the file is looked at twice.

    The attack: a byte-equal copy connects, its descriptor is looked at, then it becomes the registered program, and
    only then the executable is looked at. Here the exec is made to fall right between the two.
    """
    import keychain_auth.platform.linux.peer as module

    if os.geteuid() != 0:
        pytest.skip("the looks are made from this process, and only root may look at another user's")
    trusted = world.build_client("trusted")
    twin = world.build_client("twinned")
    platform = LinuxPlatform()
    listener = platform.listen(world.path("run", "own", "agent.sock"))
    os.chmod(world.path("run", "own"), 0o711)
    os.chmod(listener.path, 0o666)
    attacker = world.talk(["/usr/bin/setarch", "-R", twin, listener.path, "--inheritable"])
    attacker.connected()
    channel = listener.accept()
    peer = channel.peer()
    honest = peer.facts()
    assert honest.steady
    assert os.path.basename(honest.executable.path) == "twinned"
    real = module.holding

    def exec_right_after(folder: int, inode: int, most: int) -> tuple[bool, bool]:
        result = real(folder, inode, most)
        attacker.feed(f"!exec {trusted}\n".encode())
        attacker.connected()
        return result

    module.holding = exec_right_after
    try:
        facts = peer.facts()
    finally:
        module.holding = real
    assert facts.holds_socket  # what a naive order has gathered by now: the descriptor of one program …
    assert os.readlink(f"/proc/{attacker.pid}/exe") == trusted  # … and the file of the other
    assert not facts.steady
    peer.close()
    channel.close()
    listener.close()
    platform.close()

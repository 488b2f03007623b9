"""Who is on the other end, as macOS would say it: rules and attacks, against a stand-in for its calls (conftest.py).

Connections are real Unix sockets; what LOCAL_PEER… answers on one is said by the test, as is all that libproc answers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peer_lab import CHILD, HARDENED, OURS, PID, THEIRS, UNIX, VERSION, Lab, peer_lab, token

from keychain_auth.identity import attest
from keychain_auth.platform.base import FileTooLarge, NeedsThread, PeerGone
from keychain_auth.platform.macos import audit_token, libproc
from keychain_auth.platform.macos.channel import MacosChannel
from keychain_auth.platform.macos.macos import MacosPlatform


@pytest.fixture
def lab(macos: Any, tmp_path: Path) -> Iterator[Lab]:
    with peer_lab(macos, tmp_path) as made:
        yield made


def test_every_fact_comes_from_its_place(lab: Lab) -> None:
    facts, about = lab.facts(), os.stat(lab.program)
    assert (facts.pid, facts.uid, facts.tracer, facts.seccomp_filters) == (PID, os.geteuid(), 0, 0)
    assert facts.executable.path == str(lab.program)
    assert facts.executable.filesystem == "apfs"
    key = facts.executable.key
    assert (key.device, key.inode, key.size) == (about.st_dev, about.st_ino, about.st_size)
    assert (key.mtime_ns, key.ctime_ns) == (about.st_mtime_ns, about.st_ctime_ns)
    assert facts.at_path == (about.st_dev, about.st_ino)
    assert (facts.holds_socket, facts.inheritable, facts.steady) == (True, False, True)
    assert (facts.exec_id.start_time, facts.exec_id.layout) == (1_700_000_000_123_456, (VERSION,))
    assert (facts.code.program, facts.code.in_memory, facts.code.files) == (True, False, ())
    assert lab.refusal() == ""


def test_a_look_waits_for_a_disk_so_it_is_for_a_thread(lab: Lab) -> None:
    with pytest.raises(NeedsThread):
        lab.peer().facts()


# --- the pid changes hands, or runs another program ---------------------------------------------------


def test_a_pid_that_was_used_again_is_not_the_process(lab: Lab) -> None:
    """The naive way (LOCAL_PEERPID, then proc_pidpath) takes the younger process for the one that connected."""
    channel = MacosChannel(lab.connection)
    lab.process(version=VERSION + 7)
    assert libproc.path_of(audit_token.peer_pid(lab.connection)) == str(lab.program)
    with pytest.raises(PeerGone, match="has ended, or runs another program"):
        channel.peer()


def test_an_exec_shows_at_the_next_message(lab: Lab) -> None:
    channel = MacosChannel(lab.connection)
    peer = channel.peer()
    first = peer.facts(patient=True)
    lab.other.send(b"one\n")
    assert channel.receive() == (b"one\n", PID)
    assert (peer.runs_same_file(), peer.runs_same_exec()) == (True, True)
    lab.process(version=VERSION + 1)
    lab.connection.last = token(version=VERSION + 1)
    lab.other.send(b"two\n")
    assert channel.receive() == (b"two\n", None)
    assert (peer.runs_same_file(), peer.runs_same_exec()) == (False, False)
    with pytest.raises(PeerGone, match="runs another program"):
        peer.facts(patient=True)
    lab.macos.fake_gone(PID)
    assert (peer.runs_same_file(), peer.runs_same_exec()) == (None, None)
    assert first.executable.path in str(lab.program)


def test_a_child_that_sends_is_not_the_process(lab: Lab) -> None:
    channel = MacosChannel(lab.connection)
    lab.connection.last = token(CHILD, VERSION + 1)
    lab.other.send(b"from the child\n")
    assert channel.receive() == (b"from the child\n", None)
    lab.connection.last = None
    lab.other.send(b"x")
    assert channel.receive() == (b"x", None)


def test_who_used_the_other_end_during_the_look_is_seen(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = lab.peer()
    lab.connection.last = token(CHILD)
    facts = peer.facts(patient=True)
    assert not facts.holds_socket
    refusal = attest.judge(facts, MacosPlatform().host())
    assert refusal is not None
    assert refusal.reason == attest.SOCKET_NOT_CLOEXEC


# --- the descriptor -----------------------------------------------------------------------------------


def test_a_descriptor_that_an_exec_would_keep_is_refused(lab: Lab) -> None:
    lab.macos.fake_socket(PID, 9, UNIX, THEIRS, OURS, 1)
    assert lab.refusal().startswith("socket_not_cloexec: its descriptor is inheritable")


def test_a_process_without_the_other_end_is_refused(lab: Lab) -> None:
    for own_other_end, their_socket in ((THEIRS, THEIRS + 1), (THEIRS, None), (0, 0)):
        lab.macos.fake_forget()
        lab.process()
        lab.macos.fake_process(os.getpid(), 1, os.geteuid(), 0, 1, HARDENED, 1, b"/daemon", 1, 2, 3, 4, 5)
        lab.macos.fake_socket(os.getpid(), lab.connection.fileno(), UNIX, OURS, own_other_end, 0)
        if their_socket is not None:
            lab.macos.fake_socket(PID, 5, UNIX, their_socket, OURS, 0)
        assert lab.refusal().startswith("socket_not_cloexec: another process holds")


def test_a_process_with_very_many_descriptors(lab: Lab) -> None:
    for fd in range(10, 700):
        lab.macos.fake_socket(PID, fd, UNIX, fd, fd, 1)
    assert lab.refusal() == ""
    lab.macos.fake_socket(PID, 700, UNIX, THEIRS, OURS, 1)
    assert lab.refusal().startswith("socket_not_cloexec: its descriptor is inheritable")


# --- the executable -----------------------------------------------------------------------------------


def test_a_file_that_was_replaced_is_refused_and_not_hashed(lab: Lab) -> None:
    fresh = lab.program.with_name("fresh")
    fresh.write_bytes(b"another")
    os.rename(fresh, lab.program)
    assert "is not the one that runs" in lab.refusal()
    with pytest.raises(PeerGone, match="is not the one that runs"):
        lab.peer().hash_program(10**6, lambda: None)
    os.unlink(lab.program)
    assert lab.facts().at_path is None


@pytest.mark.parametrize("kind", ["osxfuse", "nfs", "smbfs", ""])
def test_a_filesystem_whose_server_is_a_stranger_is_refused(lab: Lab, kind: str) -> None:
    lab.macos.fake_filesystem(kind.encode(), 0)
    assert f"its executable lies on {kind}" in lab.refusal()


def test_the_program_is_hashed_in_pieces_and_up_to_a_limit(lab: Lab) -> None:
    paces: list[int] = []
    digest = lab.peer().hash_program(10**6, lambda: paces.append(1))
    assert digest.sha256 == hashlib.sha256(lab.program.read_bytes()).hexdigest()
    assert (digest.of_root, digest.keep) == (False, False)
    assert paces
    with pytest.raises(FileTooLarge):
        lab.peer().hash_program(1000, lambda: None)


# --- gone, another user, another structure ------------------------------------------------------------


def test_who_is_gone_before_the_first_look(lab: Lab) -> None:
    lab.connection.last = None
    with pytest.raises(PeerGone):
        MacosChannel(lab.connection).peer()
    channel = MacosChannel(lab.connection)
    lab.connection.last = token()
    with pytest.raises(PeerGone):
        channel.peer()


def test_another_user_is_seen(lab: Lab) -> None:
    lab.connection.uid = os.geteuid() + 1
    channel = MacosChannel(lab.connection)
    assert channel.peer_credentials() == (PID, os.geteuid() + 1)
    assert lab.refusal().startswith("user_not_allowed")


def test_a_structure_of_another_size_is_no_answer(lab: Lab) -> None:
    peer = lab.peer()
    lab.connection.last = token()[:28]
    with pytest.raises(PeerGone, match="another structure"):
        peer.facts(patient=True)
    lab.other.send(b"x")
    assert MacosChannel(lab.connection).receive() == (b"x", None)


def test_what_a_mac_does_not_offer_is_said(lab: Lab) -> None:
    platform = MacosPlatform()
    assert "before its first instruction" in platform.launch_forbidden()
    with pytest.raises(PeerGone):
        platform.front(PID)
    assert lab.peer().parent() is None
    assert "not verified on hardware" in platform.rules()["peer"]

"""Who is on the other end, as macOS would say it: rules and attacks, against a stand-in for its calls (conftest.py).

Connections are real Unix sockets; what LOCAL_PEER… answers on one is said by the test, as is all that libproc answers.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from keychain_auth.identity import attest
from keychain_auth.identity.facts import PeerFacts
from keychain_auth.native.foundation import Pool, constant
from keychain_auth.platform.base import FileTooLarge, NeedsThread, PeerGone
from keychain_auth.platform.macos import audit_token, libproc
from keychain_auth.platform.macos.channel import MacosChannel
from keychain_auth.platform.macos.code_signature import team_of
from keychain_auth.platform.macos.macos import MacosPlatform
from keychain_auth.platform.macos.peer import MacosPeer, is_protected

PID, CHILD, VERSION = 70_000, 70_001, 41
HARDENED = libproc.CS_VALID | libproc.CS_RUNTIME | libproc.CS_REQUIRE_LV
OURS, THEIRS = 0xFFFF_0000_1111_2222, 0xFFFF_0000_3333_4444
UNIX, TCP = 3, 2


def token(pid: int = PID, version: int = VERSION) -> bytes:
    return struct.pack("=8I", 0xFFFFFFFF, os.geteuid(), 20, os.geteuid(), 20, pid, 100_005, version)


class Connection(socket.socket):
    """A socket that answers as one of macOS does; ``last`` is the audit token of who used the other end last."""

    last: bytes | None = token()
    uid = os.geteuid()

    def getsockopt(self, level: int, option: int, size: int = 0, /) -> Any:
        if level != audit_token.SOL_LOCAL:
            return super().getsockopt(level, option, size)
        if self.last is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return {
            (audit_token.LOCAL_PEERCRED, 76): struct.pack("=IIh2x16I", 0, self.uid, 1, 20, *[0] * 15),
            (audit_token.LOCAL_PEERPID, 4): self.last[20:24],
            (audit_token.LOCAL_PEERTOKEN, 32): self.last,
        }[option, size]


class Lab(NamedTuple):
    macos: Any
    connection: Connection
    other: socket.socket
    program: Path

    def process(self, pid: int = PID, *, status: int = HARDENED, traced: bool = False, version: int = VERSION) -> None:
        """A process that runs ``program``."""
        about = os.stat(self.program)
        self.macos.fake_process(
            pid, 1, os.geteuid(), traced, version, status, 1_700_000_000_123_456, os.fsencode(self.program),
            about.st_dev & 0xFFFFFFFF, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns,
        )  # fmt: skip

    def peer(self) -> MacosPeer:
        return MacosChannel(self.connection).peer()

    def facts(self) -> PeerFacts:
        return self.peer().facts(patient=True)

    def refusal(self) -> str:
        """Why the process is refused, "" if it is not."""
        found = attest.judge(self.facts(), MacosPlatform().host())
        return "" if found is None else f"{found.reason}: {found.why}"


@pytest.fixture
def lab(macos: Any, tmp_path: Path) -> Iterator[Lab]:
    ours, theirs = socket.socketpair()
    program = tmp_path / "tool"
    program.write_bytes(b"#!" + bytes(100_000))
    with ours, theirs, Connection(fileno=ours.detach()) as connection:
        made = Lab(macos, connection, theirs, program)
        macos.fake_filesystem(b"apfs", 0x1000)
        made.process()
        macos.fake_process(os.getpid(), 1, os.geteuid(), 0, 1, HARDENED, 1, b"/daemon", 1, 2, 3, 4, 5)
        macos.fake_socket(os.getpid(), connection.fileno(), UNIX, OURS, THEIRS, 0)
        macos.fake_socket(PID, 0, 0, 0, 0, 1)
        macos.fake_socket(PID, 3, TCP, 1, THEIRS, 1)
        macos.fake_socket(PID, 5, UNIX, THEIRS, OURS, 0)
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


# --- code that is not its own -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "protected"),
    [
        (0, False),
        (libproc.CS_VALID, False),
        (libproc.CS_VALID | libproc.CS_RUNTIME, False),
        (HARDENED, True),
        (HARDENED & ~libproc.CS_VALID, False),
        (HARDENED | libproc.CS_GET_TASK_ALLOW, False),
        (HARDENED | libproc.CS_DEBUGGED, False),
        (libproc.CS_VALID | libproc.CS_PLATFORM_BINARY, True),
        (libproc.CS_PLATFORM_BINARY, False),
    ],
)
def test_what_may_have_been_loaded_is_reported_unless_it_cannot(lab: Lab, status: int, protected: bool) -> None:
    assert is_protected(status) is protected
    lab.process(status=status)
    assert lab.facts().code.in_memory is not protected


def test_a_debugger_is_refused(lab: Lab) -> None:
    lab.process(traced=True)
    assert "process 1 traces it" in lab.refusal()
    lab.process(status=HARDENED | libproc.CS_DEBUGGED)
    assert "process 1 traces it" in lab.refusal()


def test_strict_looks_for_a_valid_signature_and_other_holders(lab: Lab) -> None:
    found = lab.peer().strict_facts()
    assert (found.patched, found.traced, found.holders) == ("", False, ())
    lab.process(CHILD)
    lab.macos.fake_socket(CHILD, 5, UNIX, THEIRS, OURS, 0)
    lab.process(status=0)
    found = lab.peer().strict_facts()
    assert (found.patched, found.holders) == (str(lab.program), (CHILD,))


@pytest.mark.parametrize(
    ("status", "team", "found"), [(HARDENED, "ABCDE12345", "ABCDE12345"), (0, "ABCDE12345", ""), (HARDENED, "", "")]
)
def test_the_team_is_that_of_a_valid_signature(lab: Lab, status: int, team: str, found: str) -> None:
    lab.process(status=status)
    lab.macos.fake_team(PID, team.encode(), 0)
    assert team_of(token()) == found
    assert team_of(token(version=VERSION + 1)) == ""
    assert lab.facts().publisher == found


def test_a_certificate_of_ones_own_that_names_another_team(lab: Lab) -> None:
    """The naive way asks for a valid signature, and believes the team that it names."""
    lab.macos.fake_team(PID, b"ABCDE12345", 1)
    code = ctypes.c_void_p()
    with Pool() as pool:
        wanted = pool.table({constant(lab.macos, "kSecGuestAttributeAudit"): pool.data(token())})
        lab.macos.SecCodeCopyGuestWithAttributes.argtypes = (ctypes.c_void_p,) * 2 + (ctypes.c_uint32, ctypes.c_void_p)
        assert lab.macos.SecCodeCopyGuestWithAttributes(None, wanted, 0, ctypes.byref(code)) == 0
        pool.own(code.value)
        lab.macos.SecCodeCheckValidity.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
        assert lab.macos.SecCodeCheckValidity(code, 0, None) == 0
    assert team_of(token()) == ""
    assert lab.facts().publisher == ""


# --- scripts, which are declared ----------------------------------------------------------------------


def test_the_command_line_and_the_script_that_it_names(lab: Lab, tmp_path: Path) -> None:
    raw = struct.pack("=i", 3) + b"/usr/bin/python3\0\0\0\0python3\0-I\0app.py\0HOME=/Users/ann\0"
    lab.macos.fake_arguments(PID, raw, len(raw))
    lab.macos.fake_folder(PID, os.fsencode(tmp_path))
    assert lab.peer().command_line() == ("python3", "-I", "app.py")
    script = tmp_path / "app.py"
    script.write_text("print()\n")
    os.symlink(script, tmp_path / "link.py")
    os.mkfifo(tmp_path / "fifo")
    for name in ("app.py", "link.py", str(script)):
        found = lab.peer().open_script(name)
        assert found is not None
        assert found.facts.path == str(script)
        assert found.hash(1000, lambda: None).sha256 == hashlib.sha256(b"print()\n").hexdigest()
        found.close()
        found.close()
    for name in ("none.py", "fifo", "", "."):
        assert lab.peer().open_script(name) is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\1\0\0\0/x\0\0x\0", ("x",)),
        (b"\2\0\0\0/x\0x\0\0", ("x", "")),
        (b"\xff\xff\0\0/x\0x\0", ("x", "")),
        (b"\0\0\0\0", ()),
        (b"\1\0\0\0/x\0\xff\0", ("\udcff",)),
    ],
)
def test_arguments_of_any_kind_are_read(raw: bytes, words: tuple[str, ...]) -> None:
    assert libproc.parse_arguments(raw) == words


def test_no_arguments_are_an_error() -> None:
    with pytest.raises(OSError, match="no arguments"):
        libproc.parse_arguments(b"\1")


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

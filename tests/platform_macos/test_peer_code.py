"""What a process of macOS runs: code that is not its own, its publisher, the script that its command line names."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peer_lab import CHILD, HARDENED, OURS, PID, THEIRS, UNIX, VERSION, Lab, peer_lab, token

from keychain_auth.native.foundation import Pool, constant
from keychain_auth.platform.macos import libproc
from keychain_auth.platform.macos.code_signature import team_of
from keychain_auth.platform.macos.peer import is_protected


@pytest.fixture
def lab(macos: Any, tmp_path: Path) -> Iterator[Lab]:
    with peer_lab(macos, tmp_path) as made:
        yield made


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

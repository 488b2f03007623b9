"""Libraries beside a program, and in front of what it looks up: what is loaded is part of who it is.

A program loads from its own folder first. The attack puts a changed copy of Python's own library there: it runs the
attacker's code, and the executable is the one that a person approved, byte for byte.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

if sys.platform != "win32":
    pytest.skip("loaded modules are looked at by Windows' own calls (tests/windows runs this)", allow_module_level=True)

from pipe_lab import PATIENCE, PYTHON, Home

from keychain_auth.identity.facts import Code, FileFacts, FileKey
from keychain_auth.platform.base import PeerGone
from keychain_auth.platform.windows import modules
from keychain_auth.platform.windows.openfile import file_key
from keychain_auth.platform.windows.peer import Host, WindowsPeer
from keychain_auth.platform.windows.place import LOCAL_FILESYSTEMS, windows_own
from keychain_auth.platform.windows.process import Process

_CORE = f"python3{sys.version_info.minor}.dll"
_REQUEST = b'{"type":"REQUEST","action":"check","service":"svc"}\n'
_CHECK = 'print(client.check("svc"))'
_REFUSED = "IdentityNotVerified Daemon rejected request: identity_not_verified"
# What its code says of itself where it was changed: as long as the other word, and Python prints it.
_HONEST, _EVIL = b"win32\0", b"evil!\0"

_UNDER_WINE = hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")

needs_windows_own = pytest.mark.skipif(
    not windows_own(), reason="this user can change Windows' own files, so nobody's can be told apart"
)


def plant(folder: str, mark: bytes = _EVIL) -> Path:
    """Python's library with the attacker's change, where the program in ``folder`` looks first."""
    planted = Path(folder) / _CORE
    planted.write_bytes(Path(PYTHON, _CORE).read_bytes().replace(_HONEST, mark))
    return planted


def raw_request(home: Home) -> str:
    """Code that asks without any library of ours: what it prints is the answer's line."""
    return f"pipe = open({home.pipe!r}, 'r+b', 0); pipe.write({_REQUEST!r}); print(pipe.readline().decode())"


def naive(process: Process, path: str, sha256: str) -> bool:
    """A broker that looks at the executable alone: its path, and its content."""
    found = process.image_path()
    return found == path and hashlib.sha256(Path(found).read_bytes()).hexdigest() == sha256


@needs_windows_own
def test_a_planted_library_wins_against_a_naive_broker_and_loses_against_ours(shared: Home) -> None:
    program = shared.program("planted")
    shared.register(program)
    shared.cli("authorize", program, "svc", "--read", "--write", "--search")
    assert shared.ask(program, _CHECK) == "None"
    approved = hashlib.sha256(Path(program).read_bytes()).hexdigest()

    planted = plant(os.path.dirname(program))
    with shared.running(program, "print(sys.platform)") as (pid, says), contextlib.closing(Process(pid)) as process:
        assert says == "evil!"  # it is the attacker's code that runs
        assert naive(process, program, approved)

    assert f"beside it lies {planted.name}: if it loads" in shared.cli("register", program)

    raw = raw_request(shared)
    assert '"identity_not_verified"' in shared.run(program, raw)
    refused = next(line for line in reversed(shared.audit()) if line["reason"] == "identity_not_verified")
    assert str(planted) in refused["detail"]

    shared.register(program, "--library", str(planted))  # a person who wants that one says so
    assert '"success"' in shared.run(program, raw)
    plant(os.path.dirname(program), b"EVIL!\0")  # and another in its place is not that one
    assert '"identity_not_verified"' in shared.run(program, raw)


@needs_windows_own
def test_expected_open_under_wine_a_listed_library_put_in_the_place_of_the_loaded_one(shared: Home) -> None:
    """Wine goes on naming the place where the loaded file was; of Windows we believe that the name follows the file."""
    program = shared.program("swapped")
    honest = plant(os.path.dirname(program), _HONEST)
    shared.register(program)  # with that library
    shared.cli("authorize", program, "svc", "--read", "--write", "--search")

    evil = plant(os.path.dirname(program))
    code = f"import sys; print(sys.platform, flush=True); sys.stdin.readline(); {raw_request(shared)}"
    with subprocess.Popen(
        [program, "-c", code], env=shared.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "evil!"
        evil.rename(evil.with_name("loaded.dll"))
        assert plant(os.path.dirname(program), _HONEST) == honest
        answer, _ = process.communicate("go\n", timeout=PATIENCE)
    assert ('"success"' if _UNDER_WINE else '"identity_not_verified"') in answer


@needs_windows_own
def test_code_that_comes_from_no_file_must_be_allowed(shared: Home) -> None:
    program = shared.program("maker")
    shared.register(program)
    shared.cli("authorize", program, "svc", "--read", "--write", "--search")
    assert shared.ask(program, _CHECK) == "None"
    shared.cli("register", program, "--no-executable-memory")
    making = f"import ctypes; ctypes.windll.kernel32.VirtualAlloc(None, 4096, 0x3000, 0x40); {_CHECK}"
    assert shared.ask(program, making) == _REFUSED


@needs_windows_own
def test_what_a_process_has_loaded_by_the_word_of_the_kernel(shared: Home, tmp_path: Path) -> None:
    """Its own list of modules lies in its own memory, and is not asked."""
    program = shared.program("loader")
    beside = tmp_path / "beside.dll"
    shutil.copy(os.path.join(PYTHON, "python3.dll"), beside)
    looker = modules.Modules(LOCAL_FILESYSTEMS)
    loading = f"import ctypes; ctypes.WinDLL({str(beside)!r}); print()"
    with shared.running(program, loading) as (pid, _), contextlib.closing(Process(pid)) as process:
        code = looker.code_of(process.handle(), file_key(os.stat(program)))
        assert code.program
        names = {os.path.basename(file.path) for file in code.files}
        assert {"beside.dll"} <= names
        assert not {"ntdll.dll", "kernel32.dll"} & names
        (found,) = (file for file in code.files if file.path.endswith("beside.dll"))
        about = os.stat(beside)
        assert (found.path, found.device, found.inode) == (os.path.realpath(beside), (about.st_dev, 0), about.st_ino)
        assert not looker.code_of(process.handle(), FileKey(0, 0, 0, 0, 0)).program


@needs_windows_own
def test_what_cannot_be_looked_into_is_refused_or_must_be_allowed() -> None:
    """With higher rights than ours it cannot, and with the same rights it has forbidden it."""
    host = Host()
    program = FileFacts(r"C:\tool.exe", FileKey(1, 2, 3, 4, 5), "NTFS")

    def closed(integrity: int) -> WindowsPeer:
        process: Any = SimpleNamespace(pid=1, uid=1, start_time=1, is_open=False, integrity=integrity)
        return WindowsPeer(process, host, lambda: True)

    assert closed(host.integrity + 1)._code(program) == Code(program=True, in_memory=True)
    with pytest.raises(PeerGone, match="does not let its own user look"):
        closed(host.integrity)._code(program)


def test_names_of_the_kernel_are_opened_as_such() -> None:
    device = "\\Device\\HarddiskVolume3\\Windows\\System32\\ntdll.dll"
    assert modules.openable(device) == f"\\\\?\\GLOBALROOT{device}"
    assert modules.openable("\\??\\C:\\x.dll") == "\\\\?\\C:\\x.dll"
    gone = modules.file_of("\\Device\\HarddiskVolume99\\x.dll")
    assert (gone.path, gone.inode) == ("\\Device\\HarddiskVolume99\\x.dll", 0)

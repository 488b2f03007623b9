"""Who may do what with pipes, folders and files: read back from Windows, and asked of AccessCheck."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "win32":
    pytest.skip("security descriptors are a part of Windows (tests/windows runs this)", allow_module_level=True)

from ctypes import wintypes

import win32api
import win32con
import win32file
import win32security
from pipe_lab import Home

from keychain_auth import files
from keychain_auth.errors import DaemonAlreadyRunning, UnsafeFile
from keychain_auth.oslayer import security, system
from keychain_auth.platform.windows import listener as listening
from keychain_auth.platform.windows.listener import PipeListener
from keychain_auth.platform.windows.peer import Host
from keychain_auth.platform.windows.readiness import Readiness

_STRANGER = "S-1-5-21-1-2-3-1001"
_EVERYBODY = "S-1-1-0"
_CONNECTS = 0x0012019F  # FILE_GENERIC_READ | FILE_GENERIC_WRITE: what a client asks for


def allows(descriptor: Any, token: Any) -> bool:
    """Would Windows let the holder of ``token`` open this to read and write? (AccessCheck)"""
    may = win32security.DuplicateTokenEx(
        token, win32security.SecurityIdentification, win32con.MAXIMUM_ALLOWED, win32security.TokenImpersonation
    )
    mapping = (wintypes.DWORD * 4)(0x120089, 0x120116, 0x1200A0, 0x1F01FF)
    room, size = ctypes.create_string_buffer(1024), wintypes.DWORD(1024)
    granted, status = wintypes.DWORD(), wintypes.BOOL()
    check = ctypes.WinDLL("advapi32", use_last_error=True).AccessCheck
    check.argtypes = (ctypes.c_char_p, wintypes.HANDLE, wintypes.DWORD, *(ctypes.c_void_p,) * 5)
    asked = check(
        bytes(memoryview(descriptor)), int(may), _CONNECTS, mapping, room, ctypes.byref(size), ctypes.byref(granted),
        ctypes.byref(status),
    )  # fmt: skip
    assert asked, ctypes.get_last_error()
    return bool(status.value)


def own_token() -> Any:
    return win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32con.MAXIMUM_ALLOWED)


def full_descriptor(handle: Any) -> Any:
    what = win32security.OWNER_SECURITY_INFORMATION | win32security.GROUP_SECURITY_INFORMATION
    return win32security.GetSecurityInfo(
        handle, win32security.SE_KERNEL_OBJECT, what | win32security.DACL_SECURITY_INFORMATION
    )


def entries(descriptor: Any) -> list[tuple[int, str]]:
    acl = descriptor.GetSecurityDescriptorDacl()
    return [(acl.GetAce(number)[1], security.sid_text(acl.GetAce(number)[2])) for number in range(acl.GetAceCount())]


def test_the_pipe_lets_in_this_user_and_nobody_else(shared: Home) -> None:
    me = security.sid_text(security.own_sid())
    for name in (shared.pipe, f"{shared.pipe}-admin"):
        handle = win32file.CreateFile(name, win32con.GENERIC_READ, 0, None, win32con.OPEN_EXISTING, 0, None)
        descriptor = full_descriptor(handle)
        assert security.owner(descriptor) == me
        assert [who for _, who in entries(descriptor)] == [me]
        control, _ = descriptor.GetSecurityDescriptorControl()
        assert control & win32security.SE_DACL_PROTECTED
        assert allows(descriptor, own_token())
        handle.Close()


def test_access_check_says_no_where_another_user_is_named() -> None:
    """That the check above can fail: the same list, for somebody else."""
    mine = security.only_for(security.own_sid()).SECURITY_DESCRIPTOR
    others = security.only_for(win32security.ConvertStringSidToSid(_STRANGER)).SECURITY_DESCRIPTOR
    others.SetSecurityDescriptorOwner(win32security.ConvertStringSidToSid(_STRANGER), False)
    for descriptor in (mine, others):
        descriptor.SetSecurityDescriptorGroup(win32security.ConvertStringSidToSid(_STRANGER), False)
    assert allows(mine, own_token())
    assert not allows(others, own_token())


def test_what_was_asked_for_when_the_pipe_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wine enforces neither flag, so what is asked of Windows is looked at: first instance, no remote clients."""
    asked: list[tuple[int, int]] = []
    make = listening.win32pipe.CreateNamedPipe

    def made(name: str, opening: int, mode: int, *rest: Any) -> Any:
        asked.append((opening, mode))
        return make(name, opening, mode, *rest)

    monkeypatch.setattr(listening.win32pipe, "CreateNamedPipe", made)
    readiness = Readiness()
    listener = PipeListener(rf"\\.\pipe\keychain-auth-flags-{os.getpid()}", readiness, Host())
    listener.close()
    readiness.close()
    first, others = asked[0], asked[1:]
    assert first[0] & 0x00080000  # FILE_FLAG_FIRST_PIPE_INSTANCE
    assert others and not any(opening & 0x00080000 for opening, _ in others)
    assert all(mode & 0x8 for _, mode in asked)  # PIPE_REJECT_REMOTE_CLIENTS
    assert all(opening & win32con.FILE_FLAG_OVERLAPPED for opening, _ in asked)


def test_a_second_daemon_on_the_same_pipe_is_refused(shared: Home) -> None:
    assert shared.daemon is not None
    readiness = Readiness()
    with pytest.raises(DaemonAlreadyRunning, match="already listens on") as refused:
        PipeListener(shared.pipe, readiness, Host())
    assert refused.value.pid == shared.daemon.pid
    readiness.close()


def test_folders_and_files_of_the_daemon_are_private(shared: Home) -> None:
    trusted = {security.sid_text(security.own_sid()), *security.ROOT}
    for folder in (shared.data, shared.config):  # what is made in them inherits this list; but not under Wine
        descriptor = security.of_file(str(folder))
        assert not security.others_who_enter(descriptor), entries(descriptor)
    for path in (shared.data / "vault.db", shared.data / "vault.key", shared.data / "audit.log"):
        assert security.writers(security.of_file(str(path))) <= trusted, path


def grant(path: Path, sid: str) -> None:
    """Let ``sid`` write the file."""
    acl = security.of_file(str(path)).GetSecurityDescriptorDacl()
    everything = 0x1F01FF
    acl.AddAccessAllowedAce(win32security.ACL_REVISION_DS, everything, win32security.ConvertStringSidToSid(sid))
    what = win32security.DACL_SECURITY_INFORMATION
    win32security.SetNamedSecurityInfo(str(path), win32security.SE_FILE_OBJECT, what, None, None, acl, None)


def test_a_file_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    files.replace(str(path), b"{}")
    assert files.read_private(str(path)) == b"{}"
    grant(path, _EVERYBODY)
    with pytest.raises(UnsafeFile, match="can be written by other users") as refused:
        files.read_private(str(path))
    assert "icacls" in refused.value.hint


def test_a_folder_that_others_may_write_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    grant(folder, _EVERYBODY)
    assert security.others_who_write(security.of_file(str(folder)))
    files.make_private_dir(str(folder))
    assert not security.others_who_write(security.of_file(str(folder)))


def test_a_list_that_names_nobody_is_judged_as_everybody() -> None:
    descriptor = security.only_for(security.own_sid()).SECURITY_DESCRIPTOR
    descriptor.SetSecurityDescriptorDacl(True, None, False)
    assert security.writers(descriptor) == {"*"}


def test_a_file_is_locked_by_one_and_moved_while_it_is_open(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    first = system.open_file(path, os.O_RDWR | os.O_CREAT)
    second = system.open_file(path, os.O_RDWR)
    assert system.try_lock(first) and not system.try_lock(second)
    os.write(first, b"content")
    system.move(path, f"{path}.moved")
    assert system.pread(second, 100, 0) == b"content"
    os.close(first)
    assert system.try_lock(second)
    os.close(second)

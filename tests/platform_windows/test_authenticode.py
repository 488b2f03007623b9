"""Who signed a program, by Windows' word: programs that ``tests/windows/signing.py`` has signed, on this machine."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

if sys.platform != "win32":
    pytest.skip("Authenticode is a part of Windows (tests/windows runs this)", allow_module_level=True)

import winreg
from ctypes import wintypes

from pipe_lab import Home

_SIGNED = Path(__file__).parent / "signed"
_CONTOSO = 'CN=Contoso, O="Contoso, Ltd."'
_NOBODY = ("", "")
_CHECK = 'print(client.check("svc"))'
_REFUSED = "IdentityNotVerified Daemon rejected request: identity_not_verified"
_OF_THE_USER, _OF_THE_MACHINE = 1 << 16, 2 << 16  # CERT_SYSTEM_STORE_CURRENT_USER, CERT_SYSTEM_STORE_LOCAL_MACHINE
_X509 = 0x00010001
_SYSTEM_STORE, _REPLACE = 10, 3  # CERT_STORE_PROV_SYSTEM_W, CERT_STORE_ADD_REPLACE_EXISTING
_CERTIFICATES = r"Software\Microsoft\SystemCertificates\Root\Certificates"
# In a process of its own: crypt32 reads the stores once. The naive answer is WinVerifyTrust's alone.
_ASK = """
import json, msvcrt, os, sys
from keychain_auth.platform.windows import authenticode
from keychain_auth.platform.windows.openfile import open_unwritten
for path in sys.argv[1:]:
    fd = open_unwritten(path)
    with authenticode._verified(msvcrt.get_osfhandle(fd), path) as state:
        naive = state is not None
    os.close(fd)
    print(json.dumps([naive, *authenticode.publisher_of_file(path)]))
"""
pytestmark = pytest.mark.skipif(
    not (_SIGNED / "signed.exe").exists(), reason="no program was signed for this (osslsigncode is missing, or Wine is)"
)
_crypt = ctypes.WinDLL("crypt32", use_last_error=True)
_crypt.CertOpenStore.argtypes = (ctypes.c_void_p, wintypes.DWORD, ctypes.c_void_p, wintypes.DWORD, ctypes.c_wchar_p)
_crypt.CertOpenStore.restype = ctypes.c_void_p
_crypt.CertCloseStore.argtypes = (ctypes.c_void_p, wintypes.DWORD)
_crypt.CertAddEncodedCertificateToStore.argtypes = (
    ctypes.c_void_p, wintypes.DWORD, ctypes.c_char_p, wintypes.DWORD, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p),
)  # fmt: skip


@contextmanager
def trusting(whose: int) -> Iterator[None]:
    """The root of the signed programs in a store of the user or the machine."""
    root = (_SIGNED / "root.der").read_bytes()
    store = _crypt.CertOpenStore(_SYSTEM_STORE, 0, None, whose, "Root")
    assert store, ctypes.get_last_error()
    assert _crypt.CertAddEncodedCertificateToStore(store, _X509, root, len(root), _REPLACE, None)
    _crypt.CertCloseStore(store, 0)  # until then, others do not see it
    try:
        yield
    finally:  # (Wine keeps it when it is deleted by crypt32)
        hive = winreg.HKEY_CURRENT_USER if whose == _OF_THE_USER else winreg.HKEY_LOCAL_MACHINE
        winreg.DeleteKey(hive, rf"{_CERTIFICATES}\{hashlib.sha1(root).hexdigest().upper()}")  # noqa: S324 - its name


def ask(*names: str) -> dict[str, tuple[bool, tuple[str, str]]]:
    """For each program: what WinVerifyTrust alone would say, and who signed it."""
    paths = [os.path.realpath(_SIGNED / f"{name}.exe") for name in names]
    done = subprocess.run([sys.executable, "-c", _ASK, *paths], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        name: (naive, (subject, certificate)) for name, (naive, subject, certificate) in zip(names, found, strict=True)
    }


def certificate(name: str) -> str:
    return f"sha256:{hashlib.sha256((_SIGNED / f'{name}.der').read_bytes()).hexdigest()}"


def test_only_what_a_root_of_the_machine_vouches_for_has_a_publisher(tmp_path: Path) -> None:
    shutil.copy(sys.executable, _SIGNED / "unsigned.exe")
    with trusting(_OF_THE_MACHINE):
        found = ask("signed", "altered", "unsigned", "server")
    assert found["signed"] == (True, (_CONTOSO, certificate("signed")))
    assert found["altered"] == found["unsigned"] == (False, _NOBODY)
    assert found["server"][1] == _NOBODY  # the certificate is good, but not for code


def test_a_root_that_this_user_trusts_wins_against_a_naive_look_and_loses_against_ours() -> None:
    """Any program of the user can put one there, and with it sign in whoever's name."""
    with trusting(_OF_THE_USER):
        assert ask("signed") == {"signed": (True, _NOBODY)}


def test_a_publisher_is_asked_for(home: Home) -> None:
    signed, unsigned = home.program("signed"), home.program("unsigned")
    shutil.copy(_SIGNED / "signed.exe", signed)
    with trusting(_OF_THE_MACHINE):
        home.start()
        home.register(signed, "--publisher", _CONTOSO)
        home.cli("authorize", signed, "svc", "--read", "--write", "--search")
        assert home.ask(signed, _CHECK) == "None"
        home.register(signed, "--publisher", "CN=Contoso")
        assert home.ask(signed, _CHECK) == _REFUSED
        assert f"{_CONTOSO} {certificate('signed')}" in home.audit()[-1]["detail"]
        home.register(unsigned, "--publisher", _CONTOSO)
        home.cli("authorize", unsigned, "svc", "--read", "--write", "--search")
        assert home.ask(unsigned, _CHECK) == _REFUSED
        assert "nobody that this system vouches for" in home.audit()[-1]["detail"]

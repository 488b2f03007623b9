"""Who signed a program, by Windows' word: Authenticode, asked about the very file that is open.

Contract: ``publisher_of`` is WinVerifyTrust of the handle (what the file holds is what was signed), and of the first
signature the certificate, if its chain is good for signing code and leads to a root of this *machine*: subject and
SHA-256. Nobody where it is not signed, was altered, or by a certificate that only this user trusts: any program of the
user can put a root of its own into the user's store ("Root" of HKEY_CURRENT_USER), and sign validly with that.

No network is asked. A certificate counts as revoked if this machine knows so already; that it does not know is no
fault. A signature with a time stamp is judged at its time, as Windows does.

What it does not promise: anything about signatures that lie in a catalog and not in the file (as those of most of
Windows' own programs); nor that whoever got a certificate with that subject is who you think: its SHA-256 is surer.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import ctypes
import hashlib
import msvcrt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import wintypes
from typing import NamedTuple

from keychain_auth.platform.windows.openfile import open_unwritten

_VERIFY_V2 = (0x00AAC56B, 0xCD44, 0x11D0, (0x8C, 0xC2, 0x00, 0xC0, 0x4F, 0xC2, 0x95, 0xEE))
_NO_WINDOW = wintypes.HANDLE(-1)
_UI_NONE, _CHOICE_FILE, _STATE_VERIFY, _STATE_CLOSE = 2, 1, 1, 2
_FROM_CACHE = 0x10 | 0x1000  # WTD_REVOCATION_CHECK_NONE, WTD_CACHE_ONLY_URL_RETRIEVAL
_OF_THE_MACHINE = 1  # HCCE_LOCAL_MACHINE
_SIGNS_CODE = b"1.3.6.1.5.5.7.3.3"  # szOID_PKIX_KP_CODE_SIGNING
_POLICY_AUTHENTICODE = 2
# CERT_CHAIN_CACHE_ONLY_URL_RETRIEVAL, REVOCATION_CHECK_CHAIN_EXCLUDE_ROOT, REVOCATION_CHECK_CACHE_ONLY
_CHAIN_FLAGS = 0x4 | 0x40000000 | 0x80000000
_UNKNOWN_REVOCATION = 0x40 | 0x1000000  # CERT_TRUST_REVOCATION_STATUS_UNKNOWN, IS_OFFLINE_REVOCATION
_X500_REVERSED = 3 | 0x02000000  # as .NET and PowerShell write a subject
_LONGEST_SUBJECT = 4096


class Publisher(NamedTuple):
    """Subject of the certificate ("CN=Contoso, O=Contoso, C=CH"), and "sha256:…" of it. Empty: nobody."""

    subject: str = ""
    certificate: str = ""


NOBODY = Publisher()


def _structure(name: str, **fields: object) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": tuple(fields.items())})


_Guid = _structure("GUID", a=wintypes.DWORD, b=wintypes.WORD, c=wintypes.WORD, d=ctypes.c_ubyte * 8)
_File = _structure(
    "WINTRUST_FILE_INFO", size=wintypes.DWORD, path=wintypes.LPCWSTR, file=wintypes.HANDLE, subject=ctypes.c_void_p
)
_Trust = _structure(
    "WINTRUST_DATA", size=wintypes.DWORD, policy=ctypes.c_void_p, sip=ctypes.c_void_p, ui=wintypes.DWORD,
    revocation=wintypes.DWORD, choice=wintypes.DWORD, file=ctypes.c_void_p, action=wintypes.DWORD,
    state=wintypes.HANDLE, url=ctypes.c_void_p, flags=wintypes.DWORD, context=wintypes.DWORD, settings=ctypes.c_void_p,
)  # fmt: skip
# The beginning of each; what follows is not looked at.
_Signer = _structure("CRYPT_PROVIDER_SGNR", size=wintypes.DWORD, verified_as_of=wintypes.FILETIME)
_ProviderCert = _structure("CRYPT_PROVIDER_CERT", size=wintypes.DWORD, cert=ctypes.c_void_p)
_Cert = _structure(
    "CERT_CONTEXT", encoding=wintypes.DWORD, encoded=ctypes.c_void_p, length=wintypes.DWORD, info=ctypes.c_void_p,
    store=ctypes.c_void_p,
)  # fmt: skip
_Chain = _structure("CERT_CHAIN_CONTEXT", size=wintypes.DWORD, error=wintypes.DWORD, about=wintypes.DWORD)
_Uses = _structure("CTL_USAGE", count=wintypes.DWORD, names=ctypes.POINTER(ctypes.c_char_p))
_UseMatch = _structure("CERT_USAGE_MATCH", match=wintypes.DWORD, uses=_Uses)
_ChainWanted = _structure("CERT_CHAIN_PARA", size=wintypes.DWORD, requested=_UseMatch)
_PolicyWanted = _structure("CERT_CHAIN_POLICY_PARA", size=wintypes.DWORD, flags=wintypes.DWORD, more=ctypes.c_void_p)
_PolicyFound = _structure(
    "CERT_CHAIN_POLICY_STATUS", size=wintypes.DWORD, error=wintypes.DWORD, chain=wintypes.LONG, element=wintypes.LONG,
    more=ctypes.c_void_p,
)  # fmt: skip

_wintrust = ctypes.WinDLL("wintrust")
_wintrust.WinVerifyTrust.argtypes = (wintypes.HANDLE, ctypes.c_void_p, ctypes.c_void_p)
_wintrust.WinVerifyTrust.restype = wintypes.LONG
_wintrust.WTHelperProvDataFromStateData.argtypes = (wintypes.HANDLE,)
_wintrust.WTHelperProvDataFromStateData.restype = ctypes.c_void_p
_wintrust.WTHelperGetProvSignerFromChain.argtypes = (ctypes.c_void_p, wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
_wintrust.WTHelperGetProvSignerFromChain.restype = ctypes.POINTER(_Signer)
_wintrust.WTHelperGetProvCertFromChain.argtypes = (ctypes.c_void_p, wintypes.DWORD)
_wintrust.WTHelperGetProvCertFromChain.restype = ctypes.POINTER(_ProviderCert)
_crypt = ctypes.WinDLL("crypt32")
_crypt.CertGetCertificateChain.argtypes = (
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, wintypes.DWORD,
    ctypes.c_void_p, ctypes.POINTER(ctypes.POINTER(_Chain)),
)  # fmt: skip
_crypt.CertFreeCertificateChain.argtypes = (ctypes.c_void_p,)
_crypt.CertFreeCertificateChain.restype = None
_crypt.CertVerifyCertificateChainPolicy.argtypes = (ctypes.c_void_p,) * 4
_crypt.CertGetNameStringW.argtypes = (
    ctypes.c_void_p, wintypes.DWORD, wintypes.DWORD, ctypes.c_void_p, wintypes.LPWSTR, wintypes.DWORD,
)  # fmt: skip


def publisher_of(file: int, path: str) -> Publisher:
    """Who signed the open ``file`` (a handle that lets nobody write), which lies at ``path``. Reads all of it."""
    with _verified(file, path) as state:
        if state is None:
            return NOBODY
        data = _wintrust.WTHelperProvDataFromStateData(state)
        signer = data and _wintrust.WTHelperGetProvSignerFromChain(data, 0, False, 0)
        found = signer and _wintrust.WTHelperGetProvCertFromChain(signer, 0)
        if not found or not found.contents.cert:
            return NOBODY
        cert = found.contents.cert
        if not _leads_to_this_machine(cert, signer.contents.verified_as_of):
            return NOBODY
        return Publisher(_subject(cert), f"sha256:{hashlib.sha256(_encoded(cert)).hexdigest()}")


@contextmanager
def _verified(file: int, path: str) -> Iterator[int | None]:
    """The state of a verification that succeeded, None of one that did not."""
    about = _File(size=ctypes.sizeof(_File), path=path, file=file)
    trust = _Trust(
        size=ctypes.sizeof(_Trust), ui=_UI_NONE, choice=_CHOICE_FILE, file=ctypes.addressof(about),
        action=_STATE_VERIFY, flags=_FROM_CACHE,
    )  # fmt: skip
    how = _Guid(*_VERIFY_V2[:3], (ctypes.c_ubyte * 8)(*_VERIFY_V2[3]))
    status = _wintrust.WinVerifyTrust(_NO_WINDOW, ctypes.byref(how), ctypes.byref(trust))
    try:
        yield trust.state if status == 0 else None
    finally:
        trust.action = _STATE_CLOSE
        _wintrust.WinVerifyTrust(_NO_WINDOW, ctypes.byref(how), ctypes.byref(trust))


def _leads_to_this_machine(cert: int, when: wintypes.FILETIME) -> bool:
    """Is the chain good for signing code, up to a root that is in the machine's own store?"""
    uses = _Uses(count=1, names=(ctypes.c_char_p * 1)(_SIGNS_CODE))
    wanted = _ChainWanted(size=ctypes.sizeof(_ChainWanted), requested=_UseMatch(match=0, uses=uses))
    chain = ctypes.POINTER(_Chain)()
    store = ctypes.cast(cert, ctypes.POINTER(_Cert)).contents.store  # the others that came with the signature
    if not _crypt.CertGetCertificateChain(
        _OF_THE_MACHINE, cert, ctypes.byref(when), store, ctypes.byref(wanted), _CHAIN_FLAGS, None, ctypes.byref(chain)
    ):
        return False
    try:
        if chain.contents.error & ~_UNKNOWN_REVOCATION:
            return False
        # The policy looks at the same chain; what it cannot know about revocation was judged above.
        policy = _PolicyWanted(size=ctypes.sizeof(_PolicyWanted), flags=0xF00)  # CERT_CHAIN_POLICY_IGNORE_…_REV_UNKNOWN
        found = _PolicyFound(size=ctypes.sizeof(_PolicyFound))
        asked = _crypt.CertVerifyCertificateChainPolicy(
            _POLICY_AUTHENTICODE, chain, ctypes.byref(policy), ctypes.byref(found)
        )
        return bool(asked) and found.error == 0
    finally:
        _crypt.CertFreeCertificateChain(chain)


def _subject(cert: int) -> str:
    text = ctypes.create_unicode_buffer(_LONGEST_SUBJECT)
    form = wintypes.DWORD(_X500_REVERSED)
    size = _crypt.CertGetNameStringW(cert, 2, 0, ctypes.byref(form), text, len(text))  # CERT_NAME_RDN_TYPE
    return "".join(text[: size - 1])


def _encoded(cert: int) -> bytes:
    context = ctypes.cast(cert, ctypes.POINTER(_Cert)).contents
    return ctypes.string_at(context.encoded, context.length)


def publisher_of_file(path: str) -> Publisher:
    """``publisher_of`` the file at a real path; nobody if it cannot be opened while nobody writes it."""
    try:
        fd = open_unwritten(path)
    except OSError:
        return NOBODY
    try:
        return publisher_of(msvcrt.get_osfhandle(fd), path)
    finally:
        os.close(fd)

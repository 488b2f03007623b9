"""Whose code a process runs: Apple's code signature, asked of the running process and not of a file.

Contract: ``team_of`` is SecCodeCopyGuestWithAttributes with the audit token, SecCodeCheckValidity of what that is (the
code on the disk is what was signed, the running one is that, and the certificate leads to Apple), and the team
identifier. "" where it is not signed, not validly, or by no team (ad hoc). Anybody can make a certificate of his own
that names any team, and sign validly with it: hence the requirement. Raises OSError where the frameworks cannot be
loaded.

What it does not promise: anything about what the team's program does, or loads without library validation.

Not verified on hardware (docs/platforms.md).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from keychain_auth.native import library
from keychain_auth.native.foundation import Pool, constant

_SIGNING_INFORMATION = 2  # kSecCSSigningInformation
_OF_APPLE = "anchor apple generic"  # "Code Signing Requirement Language": the certificates lead to Apple


class _Calls(NamedTuple):
    guest: Callable[..., int]
    check: Callable[..., int]
    information: Callable[..., int]
    requirement: Callable[..., int]
    audit: int
    team: int


@cache
def _calls() -> _Calls:
    security = library.framework("Security")
    status, address, flags = ctypes.c_int32, ctypes.c_void_p, ctypes.c_uint32
    return _Calls(
        guest=library.bind(security, "SecCodeCopyGuestWithAttributes", status, address, address, flags, address),
        check=library.bind(security, "SecCodeCheckValidity", status, address, flags, address),
        information=library.bind(security, "SecCodeCopySigningInformation", status, address, flags, address),
        requirement=library.bind(security, "SecRequirementCreateWithString", status, address, flags, address),
        audit=constant(security, "kSecGuestAttributeAudit"),
        team=constant(security, "kSecCodeInfoTeamIdentifier"),
    )


def team_of(token: bytes) -> str:
    """The team identifier of the program that the process named by the audit ``token`` runs, "" if none vouches."""
    calls = _calls()
    with Pool() as pool:
        code, information, requirement = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        if calls.requirement(pool.text(_OF_APPLE), 0, ctypes.byref(requirement)) != 0:
            return ""
        wanted_chain = pool.own(requirement.value)
        wanted = pool.table({calls.audit: pool.data(token)})
        if calls.guest(None, wanted, 0, ctypes.byref(code)) != 0:
            return ""
        running = pool.own(code.value)
        if calls.check(running, 0, wanted_chain) != 0:
            return ""
        if calls.information(running, _SIGNING_INFORMATION, ctypes.byref(information)) != 0:
            return ""
        return pool.text_of(pool.item(pool.own(information.value), calls.team)) or ""

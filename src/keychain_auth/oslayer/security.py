"""What Windows has in place of mode bits: who owns a thing, and who may do what with it (security descriptors).

Contract: a descriptor made here gives everything to this user, to nobody else what it does not name, and inherits
nothing from above (a protected DACL). What is read back is judged by the trustees that could change the thing:

* this user, and SYSTEM, Administrators and TrustedInstaller, who are Windows' root: they may take what they like;
* anybody else who may write, append, delete, or change owner or list: then it is not private.

What it does not promise: anything about an administrator, or about other programs of the same user.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # for type checkers, which look at this file as on Windows; nobody else imports it

import functools
from typing import Any

import ntsecuritycon
import pywintypes
import win32api
import win32con
import win32security

_SYSTEM = "S-1-5-18"
_ADMINISTRATORS = "S-1-5-32-544"
_TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
_CREATOR_OWNER = "S-1-3-0"  # stands for whoever makes a thing in the folder: it becomes that one's own
ROOT = frozenset((_SYSTEM, _ADMINISTRATORS, _TRUSTED_INSTALLER))

_CHANGES = (
    ntsecuritycon.FILE_WRITE_DATA | ntsecuritycon.FILE_APPEND_DATA | ntsecuritycon.FILE_DELETE_CHILD
    | ntsecuritycon.DELETE | ntsecuritycon.WRITE_DAC | ntsecuritycon.WRITE_OWNER
    | win32con.GENERIC_WRITE | win32con.GENERIC_ALL
)  # fmt: skip
# What lets somebody exchange what lies in a folder. To add to it is not enough.
_EXCHANGES = (
    ntsecuritycon.FILE_DELETE_CHILD | ntsecuritycon.DELETE | ntsecuritycon.WRITE_DAC | ntsecuritycon.WRITE_OWNER
    | win32con.GENERIC_ALL
)  # fmt: skip
_ALLOWED = (win32security.ACCESS_ALLOWED_ACE_TYPE, win32security.ACCESS_ALLOWED_OBJECT_ACE_TYPE)
_INHERIT_ONLY = ntsecuritycon.INHERIT_ONLY_ACE
KERNEL_OBJECT = win32security.SE_KERNEL_OBJECT
_WHO_AND_WHAT = win32security.OWNER_SECURITY_INFORMATION | win32security.DACL_SECURITY_INFORMATION
_PROTECTED_DACL = -0x80000000  # PROTECTED_DACL_SECURITY_INFORMATION, as a C long


def sid_text(sid: Any) -> str:
    """``S-1-5-…``."""
    return str(win32security.ConvertSidToStringSid(sid))


def token_user(token: Any) -> Any:
    """The SID of the user whom a token stands for."""
    return win32security.GetTokenInformation(token, win32security.TokenUser)[0]


@functools.cache
def own_sid() -> Any:
    """This process's user."""
    token = win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32con.TOKEN_QUERY)
    return token_user(token)


def only_for(*sids: Any, inherited_below: bool = False) -> Any:
    """SECURITY_ATTRIBUTES of a new thing that belongs to this user: ``sids`` may do all with it, nobody else anything.

    ``inherited_below``: so may they with all that is made in it (for folders). Handles to it are not inheritable.
    """
    acl = pywintypes.ACL()
    flags = ntsecuritycon.CONTAINER_INHERIT_ACE | ntsecuritycon.OBJECT_INHERIT_ACE if inherited_below else 0
    for sid in sids:
        acl.AddAccessAllowedAceEx(win32security.ACL_REVISION_DS, flags, ntsecuritycon.FILE_ALL_ACCESS, sid)
    descriptor = pywintypes.SECURITY_DESCRIPTOR()
    descriptor.SetSecurityDescriptorOwner(own_sid(), False)
    descriptor.SetSecurityDescriptorDacl(True, acl, False)
    # Or the list of the folder above would be added to ours.
    descriptor.SetSecurityDescriptorControl(win32security.SE_DACL_PROTECTED, win32security.SE_DACL_PROTECTED)
    attributes = pywintypes.SECURITY_ATTRIBUTES()
    attributes.SECURITY_DESCRIPTOR = descriptor
    attributes.bInheritHandle = False
    return attributes


def private_folder() -> Any:
    """SECURITY_ATTRIBUTES of a folder for this user, and for SYSTEM: backups and indexes run as that."""
    return only_for(own_sid(), win32security.ConvertStringSidToSid(_SYSTEM), inherited_below=True)


def of_handle(handle: Any, kind: int = win32security.SE_FILE_OBJECT) -> Any:
    """The security descriptor (owner and DACL) of an open thing. Raises OSError."""
    try:
        return win32security.GetSecurityInfo(handle, kind, _WHO_AND_WHAT)
    except pywintypes.error as error:
        raise OSError(0, error.strerror, None, error.winerror) from None


def of_file(path: str) -> Any:
    """The same of the file or folder at ``path``."""
    try:
        return win32security.GetNamedSecurityInfo(path, win32security.SE_FILE_OBJECT, _WHO_AND_WHAT)
    except pywintypes.error as error:
        raise OSError(0, error.strerror, path, error.winerror) from None


def owner(descriptor: Any) -> str:
    """The SID of its owner, as text; "" if it has none."""
    sid = descriptor.GetSecurityDescriptorOwner()
    return "" if sid is None else sid_text(sid)


def writers(descriptor: Any, *, exchanging: bool = False) -> set[str]:
    """SIDs (as text) of those who could change the thing: the owner, and whom the list allows it. ``*``: everybody.

    ``exchanging``: of a folder, only who could put something else in the place of what lies in it.

    What the list denies is not subtracted: a list that allows too much and denies it again is not worth trusting.
    """
    acl = descriptor.GetSecurityDescriptorDacl()
    if acl is None:  # no list at all: everybody may do everything
        return {"*"}
    wanted = _EXCHANGES if exchanging else _CHANGES
    found = {owner(descriptor)}
    for number in range(acl.GetAceCount()):
        ace = acl.GetAce(number)
        (kind, flags), mask, sid = ace[0], ace[1], ace[-1]
        if kind in _ALLOWED and mask & wanted and not flags & _INHERIT_ONLY:
            found.add(sid_text(sid))
    return found - {_CREATOR_OWNER}


def others_who_enter(descriptor: Any) -> set[str]:
    """SIDs (as text) of those beside this user and Windows' own whom the list allows anything. ``*``: everybody."""
    acl = descriptor.GetSecurityDescriptorDacl()
    if acl is None:
        return {"*"}
    aces = [acl.GetAce(number) for number in range(acl.GetAceCount())]
    named = {sid_text(ace[-1]) for ace in aces if ace[0][0] in _ALLOWED}
    return named - ROOT - {sid_text(own_sid()), _CREATOR_OWNER}


def others_who_write(descriptor: Any) -> set[str]:
    """``writers`` without this user and Windows' own."""
    return writers(descriptor) - ROOT - {sid_text(own_sid())}


def close_to_others(path: str) -> None:
    """Give the file or folder at ``path`` the list of a private folder, and take from it what it inherited."""
    what = win32security.DACL_SECURITY_INFORMATION | _PROTECTED_DACL
    try:
        win32security.SetFileSecurity(path, what, private_folder().SECURITY_DESCRIPTOR)
    except pywintypes.error as error:
        raise OSError(0, error.strerror, path, error.winerror) from None


def name_of(sid: str) -> str:
    """The account's name for people, or the SID itself."""
    try:
        name, domain, _ = win32security.LookupAccountSid(None, win32security.ConvertStringSidToSid(sid))
    except pywintypes.error:
        return sid
    return f"{domain}\\{name}" if domain else str(name)

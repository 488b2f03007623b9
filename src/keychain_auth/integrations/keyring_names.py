"""How names of the keyring library are names here, and whose password is meant where only a service is named.

A name is itself. One that the protocol cannot hold (empty, or with control characters), or that looks like one of
these, is ``%:`` and the name with percent codes: no two names become one.
"""

from __future__ import annotations

from keychain_auth.integrations.base import Helper, Refusal, is_plain

_MARK = "%:"


def encoded(name: str) -> str:
    """The name here."""
    if name and is_plain(name) and not name.startswith(_MARK):
        return name
    return _MARK + "".join(f"%{ord(char):02X}" if char == "%" or not is_plain(char) else char for char in name)


def decoded(name: str) -> str:
    """The name there."""
    if not name.startswith(_MARK):
        return name
    first, *coded = name.removeprefix(_MARK).split("%")
    return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in coded)


def sole_user(helper: Helper, wanted: str) -> str | None:
    """The one target of the service, None if there is none. Raises Refusal if there are several."""
    found = helper.search(wanted)
    if len(found) > 1:
        users = ", ".join(each.target for each in found[:8])
        raise Refusal(wanted, f"several users have one: {users}", "name the user, as in https://USER@HOST/")
    return found[0].target if found else None

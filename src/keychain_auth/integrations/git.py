"""``git-credential-keychain-auth get|store|erase|capability``: passwords and tokens for git (gitcredentials(7)).

A secret of the service ``git`` is named by the address that git asks for, ``PROTOCOL://USER@HOST/PATH``, and its value
is the password. PATH is there only for those who set ``credential.useHttpPath``. What goes with it stands in its
attributes: ``username``, ``password_expiry_utc``, ``authtype``. A refresh token is a secret of its own, at that name
with ``#oauth_refresh_token``.

Contract:
* Protocol, host and path must be exactly those of the secret's name. No suffix of a domain, no other port, no http
  for https. Nothing is searched for but names of this service.
* If several users have a password for one address and git does not say whose, none is answered.
* Values with NUL or a line end are neither taken nor given: the protocol is one of lines, and a second line in a value
  would be a second field (CVE-2020-5260, CVE-2024-52006).
* An expired password is not answered. ``erase`` removes only what git was given: with another password it stays.
* ``store`` of what is there already asks for no permission to write.

What it does not promise: OAuth. It keeps what another helper obtained.
"""

from __future__ import annotations

import time

from keychain_auth.errors import quoted
from keychain_auth.integrations.base import Helper, Refusal, is_plain, read_input, write_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from keychain_auth.wire.answers import Secret, SecretInfo

SERVICE = "git"
_REFRESH = "#oauth_refresh_token"
_CAPABILITIES = "version 0\ncapability authtype\n"
_CODED = "%@/:#?"  # what stands as %XX in the user's part of a name; the percent sign first
_SEPARATORS = frozenset(" %@/#?\\")


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call. Operations that it does not know are ignored, as gitcredentials(7) asks."""
    operation = arguments[0] if len(arguments) == 1 else ""
    if operation == "capability":
        write_output(_CAPABILITIES)
    elif operation in _OPERATIONS:
        _OPERATIONS[operation](helper, parse(read_input()))
    return 0


class Description:
    """What git says about a credential. ``username`` is None where it says nothing; other fields are empty then.

    ``authtypes``: git takes credentials other than a name and a password.
    """

    __slots__ = ("authtypes", "fields", "username")

    def __init__(self, fields: dict[str, str], authtypes: bool) -> None:
        self.fields = fields
        self.username = fields.get("username")
        self.authtypes = authtypes

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    @property
    def address(self) -> str:
        """Protocol and host."""
        return f"{self['protocol']}://{self['host']}"

    @property
    def wanted(self) -> str:
        """In words."""
        return f"the password for {name_of(self, self.username)}"

    @property
    def secret(self) -> str:
        """The password, or what stands in its place."""
        return self["credential"] or self["password"]


def parse(text: str) -> Description:
    """The lines of a request. Raises Refusal for what no address and no password can hold."""
    fields: dict[str, str] = {}
    capable = False
    for line in text.split("\n"):
        if not line:
            break
        name, equals, value = line.partition("=")
        if not equals or not is_plain(value):
            raise Refusal("a password for git", f"the field {name[:40]} holds what a line of git's protocol cannot")
        if name.endswith("[]"):
            capable = capable or (name, value) == ("capability[]", "authtype")
        else:
            fields[name] = value
    described = Description(fields, capable)
    if not described["protocol"] or not (described["host"] or described["path"]):
        raise Refusal("a password for git", "git names no protocol and host")
    # From https://alice%40forge.example/ git makes the host alice@forge.example: the name of alice's secret elsewhere.
    if not _SEPARATORS.isdisjoint(described["host"]) or not described["protocol"].isalnum():
        raise Refusal("a password for git", f"{described['host']} is no name of a host")
    return described


def name_of(described: Description, username: str | None) -> str:
    """The name of the secret for this address and user."""
    user = "" if username is None else _coded(username) + "@"
    return f"{described['protocol']}://{user}{described['host']}{_path(described)}"


def _path(described: Description) -> str:
    return "/" + described["path"].replace("#", "%23") if described["path"] else ""


def _coded(username: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in _CODED else char for char in username)


def decoded(text: str) -> str:
    """A user as it stands in a name, in plain."""
    for char in _CODED[1:]:
        text = text.replace(f"%{ord(char):02X}", char)
    return text.replace("%25", "%")


class Candidate:
    """A secret that may be the one: its name, and the user in it (None if the name has none)."""

    __slots__ = ("target", "username")

    def __init__(self, target: str, username: str | None) -> None:
        self.target = target
        self.username = username

    def owner(self, attributes: dict[str, str]) -> str | None:
        """Whose it is."""
        return self.username if self.username is not None else attributes.get("username")


def _candidate(target: str, described: Description) -> Candidate | None:
    """None if ``target`` names a secret for another address."""
    protocol, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if protocol != described["protocol"] or host != described["host"] or slash + path != _path(described):
        return None
    return Candidate(target, decoded(user) if at else None)


def _candidates(helper: Helper, described: Description, *, usable: bool) -> list[Candidate]:
    """By name alone: where git says whose password it wants, nothing has to be searched.

    ``usable``: leave out what cannot be answered, as far as attributes tell.
    """
    if described.username is not None:
        names = (name_of(described, described.username), name_of(described, None))
        return [Candidate(names[0], described.username), Candidate(names[1], None)]
    found = []
    for info in helper.search(described.wanted):
        candidate = _candidate(info.target, described)
        if candidate is not None and not (usable and not _usable(info, described)):
            found.append(candidate)
    return found


def _read(helper: Helper, described: Description, candidates: list[Candidate]) -> list[tuple[Candidate, Secret, str]]:
    """Those that are there and belong to the user, each with its refresh token (or "")."""
    if not candidates:
        return []
    names = _with_refresh_tokens(each.target for each in candidates)
    secrets = helper.read(names, described.wanted)
    found = []
    for each in candidates:
        secret = secrets.get(each.target)
        if secret is not None and described.username in (None, each.owner(secret.attributes)):
            token = secrets.get(each.target + _REFRESH)
            found.append((each, secret, "" if token is None else token.value))
    return found


def _usable(info: SecretInfo, described: Description) -> bool:
    """Not expired, and of a kind that git can take."""
    expiry = info.attributes.get("password_expiry_utc", "")
    expired = expiry.isascii() and expiry.isdigit() and int(expiry) <= time.time()
    return not expired and (described.authtypes or "authtype" not in info.attributes)


def look_up(helper: Helper, described: Description) -> tuple[Candidate, Secret, str] | None:
    """What is to be answered: whose, the secret, its refresh token (or ""). Raises Refusal if several are meant."""
    candidates = _candidates(helper, described, usable=True)
    if described.username is None and len(candidates) > 1:
        users = ", ".join(sorted(who.username or "(no name)" for who in candidates))
        mend = f"git config --global credential.{described.address}.username USER"
        raise Refusal(described.wanted, f"several users have one: {users}", mend)
    found = (each for each in _read(helper, described, candidates) if _usable(each[1], described))
    return next(found, None)


def _get(helper: Helper, described: Description) -> None:
    if (found := look_up(helper, described)) is not None:
        write_output(_answer(described, *found))


def _answer(described: Description, who: Candidate, secret: Secret, refresh_token: str) -> str:
    lines = [f"protocol={described['protocol']}", f"host={described['host']}"]
    if authtype := secret.attributes.get("authtype"):
        lines = ["capability[]=authtype", *lines, f"authtype={authtype}", f"credential={secret.value}"]
    else:
        if (username := who.owner(secret.attributes)) is not None:
            lines.append(f"username={username}")
        lines.append(f"password={secret.value}")
    if expiry := secret.attributes.get("password_expiry_utc"):
        lines.append(f"password_expiry_utc={expiry}")
    if refresh_token:
        lines.append(f"oauth_refresh_token={refresh_token}")
    if not all(map(is_plain, lines)):
        mend = f"keychain-auth set {SERVICE} {quoted(who.target)}"
        raise Refusal(described.wanted, "it holds control characters, which git's protocol cannot carry", mend)
    return "\n".join(lines) + "\n"


def _store(helper: Helper, described: Description) -> None:
    if not described.secret or described["ephemeral"] in ("1", "true"):
        return
    if described.username is None and not described["authtype"]:
        return
    target = name_of(described, described.username)
    kept = {name: described[name] for name in ("password_expiry_utc", "authtype") if described[name]}
    candidates = [Candidate(target, described.username), Candidate(name_of(described, None), None)]
    for who, secret, token in _read(helper, described, candidates):
        same = secret.value == described.secret and token in (described["oauth_refresh_token"], "")
        if same and (who.target != target or {"username": "", **secret.attributes} == {"username": "", **kept}):
            return  # as it is already, perhaps under the address alone
    values = {target: described.secret}
    if described["oauth_refresh_token"]:
        values[target + _REFRESH] = described["oauth_refresh_token"]
    helper.write(values, kept, f"to keep the password for {target}")


def _erase(helper: Helper, described: Description) -> None:
    found = _read(helper, described, _candidates(helper, described, usable=False))
    gone = [who.target for who, secret, _ in found if described.secret in ("", secret.value)]
    if gone:
        helper.delete(_with_refresh_tokens(gone), f"to forget the password for {', '.join(gone)}")


def _with_refresh_tokens(targets: Iterable[str]) -> list[str]:
    return [name for target in targets for name in (target, target + _REFRESH)]


_OPERATIONS = {"get": _get, "store": _store, "erase": _erase}

"""``docker-credential-keychain-auth store|get|erase|list|version``: what ``docker login`` keeps.

The protocol is that of docker's credential helpers: one word as argument, a server or JSON on standard input. A secret
of the service ``docker`` is named by the server as docker writes it, and has the user in its attribute ``username``.

Contract:
* Three messages are part of the protocol, and docker knows them by their text on standard output: that there is nothing
  for a server, that no server was named, that no user was. Everything else that goes wrong is said on standard error,
  and standard output stays empty.
* Servers are compared exactly.
* ``list`` reads no secret.
"""

from __future__ import annotations

import json

from keychain_auth import __version__
from keychain_auth.errors import EXIT_FAILED
from keychain_auth.integrations.base import Helper, Refusal, is_plain, read_input, write_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SERVICE = "docker"

# Texts of docker-credential-helpers (credentials/error.go).
NOT_FOUND = "credentials not found in native keychain"
NO_SERVER = "no credentials server URL"
NO_USERNAME = "no credentials username"


class _Told(Exception):
    """One of the messages that docker knows."""


def without_secrets(name: str, arguments: list[str]) -> int | None:
    """Answer what needs no daemon: the version, and what is no operation."""
    operation = arguments[0] if len(arguments) == 1 else ""
    if operation in ("version", "--version", "-v"):
        write_output(f"{name} (keychain-auth) v{__version__}\n")
        return 0
    if operation not in _OPERATIONS:
        write_output(f"Usage: {name} <store|get|erase|list|version>\n")
        return EXIT_FAILED
    return None


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    try:
        _OPERATIONS[arguments[0]](helper)
    except _Told as told:
        write_output(f"{told}\n")
        return EXIT_FAILED
    return 0


def _get(helper: Helper) -> None:
    server = _server()
    found = helper.read([server], f"the password for {server}").get(server)
    if found is None:
        raise _Told(NOT_FOUND)
    user = found.attributes.get("username", "")
    write_output(json.dumps({"ServerURL": server, "Username": user, "Secret": found.value}) + "\n")


def _store(helper: Helper) -> None:
    given = _credentials(read_input())
    server, user, secret = (given.get(name, "") for name in ("ServerURL", "Username", "Secret"))
    if not server:
        raise _Told(NO_SERVER)
    if not user:
        raise _Told(NO_USERNAME)
    helper.write({_checked(server): secret}, {"username": user}, f"to keep the password for {server}")


def _erase(helper: Helper) -> None:
    server = _server()
    helper.delete([server], f"to forget the password for {server}")


def _list(helper: Helper) -> None:
    found = helper.search("the servers that it has passwords for")
    write_output(json.dumps({each.target: each.attributes.get("username", "") for each in found}) + "\n")


def _server() -> str:
    server = read_input().strip()
    if not server:
        raise _Told(NO_SERVER)
    return _checked(server)


def _checked(server: str) -> str:
    if not is_plain(server):
        raise Refusal("a password for docker", "the server's name holds control characters")
    return server


def _credentials(text: str) -> dict[str, str]:
    # Raised outside of the handler: the JSON library's error carries the whole text, password and all.
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise Refusal("to keep a password for docker", "what docker gives is not JSON of its protocol")
    return given


_OPERATIONS = {"get": _get, "store": _store, "erase": _erase, "list": _list}

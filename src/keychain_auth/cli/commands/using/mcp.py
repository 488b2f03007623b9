"""``keychain-auth mcp``: a server of the Model Context Protocol. It lists and asks; it never returns a value.

Contract: the library ``mcp`` (the extra ``keychain-auth[mcp]``) is loaded when the server runs, and by nobody else. On
stdout goes the protocol and nothing else. A tool's failure is text for the agent: what was wanted, why not, and the
command that a person runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import click

from keychain_auth import __version__
from keychain_auth.cli.commands.using import agent_access
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.errors import KeychainAuthError
from keychain_auth.model import Requester

_INSTRUCTIONS = (
    "keychain-auth keeps secrets. No tool here returns one. To use a secret, start the command that needs it as "
    "NAME=keychain://SERVICE/SECRET keychain-auth-run -- COMMAND: the command gets the value, you do not. list_access "
    "says what you may use; request_access asks a person for one secret, for a time and a number of uses."
)


@click.command()
def mcp() -> None:
    """Serve an agent by the Model Context Protocol, on stdin and stdout.

    Its tools list what the agent may use, and ask you for more; none of them returns a value. For that the agent starts
    its commands by keychain-auth-run. Needs the extra keychain-auth[mcp].
    """
    try:
        from mcp.server import MCPServer  # noqa: PLC0415 - a second, that no other command needs
    except ModuleNotFoundError:
        raise KeychainAuthError(
            "the library mcp is not installed",
            hint="install keychain-auth with its extra mcp, as the README says",
        ) from None
    server = MCPServer("keychain-auth", instructions=_INSTRUCTIONS, version=__version__)
    server.add_tool(list_access)
    server.add_tool(request_access)
    server.run("stdio")


def list_access() -> str:
    """What you (the agent) may use by keychain-auth-run: names, until when, how often. Never a value."""
    return _told("what you may use", lambda: agent_access.access(*_who_asks()))


def request_access(
    service: str,
    name: str,
    reason: Annotated[str, "for the person who decides"],
    minutes: int = 10,
    uses: int = 3,
) -> str:
    """Ask a person to let your commands have one secret, for a time and some uses. Tell them the command to run."""
    return _told(
        f"access to {service} {name}",
        lambda: agent_access.ask_for(*_who_asks(), service, name, reason, minutes, uses),
    )


def _who_asks() -> tuple[Places, Requester]:
    places = find_places()
    return places, agent_access.agent(places)


def _told(wanted: str, answer: Callable[[], Any]) -> str:
    try:
        return json.dumps(answer(), indent=1)
    except (KeychainAuthError, OSError, ValueError) as error:
        hint = error.hint if isinstance(error, KeychainAuthError) else ""
        return json.dumps({"wanted": wanted, "why_not": str(error), "next": hint}, indent=1)

"""keychain-auth mcp, with the client of the official library over stdio: it lists and asks, and returns no value."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from attacks.lab import build
from integrations.lab import Plug
from support.world import World

# An agent: a native program (the starter) whose child speaks MCP to a server that the agent's shell starts.
CLIENT = """
import asyncio, json, sys
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    words = json.loads(sys.argv[1])
    server = StdioServerParameters(command=words[0], args=words[1:], env=dict(__import__("os").environ))
    async with Client(server) as client:
        tools = await client.list_tools()
        print(json.dumps([tool.name for tool in tools.tools]), flush=True)
        for line in sys.stdin:
            name, arguments = json.loads(line)
            done = await client.call_tool(name, arguments)
            print(json.dumps("".join(part.text for part in done.content)), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def plug(world: World) -> Plug:
    done = subprocess.run(
        [world.python, "-c", "import mcp"], env=world.environment(), cwd="/", capture_output=True, check=False,
        **world.user.popen(),
    )  # fmt: skip
    if done.returncode:
        pytest.skip("the user under test has no library mcp: make venv, in a folder that others may enter")
    made = Plug(world, "keychain-auth-run")
    made.keep("github", "token", "s3cret")
    return made


def converse(plug: Plug, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """What the server says to these calls of an agent. The agent is the program between the client and the server."""
    agent = plug.world.path("bin/agent")
    server = [agent, plug.world.python, "-m", "keychain_auth", "mcp"]
    said = "".join(json.dumps(call) + "\n" for call in calls)
    done = plug.run(plug.world.python, "-c", CLIENT, json.dumps(server), input=said, env=dict(plug.world.environment()))
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    tools, *answers = map(json.loads, done.stdout.splitlines())
    assert tools == ["list_access", "request_access"]
    return [json.loads(answer) for answer in answers]


def test_an_agent_asks_a_person_approves_and_its_command_has_the_token(plug: Plug, world: World) -> None:
    agent = build(world, "starter", variant="agent")
    plug.register(anyone=False)
    wish = {"service": "github", "name": "token", "reason": "open a pull request"}
    before, asked, waits = converse(plug, ("list_access", {}), ("request_access", wish), ("list_access", {}))
    assert (before["agent"], before["approved"], before["granted_for_a_time"]) == (agent, False, [])
    assert asked["status"] == "waits for a person"
    [waiting] = world.cli_json("list-pending")
    assert waiting["request"]["reason"] == "open a pull request"
    assert asked["person_runs"][1] == f"keychain-auth approve {waiting['request']['id']}"
    assert waits["waiting"] == [f"keychain://github/token: {asked['person_runs'][1]}"]
    assert "asks for 10m, 3 uses of github token: open a pull request" in world.cli("list-pending").stdout
    assert world.cli(*asked["person_runs"][1].split()[1:]).returncode == 0
    assert world.cli_json("list-pending") == []
    [after] = converse(plug, ("list_access", {}))
    assert after["approved"]
    [grant] = after["granted_for_a_time"]
    assert (grant["references"], grant["uses_left"], grant["over"]) == (["keychain://github/token"], 3, False)
    done = plug.run(
        agent, "/bin/bash", "-c", '"$0" "$@"; exit $?', plug.path, "--", "/bin/sh", "-c", 'printf %s "$T"',
        env={"T": "keychain://github/token"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "s3cret"), done.stderr
    [left] = converse(plug, ("list_access", {}))
    assert left["granted_for_a_time"][0]["uses_left"] == 2


def test_what_cannot_be_asked_is_said_in_three_parts(plug: Plug, world: World) -> None:
    build(world, "starter", variant="agent")
    wish = {"service": "github", "name": "token", "reason": "x"}
    [unknown] = converse(plug, ("request_access", wish))
    assert set(unknown) == {"wanted", "why_not", "next"}
    assert "keychain-auth-run is not registered" in unknown["why_not"]
    plug.register(anyone=False)
    for wrong in ({"minutes": 0}, {"minutes": 10**6}, {"uses": 0}, {"service": ""}, {"name": "a\nb"}):
        [refused] = converse(plug, ("request_access", {**wish, **wrong}))
        assert refused["why_not"], wrong
    assert world.cli_json("list-pending") == []


def test_without_the_library_it_says_how_to_get_it(world: World) -> None:
    world.write("lib/mcp/__init__.py", "raise ModuleNotFoundError(name='mcp')\n")
    path = ":".join([world.path("lib"), *filter(None, [world.env.get("PYTHONPATH", "")])])
    done = world.cli("mcp", env={"PYTHONPATH": path})
    assert (done.returncode, done.stdout) == (1, "")
    assert "Next: install keychain-auth with its extra mcp, as the README says" in done.stderr

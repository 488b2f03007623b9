"""cargo-credential-keychain-auth, with the real cargo against a registry that wants a token."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess

import pytest

from integrations.lab import Answer, Plug, server
from support import programs
from support.world import World

NAME = "cargo-credential-keychain-auth"


@pytest.fixture
def plug(world: World) -> Plug:
    return Plug(world, NAME)


def cargo(world: World) -> str:
    """The real program (a version manager's would look for its own home), where the user can run it."""
    found = shutil.which("cargo")
    if found is None:
        pytest.skip("no cargo on this machine")
    if os.path.basename(os.path.realpath(found)) == "rustup":
        asked = subprocess.run(["rustup", "which", "cargo"], capture_output=True, text=True, check=False)
        if asked.returncode:
            pytest.skip("the cargo of this machine is a version manager's, without a version")
        found = asked.stdout.strip()
    return programs.install(found, world.path("bin/cargo"), world.user)


def test_cargo_logs_in_asks_and_logs_out(plug: Plug) -> None:
    program = cargo(plug.world)
    plug.grant("cargo")
    seen: list[str | None] = []

    def registry(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
        if request.path == "/index/config.json":
            there = f"http://{request.headers['Host']}"
            return 200, {}, json.dumps({"dl": f"{there}/dl", "api": there}).encode()
        seen.append(request.headers.get("Authorization"))
        if seen[-1] != "tok":
            return 403, {}, b'{"errors":[{"detail":"who are you?"}]}'
        return 200, {}, b'{"users":[{"id":1,"login":"alice","name":"Alice"}]}'

    with server(registry) as address:
        index = f"sparse+http://{address}/index/"
        plug.world.write(
            ".cargo/config.toml",
            f'[registries.mine]\nindex = "{index}"\ncredential-provider = ["cargo-credential-keychain-auth"]\n',
        )
        owner = (program, "owner", "--list", "--registry", "mine", "thing")
        assert "no token found" in plug.run(*owner).stderr
        done = plug.run(program, "login", "--registry", "mine", input="tok\n")
        assert done.returncode == 0, done.stderr
        assert plug.kept("cargo", index) == "tok"
        done = plug.run(*owner)
        assert (done.returncode, "alice" in done.stdout) == (0, True), done.stderr
        assert seen == ["tok"]
        assert plug.run(program, "logout", "--registry", "mine").returncode == 0
        assert plug.kept("cargo", index) is None
        plug.world.assert_nowhere("tok\n")


def test_the_answers_to_cargo(plug: Plug) -> None:
    plug.grant("cargo", "--read", "--write")
    index = "sparse+https://index.example/"

    def line(kind: str, **more: object) -> str:
        return json.dumps({"v": 1, "registry": {"index-url": index}, "kind": kind, **more}) + "\n"

    done = plug.ask("--cargo-plugin", input=(
        line("get", operation="read") + line("login", token="tok") + line("get", operation="publish") + line("login")
        + line("unheard-of") + "never-said\n" + line("logout") + line("logout")
    ))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    hello, *answers = [json.loads(each) for each in done.stdout.splitlines()]
    assert hello == {"v": [1]}
    assert answers == [
        {"Err": {"kind": "not-found"}},
        {"Ok": {"kind": "login"}},
        {"Ok": {"kind": "get", "token": "tok", "cache": "session", "operation_independent": True}},
        {
            "Err": {
                "kind": "other",
                "message": f"wanted to keep the token for {index}",
                "caused-by": [
                    "Why not: cargo gave none, and nobody is asked here", f"Next: keychain-auth set cargo {index}",
                ],
            }
        },
        {"Err": {"kind": "operation-not-supported"}},
        {
            "Err": {
                "kind": "other",
                "message": "wanted a token for cargo",
                "caused-by": ["Why not: this line is no request of its protocol, version 1"],
            }
        },
        {"Ok": {"kind": "logout"}},
        {"Err": {"kind": "not-found"}},
    ]  # fmt: skip

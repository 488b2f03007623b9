"""docker-credential-keychain-auth, with the real docker client against a registry that wants to know who asks."""

from __future__ import annotations

import http.server
import json

import pytest

from integrations.lab import Answer, Plug, basic, certificate, server, tool
from support.world import World

NAME = "docker-credential-keychain-auth"
JSON = {"Content-Type": "application/json"}
TOKEN = "s3cret-of-the-registry"


@pytest.fixture
def plug(world: World) -> Plug:
    return Plug(world, NAME)


def registry(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
    if request.headers.get("Authorization") != basic("alice", TOKEN):
        return 401, {"WWW-Authenticate": 'Basic realm="registry"'}, b"{}"
    return (
        (200, {}, b"{}")
        if request.path == "/v2/"
        else (404, JSON, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}')
    )


def test_docker_logs_in_asks_and_logs_out(plug: Plug) -> None:
    docker = tool("docker", "the command line of docker")
    plug.grant("docker")
    plug.world.write(".docker/config.json", json.dumps({"credsStore": "keychain-auth"}))
    pem = certificate(plug.world)
    env = {"DOCKER_HOST": f"unix://{plug.world.path('run/no-docker')}", "SSL_CERT_FILE": pem}
    with server(registry, pem) as address:
        login = ("login", "-u", "alice", "--password-stdin", address)
        assert "unauthorized" in plug.run(docker, *login, input="wrong", env=env).stderr.lower()
        done = plug.run(docker, *login, input=TOKEN, env=env)
        assert (done.returncode, "Login Succeeded" in done.stdout) == (0, True), done.stderr
        assert plug.kept("docker", address) == TOKEN
        with open(plug.world.path(".docker/config.json"), encoding="utf-8") as file:
            assert json.load(file) == {"auths": {address: {}}, "credsStore": "keychain-auth"}
        # With what was kept the registry lets it in: then there is no such image, before it was not authorized.
        asked = plug.run(docker, "manifest", "inspect", f"{address}/team/image:1", env=env)
        assert "no such manifest" in asked.stderr
        assert plug.run(docker, "logout", address, env=env).returncode == 0
        assert plug.kept("docker", address) is None
        plug.world.assert_nowhere(TOKEN)


def test_what_needs_no_secret_is_answered_before_it_is_registered(plug: Plug) -> None:
    done = plug.ask("version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{NAME} (keychain-auth) v")
    assert plug.ask("unheard-of").stdout == f"Usage: {NAME} <store|get|erase|list|version>\n"


def test_the_words_of_the_protocol(plug: Plug) -> None:
    plug.grant("docker")

    def said(operation: str, text: str = "") -> tuple[int, str]:
        done = plug.ask(operation, input=text)
        assert done.stderr == ""
        return done.returncode, done.stdout

    entry = {"ServerURL": "https://registry.example/v1/", "Username": "alice", "Secret": "p w\n"}
    assert said("get", "https://registry.example/v1/") == (1, "credentials not found in native keychain\n")
    assert said("list") == (0, "{}\n")
    assert said("store", json.dumps(entry)) == (0, "")
    code, text = said("get", "https://registry.example/v1/\n")
    assert (code, json.loads(text)) == (0, entry)
    assert said("get", "https://registry.example/v1") == (1, "credentials not found in native keychain\n")
    code, text = said("list")
    assert (code, json.loads(text)) == (0, {"https://registry.example/v1/": "alice"})
    for operation in ("get", "erase"):
        assert said(operation, " \n") == (1, "no credentials server URL\n")
    assert said("store", json.dumps({**entry, "ServerURL": ""})) == (1, "no credentials server URL\n")
    assert said("store", json.dumps({**entry, "Username": ""})) == (1, "no credentials username\n")
    assert said("erase", "https://registry.example/v1/") == (0, "")
    assert said("get", "https://registry.example/v1/") == (1, "credentials not found in native keychain\n")
    assert said("version")[1].startswith(f"{NAME} (keychain-auth) v")
    assert said("unheard-of") == (1, f"Usage: {NAME} <store|get|erase|list|version>\n")


def test_what_is_refused_is_said_on_standard_error_alone(plug: Plug) -> None:
    plug.grant("docker", "--read")
    secret = {"ServerURL": "r.example", "Username": "alice", "Secret": "never-to-be-said"}
    done = plug.ask("store", input=json.dumps(secret))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"{NAME}: wanted to keep the password for r.example\n"
        "Why not: it may not write to the service docker (service_not_allowed)\n"
        f"Next: keychain-auth authorize {plug.path} docker --write\n"
    )
    for text in (json.dumps(secret)[:-1], json.dumps([secret]), json.dumps({**secret, "ServerURL": "a\nb"})):
        done = plug.ask("store", input=text)
        assert (done.returncode, done.stdout) == (1, "")
        assert "never-to-be-said" not in done.stderr
    assert "may not search" in plug.ask("list").stderr


def test_skopeo_and_what_is_built_like_it_ask_it_too(plug: Plug) -> None:
    """The libraries of Podman, Buildah and CRI-O: a helper for all registries (containers-registries.conf(5))."""
    skopeo = tool("skopeo", "apt-get install skopeo")
    plug.grant("docker")
    conf = plug.world.write("registries.conf", 'credential-helpers = ["keychain-auth"]\n')
    pem = certificate(plug.world)
    with server(registry, pem) as address:
        words = (skopeo, "--registries-conf", conf, "inspect", f"docker://{address}/team/image:1")
        env = {"SSL_CERT_FILE": pem}
        assert "nauthorized" in plug.run(*words, env=env).stderr
        entry = {"ServerURL": address, "Username": "alice", "Secret": TOKEN}
        assert plug.ask("store", input=json.dumps(entry)).returncode == 0
        assert "manifest unknown" in plug.run(*words, env=env).stderr

"""The clients in other languages: the same steps against a real daemon, and the shared vectors."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from typing import Any

import pytest

from keychain_auth.wire.codec import decode_request
from keychain_auth.wire.messages import Limits
from support import programs
from support.programs import ROOT
from support.world import World

CLIENTS = os.path.join(ROOT, "clients")
SERVICE = "conformance"
STEPS = [
    f"ok {name}"
    for name in ("write", "get", "absent", "order", "prefix", "search", "check", "many", "denied", "delete")
]
LANGUAGES = ("node", "go", "rust")


def runs(*words: str) -> bool:
    """Is there such a program, and does it run for this user (a version manager's may not)?"""
    return shutil.which(words[0]) is not None and not subprocess.run(words, capture_output=True, check=False).returncode


@functools.cache
def built(language: str) -> str:
    """The conformance program of a compiled client. Skips the test where its compiler is missing."""
    asked = {"go": ("go", "version"), "rust": ("cargo", "--version")}[language]
    if not runs(*asked):
        pytest.skip(f"no {asked[0]} that runs on this machine")
    folder = tempfile.mkdtemp(prefix="ka-clients-", dir=programs._folder())
    source = os.path.join(CLIENTS, language)
    program = os.path.join(folder, "conformance")
    words = ["go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./conformance"]
    if language == "rust":
        # A copy: cargo writes a lock file beside the sources, and CI's are not to be written.
        source = shutil.copytree(source, os.path.join(folder, "source"))
        words = ["cargo", "build", "-q", "--offline", "--example", "conformance", "--target-dir", folder]
        program = os.path.join(folder, "debug", "examples", "conformance")
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def conformance(world: World, language: str) -> list[str]:
    """The words that start the program as this user, registered and allowed to use its service."""
    if language != "node":
        path = programs.install(built(language), world.path("bin", f"conformance-{language}"), world.user)
        register = ("register", path)
        words = [path]
    else:
        node = shutil.which("node", path="/usr/local/bin:/usr/bin:/bin")
        if node is None:
            pytest.skip("no node on this machine: apt-get install nodejs")
        for name in ("index.js", "conformance.js"):
            with open(os.path.join(CLIENTS, "node", name), encoding="utf-8") as file:
                world.write(f"node/{name}", file.read())
        path = world.path("node/conformance.js")
        register = ("register", "--script", path, "--interpreter", node, "--allow-declared")
        words = [node, path]
    for command in (register, ("authorize", path, SERVICE)):
        done = world.cli(*command)
        assert done.returncode == 0, done.stderr
    return words


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_steps_and_a_daemon_that_starts_anew(world: World, language: str) -> None:
    daemon = world.start()
    running = world.spawn([*conformance(world, language), "again"], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
    at = running.out.find(lambda line: line == b"restart the daemon")
    assert [line.decode() for line in running.out.all()[:at]] == STEPS
    assert world.cli_json("list-secrets", SERVICE)
    daemon.stop()
    world.start()
    running.feed(b"\n")
    assert running.wait() == 0, running.out.text() + running.err.text()
    assert running.out.all()[-1] == b"ok again"


def test_a_script_of_node_that_is_launched(world: World) -> None:
    world.start()
    node, path = conformance(world, "node")
    registered = ("register", "--script", path, "--interpreter", node, "--tree", world.path("node"))
    assert world.cli(*registered, "--minimum-grade", "launched").returncode == 0
    done = world.cli("launch", path, "talk")
    assert (done.returncode, done.stdout.splitlines()) == (0, STEPS), done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_folder_that_others_can_write_is_not_trusted(world: World, language: str) -> None:
    words = conformance(world, language)
    world.start()
    os.chmod(os.path.dirname(world.socket), 0o777)
    running = world.spawn([*words, "talk"], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
    assert running.wait() != 0
    assert "trusted" in (running.out.text() + running.err.text()).lower()
    assert not [line for line in world.audit() if line["action"] in ("read", "write")]


def test_a_daemon_that_is_not_there(world: World) -> None:
    for language in LANGUAGES:
        running = world.spawn([*conformance(world, language), "talk"], env={"KEYCHAIN_AUTH_SOCKET": world.socket})
        assert running.wait() != 0
        said = running.out.text() + running.err.text()
        assert "keychain-auth daemon is not running" in said or "NotRunning" in said


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_they_write_is_what_the_daemon_reads(language: str) -> None:
    file = os.path.join(ROOT, "tests", "vectors", "requests.json")
    if language == "node":
        if not runs("node", "--version"):
            pytest.skip("no node that runs on this machine")
        words = ["node", os.path.join(CLIENTS, "node", "conformance.js")]
    else:
        words = [built(language)]
    done = subprocess.run([*words, "vectors", file], capture_output=True, check=True)
    with open(file, encoding="utf-8") as text:
        wanted = [vector["request"] for vector in json.load(text)["vectors"] if "request" in vector]
    lines = done.stdout.splitlines()
    assert len(lines) == len(wanted) > 10
    assert [decoded(line, request) for line, request in zip(lines, wanted, strict=True)] == wanted


def decoded(line: bytes, wanted: dict[str, Any]) -> dict[str, Any]:
    request = decode_request(line, Limits())
    found = {name: getattr(request, name) for name in wanted}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def test_the_program_for_shells(world: World) -> None:
    daemon = world.start()
    with open(os.path.join(CLIENTS, "shell", "keychain-auth-ask"), encoding="utf-8") as file:
        program = world.write("bin/keychain-auth-ask", file.read(), 0o755)
    assert world.cli("register", "--script", program).returncode == 0
    assert world.cli("behalf", program, "--anyone").returncode == 0
    assert world.cli("authorize", program, "s").returncode == 0

    command = f'#!/bin/sh\nexec {world.python} -m keychain_auth.cli.main "$@"\n'
    world.write("bin/keychain-auth", command, 0o755)

    def ask(*words: str, text: str = "", launched: bool = True) -> tuple[int, str, str]:
        path = f"{world.path('bin')}:/usr/bin:/bin" if launched else "/usr/bin:/bin"  # where it finds keychain-auth
        done = subprocess.run(
            [program, *words], input=text.encode(), capture_output=True, check=False,
            env=world.environment({"KEYCHAIN_AUTH_SOCKET": world.socket, "PATH": path}), cwd="/", timeout=60,
            **world.user.popen(),
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    assert ask("set", "s", "ключ", text="ünï\n\0") == (0, "", "")
    assert ask("get", "s", "ключ") == (0, "ünï\n\0", "")
    assert ask("list", "s", "к") == (0, "ключ\n", "")
    assert ask("list", "s", "x") == (0, "", "")
    code, out, err = ask("get", "s", "nothing")
    assert (code, out, "keychain-auth set s nothing" in err) == (6, "", True)
    code, out, err = ask("get", "other", "x")
    assert (code, out, "service_not_allowed" in err) == (3, "", True)
    code, out, err = ask("get", "s", "ключ", launched=False)  # as anybody starts it
    assert (code, out, "identity_not_verified" in err) == (3, "", True)
    assert ask("rm", "s", "ключ") == (0, "", "")
    assert ask("get", "s", "ключ")[0] == 6
    assert ask("odd")[0] == 2
    daemon.stop()
    assert ask("get", "s", "x", launched=False)[0] == 4


def test_the_compilers_own_checks_find_nothing() -> None:
    folder = os.path.dirname(os.path.dirname(os.path.dirname(built("rust"))))
    words = ["cargo", "test", "-q", "--offline", "--lib", "--target-dir", folder]
    done = subprocess.run(words, cwd=os.path.join(folder, "source"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    if runs("go", "version"):
        go = os.path.join(CLIENTS, "go")
        done = subprocess.run(["go", "vet", "./..."], cwd=go, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_line_that_is_no_answer_ends_the_connection(world: World, language: str) -> None:
    """Somebody who listens in the user's name and says something else: an error, and never a value."""
    words = conformance(world, language)
    world.start().stop()
    code = (
        "import socket, sys\nlistening = socket.socket(socket.AF_UNIX)\nlistening.bind(sys.argv[1])\n"
        "listening.listen()\nprint('listening', flush=True)\nconnection = listening.accept()[0]\n"
        'connection.recv(4096)\nconnection.sendall(b\'{"type":"RESPONSE"\' + bytes([10]) * 3)\n'
        "print('closed' if not connection.recv(1) else 'used again', flush=True)\n"
    )
    path = os.path.join(os.path.dirname(world.socket), "other.sock")
    other = world.spawn([world.python, "-c", code, path])
    other.out.find(lambda line: line == b"listening")
    running = world.spawn([*words, "talk"], env={"KEYCHAIN_AUTH_SOCKET": path})
    assert running.wait() != 0
    said = running.out.text() + running.err.text()
    assert "not one of the keychain-auth protocol" in said or "BadAnswer" in said
    other.out.find(lambda line: line == b"closed")

"""The kit tells a daemon that keeps its promises from one that does not."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from typing import Any

import pytest

from conformance.naive import NaiveDaemon
from keychain_auth.conformance import cases, probe
from support.world import World, sha256_of


@pytest.fixture
def folder(world: World) -> str:
    return world.path("probe")


def conformance(world: World, folder: str, socket: str, *options: str) -> tuple[int, Any]:
    done = world.cli("conformance", "--socket", socket, "--folder", folder, "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_our_daemon_keeps_every_promise_and_nothing_is_left(world: World, folder: str) -> None:
    world.start()
    code, answer = conformance(world, folder, world.socket)
    assert code == 3
    program = answer["entry"]["path"]
    world.write_policy({"protocol_version": "1", "registered_binaries": [answer["entry"]]})
    code, answer = conformance(world, folder, world.socket)
    assert [result for result in answer["results"] if not result["passed"]] == []
    assert code == 0
    assert answer["passed"] > 100
    assert {result["part"] for result in answer["results"]} == {"messages", "behaviour", "identity"}
    assert world.cli_json("list-secrets", cases.SERVICE) == []
    assert os.path.dirname(program) == os.path.realpath(folder)
    lines = world.cli("conformance", "--folder", folder).stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["messages", "behaviour", "identity"]


def test_a_naive_daemon_fails_and_the_table_says_where(world: World, folder: str) -> None:
    probe.prepare(folder)
    for name in ("", "probe", "copy", "stranger"):
        world.user.own(os.path.join(folder, name))
    trusted = sha256_of(os.path.join(folder, "probe")).removeprefix("sha256:")
    naive = NaiveDaemon(world.path("naive.sock"), trusted, cases.SERVICE)
    try:
        code, answer = conformance(world, folder, world.path("naive.sock"), "--patience", "0.5")
    finally:
        naive.close()
    assert code == 1
    broken = {result["name"]: result for result in answer["results"] if not result["passed"]}
    assert {name for name, result in broken.items() if result["part"] == "identity"} >= {
        "a stranger is told so, once, and let go",
        "an equal copy elsewhere is not the program",
        "a connection that others could inherit is not served",
        "a program that becomes another one is no longer served",
        "a child that uses the program's connection is not served",
        "a message with a descriptor attached is not served",
        "requests in the body of another protocol are not carried out",
    }
    assert "other bytes are another program" not in broken
    assert {"key twice", "unknown field", "NaN"} <= set(broken)
    assert Counter(result["part"] for result in broken.values())["messages"] > 20
    assert broken["an equal copy elsewhere is not the program"]["seen"] == "it was served"


def test_every_vector_is_tried(world: World) -> None:
    with open(probe.shipped("requests.json"), encoding="utf-8") as file:
        names = [vector["name"] for vector in json.load(file)["vectors"]]
    assert [case.name for case in cases.vectors()] == names


def test_a_daemon_that_is_not_there(world: World, folder: str) -> None:
    done = world.cli("conformance", "--folder", folder)
    assert done.returncode == 4


def test_the_probe_stays_the_same_file(world: World, folder: str) -> None:
    first = probe.prepare(folder)
    before = os.stat(first.probe)
    again = probe.prepare(folder)
    assert os.stat(again.probe).st_mtime_ns == before.st_mtime_ns
    hashes = []
    for path in again:
        with open(path, "rb") as file:
            hashes.append(hashlib.sha256(file.read()).hexdigest())
    assert hashes[0] == hashes[1] != hashes[2]

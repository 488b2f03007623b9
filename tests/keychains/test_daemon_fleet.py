"""Real daemons of two machines on one cluster: what one program stores, a program of the other reads."""

from __future__ import annotations

from collections.abc import Callable

from daemon.requests import SUCCESS, read, request, results, write
from support.etcd import Cluster
from support.talker import Talker
from support.world import World

SECRET = "a value that is nowhere in the clear"


def machine(world: World, etcd: Cluster) -> Talker:
    """A daemon whose services ``fleet…`` lie in the cluster, and a program that may use them."""
    etcd.settle(world, "daemons/")
    world.start()
    return world.talker(world.granted("talker", "fleet", "aws"))


def test_two_machines_share_a_service_and_nothing_else(etcd: Cluster, worlds: Callable[[], World]) -> None:
    here, there = worlds(), worlds()
    one, other = machine(here, etcd), machine(there, etcd)
    assert one.ask(write({"a:1": SECRET, "a:2": "2"}, "fleet", attributes={"team": "x"})) == SUCCESS
    assert one.ask(write({"a": "only here"})) == SUCCESS
    item = {"target": "a:1", "value": SECRET, "attributes": {"team": "x"}}
    assert other.ask(read("a:1", service="fleet")) == results(item)
    assert [row["target"] for row in other.ask(request("search", "fleet"))["results"]] == ["a:1", "a:2"]
    assert other.ask(read("a")) == results()
    assert other.ask(request("delete", "fleet", targets=["a:2"])) == SUCCESS
    assert [row["target"] for row in one.ask(request("search", "fleet"))["results"]] == ["a:1"]

    assert there.cli("get", "fleet", "a:1").stdout == SECRET
    health = there.cli_json("status")["keychains"]["keychains"]["shared"]
    assert health == {"backend": "etcd", "members": 3, "state": "answers"}
    done = here.cli("migrate", "fleet", "--from", "shared", "--to", "vault")
    assert done.returncode == 0, done.stderr
    assert here.cli_json("list-secrets", "--keychain", "vault")
    for world in (here, there):
        world.assert_nowhere(SECRET)
    assert SECRET.encode() not in etcd.content()

"""Values with a lifetime in a cluster: they go when they are due, together, and not before; and how it is written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from keychain_auth.errors import KeychainAuthError, KeychainError
from keychain_auth.keychain.etcd.cluster import Refused, Unavailable
from keychain_auth.keychain.etcd.keychain import EtcdKeychain
from keychain_auth.keychain.etcd.sealing import Name, Seal, Value
from keychain_auth.keychain.lifetimes import Lifetimes, seconds
from keychain_auth.model import Item
from support.etcd import Cluster, run
from support.lines import PATIENCE

_NUMBERS = itertools.count()


@pytest.fixture
def prefix() -> str:
    return f"lifetimes {next(_NUMBERS)}/"


class Inside:
    """What the cluster itself holds below a prefix."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.cluster = cluster
        self.seal = Seal(bytes.fromhex(cluster.fleet_key), prefix)

    def lease_of(self, service: str, target: str) -> int:
        """0: none, or there is no such value."""
        places = [self.seal.name_key(service, target), self.seal.value_key(service, target)]
        held = [self.cluster.ask(0, "/v3/kv/range", msgspec.json.encode({"key": key})).get("kvs") for key in places]
        name, value = [int(pairs[0].get("lease", 0)) if pairs else 0 for pairs in held]
        assert name == value
        return name

    def leases(self) -> set[int]:
        """All that there are: a member that is behind the leader answers no range before it has caught up, but would
        tell the leases that it knows of."""
        self.cluster.ask(0, "/v3/kv/range", msgspec.json.encode({"key": b"none"}))
        told = self.cluster.ask(0, "/v3/lease/leases", b"{}")
        return {int(lease["ID"]) for lease in told.get("leases", [])}

    def revoke(self, lease: int) -> None:
        assert self.cluster.ask(0, "/v3/lease/revoke", msgspec.json.encode({"ID": str(lease)}))

    def put(self, key: bytes, plain: Name | Value) -> None:
        body = msgspec.json.encode({"key": key, "value": self.seal.seal(key, plain)})
        assert self.cluster.ask(0, "/v3/kv/put", body)


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    ends = time.monotonic() + PATIENCE
    while not await found():
        assert time.monotonic() < ends, "it does not come"


# --- in the cluster -----------------------------------------------------------------------------------


def test_what_is_due_goes_by_itself_and_the_rest_stays(etcd: Cluster, prefix: str) -> None:
    inside = Inside(etcd, prefix)

    async def work(keychain: EtcdKeychain, other: EtcdKeychain) -> None:
        await keychain.write("ci-1", [("a", "1"), ("b", "2")], {"k": "v"})
        await keychain.write("stays", [("a", "1")], {})
        assert await keychain.read("stays", ["a"], {}) == [Item("a", "1")]
        lease = inside.lease_of("ci-1", "a")
        assert lease == inside.lease_of("ci-1", "b") != 0, "a batch goes together"
        assert inside.lease_of("stays", "a") == 0
        assert [item.target for item in await keychain.search("ci-1", [], {})] == ["a", "b"]

        async def gone() -> bool:
            found = await other.read("ci-1", ["a", "b"], {})
            assert found in ([], [Item("a", "1", {"k": "v"}), Item("b", "2", {"k": "v"})]), "half of a batch"
            return not found

        await until(gone)
        assert await keychain.search("ci-1", [], {}) == await keychain.read_prefix("ci-1", [""], {}) == []

        async def removed() -> bool:
            return lease not in inside.leases()

        await until(removed)
        assert await keychain.services() == ["stays"]
        await keychain.write("ci-1", [("a", "again")], {})
        assert await other.read("ci-1", ["a"], {}) == [Item("a", "again")]

    run(work, etcd.machine(prefix, lifetimes={"ci-*": "3s"}), etcd.machine(prefix))


def test_writing_again_renews_and_without_the_setting_it_stays(etcd: Cluster, prefix: str) -> None:
    inside = Inside(etcd, prefix)

    async def work(keychain: EtcdKeychain, plain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "1"), ("b", "1")], {})
        first = inside.lease_of("s", "a")
        await keychain.write("s", [("a", "2")], {})
        second = inside.lease_of("s", "a")
        assert second != first == inside.lease_of("s", "b")
        inside.revoke(first)  # as when it ends
        assert await keychain.read("s", ["a", "b"], {}) == [Item("a", "2")]
        await plain.write("s", [("a", "3")], {})
        inside.revoke(second)
        assert await keychain.read("s", ["a"], {}) == [Item("a", "3")]

    run(work, etcd.machine(prefix, lifetimes={"s": "12h"}), etcd.machine(prefix))


def test_a_name_that_went_by_itself_is_not_remembered(etcd: Cluster, prefix: str) -> None:
    """No head tells that it went: names that are believed as long as the head is the same would be found for ever."""
    inside = Inside(etcd, prefix)

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "1")], {})
        assert await keychain.search("s", [], {}) == [Item("a")]
        inside.revoke(inside.lease_of("s", "a"))
        assert await keychain.search("s", [], {}) == await keychain.read_prefix("s", ["a"], {}) == []

    run(work, etcd.machine(prefix, lifetimes={"*": "12h"}))


def test_what_is_due_is_not_answered_although_the_cluster_holds_it_still(etcd: Cluster, prefix: str) -> None:
    """A new leader gives each lease its whole time anew, so who believes in leases alone answers too long."""
    inside = Inside(etcd, prefix)

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("good", "1"), ("over", "1")], {})
        past = time.time() - 1
        inside.put(inside.seal.name_key("s", "over"), Name("over", None, 1, past))
        inside.put(inside.seal.value_key("s", "over"), Value("withdrawn", None, past))
        assert inside.cluster.ask(0, "/v3/kv/range", msgspec.json.encode({"key": inside.seal.value_key("s", "over")}))
        assert await keychain.read("s", ["over", "good"], {}) == [Item("good", "1")]
        fresh = etcd.machine(prefix)
        assert await fresh.read_prefix("s", [""], {}) == [Item("good", "1")]
        assert await fresh.search("s", [], {}) == [Item("good")]
        await fresh.delete("s", ["over"], {})
        assert not etcd.ask(0, "/v3/kv/range", msgspec.json.encode({"key": inside.seal.value_key("s", "over")})).get(
            "kvs"
        )
        await fresh.close()

    run(work, etcd.machine(prefix))


def test_the_lease_of_a_change_that_was_not_made_is_revoked(etcd: Cluster, prefix: str) -> None:
    inside = Inside(etcd, prefix)

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "1")], {})
        kept, before = inside.lease_of("s", "a"), inside.leases()
        assert kept in before
        with pytest.raises(KeychainError, match="larger than the cluster takes"):
            await keychain.write("s", [(f"large {n}", "v" * 262144) for n in range(8)], {})
        with pytest.raises(KeychainError, match="64 targets"):
            await keychain.write("s", [(f"new {n}", "v") for n in range(64)], {})

        async def as_before() -> bool:  # what other tests left there may end meanwhile
            return {kept} <= inside.leases() <= before

        await until(as_before)
        assert await keychain.read("s", ["a"], {}) == [Item("a", "1")]

    run(work, etcd.machine(prefix, lifetimes={"*": "12h"}))


def test_a_lease_whose_request_was_repeated_is_one_lease(etcd: Cluster, prefix: str) -> None:
    inside = Inside(etcd, prefix)

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "old")], {})
        before = inside.leases()
        cluster: Any = keychain._cluster
        call = cluster.call

        def unanswered_once(path: str, body: bytes, deadline: float) -> tuple[bytes, bool]:
            if path != "/v3/lease/grant":
                return call(path, body, deadline)  # type: ignore[no-any-return]
            call(path, body, deadline)  # done, but its answer is lost, so it is sent again
            try:
                return call(path, body, deadline)  # type: ignore[no-any-return]
            except Refused as error:
                error.sent = True
                raise

        cluster.call = unanswered_once
        await keychain.write("s", [("a", "new")], {})

        async def one_more() -> bool:
            return inside.leases() - before == {inside.lease_of("s", "a")}

        await until(one_more)
        assert await keychain.read("s", ["a"], {}) == [Item("a", "new")]

    run(work, etcd.machine(prefix, lifetimes={"*": "12h"}))


def test_the_lease_of_a_change_that_may_have_been_made_stays(etcd: Cluster, prefix: str) -> None:
    """To revoke it would remove what was stored: the old value was replaced, and the new one would go."""
    inside = Inside(etcd, prefix)

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "old")], {})
        cluster: Any = keychain._cluster
        call = cluster.call

        def deaf(path: str, body: bytes, deadline: float) -> tuple[bytes, bool]:
            told: tuple[bytes, bool] = call(path, body, deadline)
            if b"request_put" in body:
                raise Unavailable("no answer", sent=True)
            return told

        cluster.call = deaf
        with pytest.raises(KeychainError, match="may have been made"):
            await keychain.write("s", [("a", "new")], {})
        cluster.call = call
        assert inside.lease_of("s", "a") in inside.leases()
        assert await keychain.read("s", ["a"], {}) == [Item("a", "new")]

    run(work, etcd.machine(prefix, lifetimes={"*": "12h"}))


# --- in daemon.toml -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "found"), [("1s", 1), ("90s", 90), ("30m", 1800), ("12h", 43200), ("1d12h", 129600)])
def test_a_lifetime_is_a_number_and_a_unit(word: str, found: int) -> None:
    assert seconds(word) == found


@pytest.mark.parametrize("word", ["", "0s", "12", "h", "1.5h", "-1h", "1w", "3651d", " 1h", "\u0661h"])
def test_anything_else_is_no_lifetime(word: str, etcd: Cluster) -> None:
    with pytest.raises(ValueError, match="no lifetime"):
        seconds(word)
    with pytest.raises(KeychainAuthError, match="no lifetime") as caught:
        etcd.machine("p/", lifetimes={"s": word})
    assert "daemon.toml" in caught.value.hint


def test_a_name_goes_before_a_pattern_and_the_first_pattern_before_others() -> None:
    lifetimes = Lifetimes({"ci-*": "1h", "*": "2h", "ci-long": "3h"})
    assert [lifetimes.of(service) for service in ("ci-long", "ci-1", "else")] == [10800, 3600, 7200]
    assert Lifetimes({"ci-*": "1h"}).of("else") is None

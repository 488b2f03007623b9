"""A cluster in trouble: members that die, answers that are lost, machines that meet, people who read what it holds."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
from typing import Any

import msgspec
import pytest

from keychain_auth.errors import KeychainAuthError, KeychainError
from keychain_auth.keychain.etcd.cluster import Identity
from keychain_auth.keychain.etcd.keychain import EtcdKeychain
from keychain_auth.keychain.etcd.sealing import Seal
from keychain_auth.model import Item
from support.etcd import Authority, Cluster, run
from support.lines import PATIENCE

_NUMBERS = itertools.count()


@pytest.fixture
def prefix() -> str:
    return f"trouble {next(_NUMBERS)}/"


# --- members die --------------------------------------------------------------------------------------


class Load:
    """Writers that count up, each its own target and a pair that must stay one; readers that know what they may see.

    ``acknowledged``: what each writer was told is stored; ``tried``: what it sent last.
    """

    def __init__(self, writers: list[EtcdKeychain], readers: list[EtcdKeychain]) -> None:
        self.acknowledged = [0] * len(writers)
        self.tried = [0] * len(writers)
        self.reads = 0
        self._keychains = (writers, readers)
        self._changed = asyncio.Condition()
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        writers, readers = self._keychains
        self._tasks = [asyncio.ensure_future(self._write(each, number)) for number, each in enumerate(writers)]
        self._tasks += [asyncio.ensure_future(self._read(each)) for each in readers]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def goes_on(self) -> None:
        """Until every writer was told of three further changes."""
        before = list(self.acknowledged)

        def advanced() -> bool:
            assert not any(task.done() for task in self._tasks), [task for task in self._tasks if task.done()]
            return all(now >= then + 3 for now, then in zip(self.acknowledged, before, strict=True))

        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(advanced)

    async def _write(self, keychain: EtcdKeychain, number: int) -> None:
        while not self._stop:
            count = self.tried[number] = self.tried[number] + 1
            value = f"{number} {count}"
            try:
                await keychain.write("load", [(f"t{number}", str(count)), ("left", value), ("right", value)], {})
            except KeychainError:  # it may have been made, or not
                continue
            self.acknowledged[number] = count
            async with self._changed:
                self._changed.notify_all()

    async def _read(self, keychain: EtcdKeychain) -> None:
        while not self._stop:
            known = list(self.acknowledged)
            try:
                found = {item.target: item.value or "" for item in await keychain.read_prefix("load", [""], {})}
            except KeychainError:
                continue
            self.reads += 1
            assert found.get("left") == found.get("right"), "half of a batch"
            for number, least in enumerate(known):
                assert least <= int(found.get(f"t{number}", 0)) <= self.tried[number], "an older or unheard-of value"


def test_no_acknowledged_write_is_lost_when_a_member_and_then_the_leader_dies_under_load(
    etcd: Cluster, prefix: str
) -> None:
    async def work(*keychains: EtcdKeychain) -> None:
        *writers, reader = keychains
        async with Load(writers, [reader]) as load:
            await load.goes_on()
            follower = (await asyncio.to_thread(etcd.leader) + 1) % 3
            etcd.kill(follower)
            await load.goes_on()
            etcd.start(follower)
            await asyncio.to_thread(etcd.wait)
            await load.goes_on()
            leader = await asyncio.to_thread(etcd.leader)
            etcd.kill(leader)
            await load.goes_on()
            etcd.start(leader)
            await asyncio.to_thread(etcd.wait)
            await load.goes_on()
        assert load.reads > 5
        found = {item.target: int(item.value or 0) for item in await reader.read("load", ["t0", "t1"], {})}
        for number, least in enumerate(load.acknowledged):
            assert least <= found[f"t{number}"] <= load.tried[number]

    run(work, *(etcd.machine(prefix, seconds=5.0, attempt_seconds=1.0) for _ in range(3)))


def test_while_the_cluster_is_gone_only_the_first_waits(etcd: Cluster, prefix: str) -> None:
    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "1")], {})
        for number in (0, 1):  # no majority: the last one must not answer with what it has
            etcd.kill(number)
        try:
            with pytest.raises(KeychainError):
                await keychain.read("s", ["a"], {})
            assert keychain.health()["state"] == "gone"
            cluster: Any = keychain._cluster
            asked: list[Any] = []
            cluster._ask = lambda *words: asked.append(words)
            for _ in range(20):
                with pytest.raises(KeychainError, match="no member"):
                    await keychain.read("s", ["a"], {})
            assert asked == []
        finally:
            for number in (0, 1):
                etcd.start(number)
            await asyncio.to_thread(etcd.wait)

    run(work, etcd.machine(prefix, seconds=4.0, attempt_seconds=2.0, rest_seconds=600.0))


# --- machines meet ------------------------------------------------------------------------------------


def test_changes_of_several_machines_at_the_same_time_are_all_there(etcd: Cluster, prefix: str) -> None:
    async def work(one: EtcdKeychain, other: EtcdKeychain) -> None:
        await asyncio.gather(
            *(each.write("s", [(f"{who} {n}", "v")], {}) for n in range(6) for who, each in (("1", one), ("2", other)))
        )
        everybody = sorted(f"{who} {n}" for n in range(6) for who in "12")
        for each in (one, other):
            assert [item.target for item in await each.search("s", [], {})] == everybody
        await asyncio.gather(one.delete("s", ["1 0", "2 1"], {}), other.delete("s", ["2 0", "1 0"], {}))
        for each in (one, other):
            assert [item.target for item in await each.search("s", [], {})] == everybody[1:6] + everybody[8:]

    run(work, etcd.machine(prefix), etcd.machine(prefix))


@pytest.mark.parametrize("naive", [True, False], ids=["a blind write", "ours"])
def test_a_request_that_is_sent_again_does_not_undo_what_another_machine_wrote_in_between(
    etcd: Cluster, prefix: str, naive: bool
) -> None:
    """The answer is lost, somebody else writes, and the write is sent again. Without the comparison that loses one."""
    first, other = etcd.machine(prefix), etcd.machine(prefix)
    cluster: Any = first._cluster
    call, lost = cluster.call, [False]

    def deaf(path: str, body: bytes, deadline: float) -> tuple[bytes, bool]:
        transaction = msgspec.json.decode(body)
        if not lost[0] and len(transaction["success"]) == 3:
            lost[0] = True
            if naive:
                body = msgspec.json.encode(transaction | {"compare": []})
            call(path, body, deadline)
            asyncio.run(other.write("s", [("a", "of the other")], {}))
            return (call(path, body, deadline)[0], True)
        return tuple(call(path, body, deadline))  # type: ignore[return-value]

    async def work(first: EtcdKeychain, other: EtcdKeychain) -> None:
        await other.write("s", [("a", "old")], {})
        assert await first.search("s", [], {}) == [Item("a")]
        cluster.call = deaf
        await first.write("s", [("a", "of the first")], {})
        assert lost[0]
        wins = "of the first" if naive else "of the other"
        assert await first.read("s", ["a"], {}) == await other.read("s", ["a"], {}) == [Item("a", wins)]

    run(work, first, other)


def test_a_batch_that_one_transaction_does_not_take_changes_nothing(etcd: Cluster, prefix: str) -> None:
    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [(f"{n}", "v") for n in range(63)], {})
        with pytest.raises(KeychainError, match="64 targets"):
            await keychain.write("s", [(f"new {n}", "v") for n in range(64)], {})
        with pytest.raises(KeychainError, match="larger than the cluster takes"):
            await keychain.write("s", [(f"large {n}", "v" * 262144) for n in range(8)], {})
        assert len(await keychain.search("s", [], {})) == 63

    run(work, etcd.machine(prefix))


# --- people look --------------------------------------------------------------------------------------


def test_the_cluster_holds_nothing_that_it_could_read(etcd: Cluster, prefix: str) -> None:
    texts = ["service of mine", "target of mine", "value of mine", "team of mine", "red of mine"]

    async def work(keychain: EtcdKeychain) -> None:
        service, target, value, *pair = texts
        await keychain.write(service, [(target, value)], dict([pair]))
        held = etcd.content()
        assert prefix.encode() in held
        for text in ["of mine", *(form(text) for text in texts for form in (lambda t: t.encode().hex(), base64_of))]:
            assert text.encode() not in held

    run(work, etcd.machine(prefix))


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_another_key_below_the_same_prefix_is_refused(etcd: Cluster, prefix: str, tmp_path: Any) -> None:
    other = tmp_path / "key"
    other.write_text("ab" * 32)
    other.chmod(0o600)

    async def work(right: EtcdKeychain, wrong: EtcdKeychain) -> None:
        await right.write("s", [("a", "1")], {})
        for refused in (wrong.read("s", ["a"], {}), wrong.write("s", [("a", "2")], {}), wrong.services()):
            with pytest.raises(KeychainError, match="another key"):
                await refused
        assert await right.read("s", ["a"], {}) == [Item("a", "1")]

    run(work, etcd.machine(prefix), etcd.machine(prefix, key_file=str(other)))


def test_a_value_moved_to_another_target_in_the_cluster_does_not_open(etcd: Cluster, prefix: str) -> None:
    seal = Seal(bytes.fromhex(etcd.fleet_key), prefix)

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("public", "1"), ("secret", "of few")], {})
        stolen = etcd.ask(0, "/v3/kv/range", msgspec.json.encode({"key": seal.value_key("s", "secret")}))
        moved = {"key": seal.value_key("s", "public"), "value": stolen["kvs"][0]["value"]}
        assert etcd.ask(0, "/v3/kv/put", msgspec.json.encode(moved))
        with pytest.raises(KeychainError, match="does not open"):
            await keychain.read("s", ["public"], {})
        assert await keychain.read("s", ["secret"], {}) == [Item("secret", "of few")]

    run(work, etcd.machine(prefix))


def test_expected_open_who_writes_in_the_cluster_can_put_an_older_value_back(etcd: Cluster, prefix: str) -> None:
    key = Seal(bytes.fromhex(etcd.fleet_key), prefix).value_key("s", "a")

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "withdrawn")], {})
        older = etcd.ask(0, "/v3/kv/range", msgspec.json.encode({"key": key}))["kvs"][0]["value"]
        await keychain.write("s", [("a", "new")], {})
        assert etcd.ask(0, "/v3/kv/put", msgspec.json.encode({"key": key, "value": older}))
        assert await keychain.read("s", ["a"], {}) == [Item("a", "withdrawn")]

    run(work, etcd.machine(prefix))


def test_members_and_clients_of_another_authority_are_not_talked_to(etcd: Cluster, prefix: str, tmp_path: Any) -> None:
    authority = Authority()
    certificate, key = authority.issue("stranger")
    for name, content in (("ca", authority.pem), ("certificate", certificate), ("key", key)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)

    async def work(deceived: EtcdKeychain, stranger: EtcdKeychain) -> None:
        for keychain, says in ((deceived, "certificate"), (stranger, "no member")):
            with pytest.raises(KeychainError, match=says):
                await keychain.write("s", [("a", "1")], {})

    own = {"certificate": str(tmp_path / "certificate"), "certificate_key": str(tmp_path / "key")}
    run(
        work,
        etcd.machine(prefix, ca=str(tmp_path / "ca"), seconds=2.0),
        etcd.machine(prefix, seconds=2.0, **own),
    )


# --- files --------------------------------------------------------------------------------------------


def test_files_that_are_not_what_they_must_be_are_refused_at_start(etcd: Cluster, tmp_path: Any) -> None:
    short, shown = tmp_path / "short", tmp_path / "shown"
    short.write_text("ab" * 31)
    short.chmod(0o600)
    shown.write_text("ab" * 32)
    shown.chmod(0o644)
    for changes, says in (
        ({"key_file": str(short)}, "64 hexadecimal digits"),
        ({"key_file": str(shown)}, "read by others"),
        ({"key_file": "relative"}, "absolute path"),
        ({"key_file": str(tmp_path / "none")}, "cannot read"),
        ({"ca": str(short)}, "certificates"),
        ({"endpoints": ("http://127.0.0.1:2379",)}, "https"),
        ({"endpoints": ()}, "endpoints"),
        ({"operations": 2}, "at least 3"),
    ):
        with pytest.raises(KeychainAuthError, match=says) as caught:
            etcd.machine("p/", **changes)
        assert caught.value.hint


def test_certificates_that_are_replaced_on_disk_are_used_for_the_next_connection(etcd: Cluster, tmp_path: Any) -> None:
    paths = etcd.client_files(str(tmp_path))
    identity = Identity(paths["ca"], paths["certificate"], paths["certificate_key"])
    first = identity.context()
    assert identity.context() is first
    certificate, key = etcd.authority.issue("renewed")
    _replace(paths["certificate"], certificate)
    assert identity.context() is first, "half replaced: the old pair is good still"
    _replace(paths["certificate_key"], key)
    assert identity.context() is not first


def _replace(path: str, content: bytes) -> None:
    with open(f"{path}.new", "wb") as file:
        file.write(content)
    os.rename(f"{path}.new", path)

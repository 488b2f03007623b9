"""All members of the cluster are killed: only who may gets what was answered before, and it is marked on record."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from daemon.requests import SUCCESS, failed, read, request, results, write
from keychain_auth.errors import KeychainError, KeychainGone
from keychain_auth.keychain.etcd.keychain import EtcdKeychain
from keychain_auth.keychain.owned import OwnedKeychain
from keychain_auth.model import Item
from support.etcd import Cluster, run
from support.lines import PATIENCE, until
from support.talker import Talker
from support.world import World

_NUMBERS = itertools.count()
# What must be answered while the cluster is there has to be within these seconds, on a busy machine too.
_IMPATIENT = "seconds = 4.0\nattempt_seconds = 2.0\nrest_seconds = 0.1\n"
_HASTY = {"seconds": 4.0, "attempt_seconds": 2.0, "rest_seconds": 600.0}
GONE = failed("internal_error")


@pytest.fixture
def prefix() -> str:
    return f"stale {next(_NUMBERS)}/"


@contextlib.contextmanager
def gone(etcd: Cluster) -> Iterator[None]:
    """While no member runs."""
    for number in range(3):
        etcd.kill(number)
    try:
        yield
    finally:
        for number in range(3):
            etcd.start(number)
        etcd.wait()


def items(found: dict[str, Any]) -> list[str]:
    return [f"{row['target']}={row.get('value', '')}" for row in found["results"]]


class Machine:
    """A daemon on the cluster, one program that is answered by what was said before, and one that is not."""

    def __init__(self, world: World, etcd: Cluster, prefix: str, more: str = "stale_seconds = 3600.0\n") -> None:
        self.world = world
        etcd.settle(world, prefix, _IMPATIENT + more)
        self.daemon = world.start()
        self.may: Talker = world.talker(world.granted("may", "fleet", "fleet-short", allow_stale_reads=True))
        self.may_not: Talker = world.talker(world.granted("may-not", "fleet", "fleet-short", variant="other"))

    def recorded(self, **fields: Any) -> list[dict[str, Any]]:
        """Lines of the audit log that have these."""
        return [line for line in self.world.audit() if all(line.get(name) == value for name, value in fields.items())]


def test_while_the_cluster_is_gone_only_who_may_gets_what_was_answered(
    etcd: Cluster, world: World, prefix: str
) -> None:
    it = Machine(world, etcd, prefix)
    assert it.may_not.ask(write({"a": "1", "b": "2", "unread": "3"}, "fleet", attributes={"k": "v"})) == SUCCESS
    assert items(it.may_not.ask(read("a", "b", "none", service="fleet"))) == ["a=1", "b=2"]
    assert items(it.may.ask(request("search", "fleet"))) == ["a=", "b=", "unread="]
    with gone(etcd):
        assert it.may_not.ask(read("a", service="fleet")) == GONE
        assert it.may.ask(read("b", "a", service="fleet", attributes={"k": "v"})) == results(
            {"target": "b", "value": "2", "attributes": {"k": "v"}},
            {"target": "a", "value": "1", "attributes": {"k": "v"}},
        )
        assert items(it.may.ask(read("a", "none", service="fleet"))) == ["a=1"]
        assert it.may.ask(read("a", "of this nobody knows", service="fleet")) == GONE
        assert items(it.may.ask(read("a", "b", service="fleet", match="prefix"))) == ["a=1", "b=2"]
        assert items(it.may.ask(request("search", "fleet", targets=["u"]))) == ["unread="]
        assert it.may_not.ask(request("search", "fleet")) == GONE
        assert it.may.ask(write({"a": "new"}, "fleet")) == GONE
        assert it.may.ask(request("delete", "fleet", targets=["b"], match="prefix")) == GONE
        health = world.cli_json("status")["keychains"]["keychains"]["shared"]
        assert health["state"] == "gone"
        assert health["local_copy"]["values"] >= 1
        assert it.may.ask(read("a", service="fleet")) == GONE, "a change of it was tried: nobody knows what it is"
        stale = it.recorded(stale=True)
        assert [(line["action"], line["targets"], line["result"]) for line in stale] == [
            ("read", ["b", "a"], "GRANTED"),
            ("read", ["a", "none"], "GRANTED"),
            ("read", ["a", "b"], "GRANTED"),
            ("search", ["unread"], "GRANTED"),
        ]
        assert all(0 < line["age_seconds"] < 60 and "local copy" in line["detail"] for line in stale)
        assert all("stale" not in line for line in it.recorded(binary_path=world.path("bin", "may-not")))
        assert "--stale-reads" in it.daemon.wait_log("allow_stale_reads")
    done = world.cli("audit", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: it.may_not.ask(read("b", service="fleet")) != GONE, "the cluster is asked again")
    before = len(it.recorded(stale=True))
    assert items(it.may.ask(read("a", "b", service="fleet"))) == ["a=1", "b=2"]
    assert len(it.recorded(stale=True)) == before, "the cluster is back"


def test_the_permission_of_the_moment_counts_and_a_lock_forgets_everything(
    etcd: Cluster, world: World, prefix: str
) -> None:
    it = Machine(world, etcd, prefix)
    assert it.may.ask(write({"a": "1", "b": "1"}, "fleet")) == SUCCESS
    with gone(etcd):
        assert items(it.may.ask(read("a", service="fleet"))) == ["a=1"]
        may = world.path("bin", "may")
        assert world.cli("register", may, "--no-stale-reads").returncode == 0
        assert it.may.ask(read("a", service="fleet")) == GONE
        assert world.cli("register", may, "--stale-reads").returncode == 0
        assert world.cli_json("list")["entries"][0]["allow_stale_reads"] is True
        assert items(it.may.ask(read("a", service="fleet"))) == ["a=1"]
        assert world.cli("lock").returncode == 0
        assert it.may.ask(read("a", service="fleet")) == failed("keychain_locked")
        assert world.cli("unlock").returncode == 0
        assert it.may.ask(read("a", service="fleet")) == GONE


def test_without_a_local_copy_in_the_settings_there_is_none(etcd: Cluster, world: World, prefix: str) -> None:
    it = Machine(world, etcd, prefix, more="")
    assert it.may.ask(write({"a": "1"}, "fleet")) == SUCCESS
    assert items(it.may.ask(read("a", service="fleet"))) == ["a=1"]
    with gone(etcd):
        assert it.may.ask(read("a", service="fleet")) == GONE
        assert "local_copy" not in world.cli_json("status")["keychains"]["keychains"]["shared"]


# --- what was seen removed, or is due -------------------------------------------------------------------


def test_what_the_daemon_saw_removed_or_is_due_is_not_answered(etcd: Cluster, prefix: str) -> None:
    async def work(here: EtcdKeychain, there: EtcdKeychain) -> None:
        await there.write(
            "s", [("kept", "1"), ("removed", "1"), ("listed", "1"), ("replaced", "old"), ("own", "1")], {}
        )
        await there.write("short", [("due", "1")], {})
        everything = ["kept", "removed", "listed", "replaced", "own"]
        assert len(await here.read("s", everything, {})) == 5
        found = await here.read("short", ["due"], {})
        assert found in ([Item("due", "1")], [])
        await there.delete("s", ["removed"], {})
        await there.write("s", [("replaced", "new")], {})
        assert await here.read("s", ["removed", "replaced"], {}) == [Item("replaced", "new")]
        await there.delete("s", ["listed"], {})
        assert len(await here.search("s", [], {})) == 3
        await here.delete("s", ["own"], {})
        ends = time.monotonic() + PATIENCE
        while (told := here.recall("read", "short", ["due"], {})) is not None and told.items:
            assert time.monotonic() < ends
            await asyncio.sleep(0)
        with gone(etcd):
            with pytest.raises(KeychainGone):
                await here.read("s", ["kept"], {})
            recalled = here.recall("read", "s", ["kept", "removed", "replaced"], {})
            assert recalled is not None
            assert recalled.items == [Item("kept", "1"), Item("replaced", "new")]
            assert here.recall("read", "s", ["listed"], {}) is None
            assert here.recall("read", "s", ["own"], {}) is None
            listed = here.recall("search", "s", [], {})
            assert listed is not None
            assert [item.target for item in listed.items] == ["kept", "replaced"]

    run(
        work,
        etcd.machine(prefix, **_HASTY, stale_seconds=3600.0),
        etcd.machine(prefix, **_HASTY, lifetimes={"short": "2s"}),
    )


def test_who_waits_behind_those_who_ask_a_cluster_that_is_gone_is_told_that_it_is(etcd: Cluster, prefix: str) -> None:
    """More requests than threads, while members do not even refuse: all are answered by the local copy."""

    async def work(keychain: EtcdKeychain) -> None:
        await keychain.write("s", [("a", "1")], {})
        for process in etcd.members:
            assert process is not None
            process.signal(signal.SIGSTOP)  # its kernel still takes connections
        try:
            asked = [asyncio.ensure_future(keychain.read("s", ["a"], {})) for _ in range(20)]
            for each in asked:
                with pytest.raises(KeychainGone):
                    await each
            assert keychain.recall("read", "s", ["a"], {}) is not None
        finally:
            for process in etcd.members:
                assert process is not None
                process.signal(signal.SIGCONT)
            await asyncio.to_thread(etcd.wait)

    run(work, etcd.machine(prefix, **_HASTY, stale_seconds=60.0))


def test_a_user_is_told_nothing_of_what_anothers_services_held(etcd: Cluster, prefix: str) -> None:
    async def work(keychain: EtcdKeychain) -> None:
        ann, bob = (OwnedKeychain(keychain, uid, lambda: {"team"}) for uid in (1, 2))
        await ann.write("s", [("a", "of ann")], {})
        await ann.write("team", [("a", "of all")], {})
        told = ann.recall("read", "s", ["a"], {})
        assert told is not None
        assert told.items == [Item("a", "of ann")]
        for name in ("s", "@1:s"):
            assert bob.recall("read", name, ["a"], {}) is None
            assert bob.recall("search", name, [], {}) is None
        shared = bob.recall("read", "team", ["a"], {})
        assert shared is not None
        assert shared.items == [Item("a", "of all")]
        bob.forget()
        assert ann.recall("read", "s", ["a"], {}) is None

    run(work, etcd.machine(prefix, **_HASTY, stale_seconds=60.0))


def test_only_a_cluster_that_does_not_answer_is_gone(etcd: Cluster, prefix: str, tmp_path: Any) -> None:
    """What answers with no is no reason to answer with something older."""
    other = tmp_path / "key"
    other.write_text("ab" * 32)
    other.chmod(0o600)

    async def work(right: EtcdKeychain, wrong: EtcdKeychain) -> None:
        await right.write("s", [("a", "1")], {})
        with pytest.raises(KeychainError, match="another key") as caught:
            await wrong.read("s", ["a"], {})
        assert not isinstance(caught.value, KeychainGone)

    run(work, etcd.machine(prefix, **_HASTY, stale_seconds=60.0), etcd.machine(prefix, **_HASTY, key_file=str(other)))

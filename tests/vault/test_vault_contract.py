"""The vault does what a dict would do: random operations on both, compared, over restarts.

What every keychain promises is tried in ``test_vault_keychain``.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from vault_lab import at_once, contents, open_at, opened, values

from keychain_auth.model import Item

# Few names out of few characters, so that they collide and begin with each other; the characters are those that
# separators, sorting and prefix bounds get wrong.
NAMES = st.text(alphabet="ab:/é\ud7ff\U0010ffff", min_size=1, max_size=4)
SERVICES = st.sampled_from(["svc", "svc:a", "svc:", "пароли"])
SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LONG = st.sampled_from([("v", 4096), ("v", 4097), ("ü", 2049), ("\N{KEY}", 65536)]).map(lambda pair: pair[0] * pair[1])
VALUES = st.one_of(SHORT, SHORT, SHORT, LONG)
ATTRIBUTES = st.dictionaries(st.sampled_from(["environment", "team"]), st.sampled_from(["", "a", "ß"]), max_size=2)
Stored = dict[tuple[str, str], tuple[str, dict[str, str]]]


def _fits(stored: dict[str, str], wanted: dict[str, str]) -> bool:
    return wanted.items() <= stored.items()


class VaultLikeADict(RuleBasedStateMachine):
    """``self.model`` is what the vault must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.vault = open_at(self.folder)
        self.model: Stored = {}

    def teardown(self) -> None:
        self.runner.run(self.vault.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _expected(self, service: str, targets: list[str], attributes: dict[str, str]) -> list[Item]:
        return [
            Item(target, value, stored or None)
            for target in targets
            for value, stored in [self.model.get((service, target), (None, {}))]
            if value is not None and _fits(stored, attributes)
        ]

    def _under(self, service: str, prefixes: list[str]) -> list[str]:
        return sorted(t for s, t in self.model if s == service and t.startswith(tuple(prefixes)))

    @rule(service=SERVICES, entries=st.dictionaries(NAMES, VALUES, max_size=20), attributes=ATTRIBUTES)
    def write(self, service: str, entries: dict[str, str], attributes: dict[str, str]) -> None:
        self.runner.run(self.vault.write(service, list(entries.items()), attributes))
        self.model.update({(service, target): (value, attributes) for target, value in entries.items()})

    @rule(service=SERVICES, names=st.lists(NAMES, max_size=20), attributes=ATTRIBUTES)
    def delete(self, service: str, names: list[str], attributes: dict[str, str]) -> None:
        self.runner.run(self.vault.delete(service, names, attributes))
        for item in self._expected(service, names, attributes):
            self.model.pop((service, item.target), None)

    @rule(service=SERVICES, names=st.lists(NAMES, max_size=8), attributes=ATTRIBUTES)
    def read(self, service: str, names: list[str], attributes: dict[str, str]) -> None:
        assert at_once(self.vault.read(service, names, attributes)) == self._expected(service, names, attributes)

    @rule(service=SERVICES, prefixes=st.lists(NAMES, min_size=1, max_size=4), attributes=ATTRIBUTES)
    def read_prefix(self, service: str, prefixes: list[str], attributes: dict[str, str]) -> None:
        expected = self._expected(service, self._under(service, prefixes), attributes)
        assert at_once(self.vault.read_prefix(service, prefixes, attributes)) == expected

    @rule(service=SERVICES, prefixes=st.lists(NAMES, max_size=4), attributes=ATTRIBUTES)
    def search(self, service: str, prefixes: list[str], attributes: dict[str, str]) -> None:
        found = self._expected(service, self._under(service, prefixes or [""]), attributes)
        expected = [Item(item.target, None, item.attributes) for item in found]
        assert at_once(self.vault.search(service, prefixes, attributes)) == expected

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.vault.close())
        self.vault = open_at(self.folder)
        assert contents(self.vault) == {key: (value, a or None) for key, (value, a) in self.model.items()}

    @invariant()
    def knows_its_services(self) -> None:
        assert at_once(self.vault.services()) == sorted({service for service, _ in self.model})
        assert self.vault.health()["secrets"] == len(self.model)


TestVaultLikeADict = VaultLikeADict.TestCase
TestVaultLikeADict.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_service_and_target_are_never_confused(tmp_path: Path) -> None:
    """Joined with a separator, the two names below would be one. First the naive way, then ours."""
    pairs = [("svc", "prod:pw"), ("svc:prod", "pw"), ("svcprod", ":pw"), ("svc:prod:pw", "x")]
    naive: dict[str, str] = {}
    for service, target in pairs[:2]:
        naive[f"{service}:{target}"] = f"value of {service}"
    assert naive["svc:prod:pw"] == "value of svc:prod"  # the value of the other service

    with opened(tmp_path) as (vault, runner):
        for service, target in pairs:
            runner.run(vault.write(service, [(target, f"value of {service}")], {}))
    with opened(tmp_path) as (vault, _):
        for service, target in pairs:
            assert values(at_once(vault.read(service, [target], {}))) == [f"value of {service}"]
            assert at_once(vault.search(service, [], {})) == [Item(target)]


def test_a_large_batch_keeps_the_order(tmp_path: Path) -> None:
    """Adding and removing many targets at once takes another way through the index than few."""
    with opened(tmp_path) as (vault, runner):
        names = [f"n{number:04}" for number in range(1000)]
        runner.run(vault.write("svc", [(name, name) for name in names[1::2]], {}))
        runner.run(vault.write("svc", [(name, name) for name in names[::2]], {}))
        assert [item.target for item in at_once(vault.search("svc", [], {}))] == names
        runner.run(vault.delete("svc", names[:600], {}))
        assert [item.target for item in at_once(vault.search("svc", [], {}))] == names[600:]

"""Routes, the router, and what is loaded when."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from keychain_auth.errors import KeychainError, NotFound
from keychain_auth.keychain.budget import ANSWER_BYTES
from keychain_auth.keychain.kinds import SecretServiceSettings
from keychain_auth.keychain.router import Router
from keychain_auth.keychain.routes import Routes
from keychain_auth.model import Item
from keychain_auth.testing import KeychainContract, Store
from keychains.test_contract_suite import InMemory, Key

TABLE = {
    "github": "desktop",
    "work-*": "work",
    "work-special-*": "desktop",
    "?": "one",
    "v[0-9]": "number",
    "v[!0-9]": "other",
    "[a]": "brackets",
    "*": "rest",
}


@pytest.mark.parametrize(
    ("service", "keychain"),
    [
        ("github", "desktop"), ("github.com", "rest"), ("GitHub", "rest"), ("work-", "work"), ("work-db", "work"),
        ("work-special-db", "work"), ("my-work-db", "rest"), ("a", "one"), ("", "rest"), ("v1", "number"),
        ("vx", "other"), ("[a]", "brackets"), ("work-\n", "work"), ("é", "one"), ("v\u0661", "other"),
    ],
)  # fmt: skip
def test_a_name_goes_before_patterns_and_the_first_pattern_counts(service: str, keychain: str) -> None:
    routes = Routes("vault", TABLE)
    assert routes.find(service) == keychain
    assert routes.find(service) == keychain  # the second time it is remembered


def test_without_a_route_it_is_the_default() -> None:
    routes = Routes("vault", {"a": "x", "b": "x"})
    assert routes.find("c") == "vault"
    assert routes.used() == ["vault", "x"]
    for number in range(5000):
        routes.find(f"service {number}")
    assert len(routes._known) <= 1024


DESKTOP = SecretServiceSettings()


class Elsewhere(InMemory):
    """Opened by name, as ``kinds`` opens others."""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> tuple[Router, InMemory, InMemory]:
    here, there = InMemory(), Elsewhere()
    monkeypatch.setattr("keychain_auth.keychain.router.open_keychain", lambda *_: there)
    router = Router(
        here,
        Routes("vault", {"there*": "desktop"}),
        {"desktop": SecretServiceSettings()},
        answer_bytes=1000,
    )
    return router, here, there


def test_each_service_lies_where_its_route_says(two: tuple[Router, InMemory, InMemory]) -> None:
    router, here, there = two

    async def use() -> None:
        for service in ("here", "there", "there too"):
            await router.write(service, [("t", service)], {"a": "b"})
            assert await router.read(service, ["t"], {}) == [Item("t", service, {"a": "b"})]
            assert await router.read_prefix(service, [""], {}) == [Item("t", service, {"a": "b"})]
            assert await router.search(service, [], {"a": "b"}) == [Item("t", None, {"a": "b"})]
        assert {key[0] for key in here.items} == {"here"}
        assert {key[0] for key in there.items} == {"there", "there too"}
        # What lies where no route leads is not there.
        await here.write("there", [("hidden", "v")], {})
        await there.write("here", [("hidden", "v")], {})
        assert await router.services() == ["here", "there", "there too"]
        assert await router.read("there", ["hidden"], {}) == []
        await router.delete("there", ["t", "hidden"], {})
        assert await router.services() == ["here", "there too"]
        assert len(here.items) == 2
        await router.close()
        assert there.closed
        assert not here.closed

    asyncio.run(use())


def test_a_keychain_that_fails_is_named_and_does_not_hide_the_others(two: tuple[Router, InMemory, InMemory]) -> None:
    router, _, there = two
    there.closed = True

    async def use() -> None:
        await router.write("here", [("t", "v")], {})
        assert await router.read("here", ["t"], {}) == [Item("t", "v")]
        with pytest.raises(KeychainError, match="desktop: closed"):
            await router.services()
        with pytest.raises(NotFound, match="no keychain 'nowhere'; there are: vault, desktop"):
            router.named("nowhere")

    asyncio.run(use())


def test_a_probe_waits_a_second_and_no_longer(two: tuple[Router, InMemory, InMemory]) -> None:
    router, _, there = two

    async def use() -> None:
        never = asyncio.Event()

        async def hang() -> None:
            await never.wait()

        there.probe = hang  # type: ignore[method-assign]
        async with asyncio.timeout(60):
            await router.probe()
        never.set()
        await asyncio.sleep(0)
        assert set(router.health()["keychains"]) == {"vault", "desktop"}  # type: ignore[call-overload]

    asyncio.run(use())


class RouterStore(Store):
    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}

    def open(self) -> Any:
        keychain = InMemory()
        keychain.items = self.items

        class Closing(Router):
            async def close(self) -> None:
                await super().close()
                await keychain.close()

        router: Any = Closing(keychain, Routes("vault", {}), {}, answer_bytes=ANSWER_BYTES)
        return router


class TestRouter(KeychainContract):
    @pytest.fixture
    def store(self) -> RouterStore:
        return RouterStore()

    test_an_answer_that_grows_too_large_is_none = None  # the bound is that of the keychains behind it


# --- what is loaded when ------------------------------------------------------------------------

_DESKTOP = ("jeepney", "keychain_auth.secret_service", "keychain_auth.keychain.secret_service")
_UNUSED = (*_DESKTOP, "http.client", "keychain_auth.keychain.etcd", "keychain_auth.keychain.windows")


def loaded_after(code: str) -> set[str]:
    """The modules of ``_UNUSED`` that a fresh interpreter has after ``code``."""
    tell = f"\nimport sys; print(*[name for name in {_UNUSED!r} if name in sys.modules], sep=chr(10))"
    done = subprocess.run([sys.executable, "-c", code + tell], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import keychain_auth.daemon.app, keychain_auth.cli.app, keychain_auth",
        """
from keychain_auth.keychain.kinds import SecretServiceSettings
from keychain_auth.keychain.router import Router
from keychain_auth.keychain.routes import Routes
Router(object(), Routes('vault', {}), {'secret-service': SecretServiceSettings()}, answer_bytes=1)
""",
    ],
    ids=["the daemon", "a keychain that no route names"],
)
def test_no_library_is_loaded_that_is_not_used(code: str) -> None:
    assert loaded_after(code) == set()


def test_the_library_is_loaded_when_it_is_used() -> None:
    pytest.importorskip("jeepney")
    code = """
from keychain_auth.keychain.kinds import *
open_keychain('desktop', SecretServiceSettings(), 1)
"""
    assert loaded_after(code) == set(_DESKTOP)


def test_a_library_that_is_missing_is_named_with_what_installs_it() -> None:
    code = (
        "import sys; sys.modules['jeepney'] = None\n"
        "from keychain_auth.keychain.kinds import *\n"
        "from keychain_auth.errors import KeychainAuthError\n"
        "try: open_keychain('desktop', SecretServiceSettings(), 1)\n"
        "except KeychainAuthError as error: assert 'jeepney' in str(error) and 'extra secret-service' in error.hint\n"
        "else: raise AssertionError\n"
        "del sys.modules['jeepney']"
    )
    loaded_after(code)


def test_a_kind_without_an_extra_names_none() -> None:
    code = (
        "import sys; sys.modules['keychain_auth.keychain.windows'] = None\n"
        "from keychain_auth.keychain.kinds import *\n"
        "from keychain_auth.errors import KeychainAuthError\n"
        "try: open_keychain('mine', CredentialManagerSettings(), 1)\n"
        "except KeychainAuthError as error: assert error.hint == 'install keychain-auth, as the README says'\n"
        "else: raise AssertionError\n"
        "del sys.modules['keychain_auth.keychain.windows']"
    )
    loaded_after(code)

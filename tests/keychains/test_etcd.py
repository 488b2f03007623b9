"""A cluster of etcd as a keychain passes the contract of all keychains, with three real members."""

from __future__ import annotations

import itertools

import pytest

from keychain_auth.keychain.budget import ANSWER_BYTES
from keychain_auth.keychain.etcd.keychain import EtcdKeychain, open_keychain
from keychain_auth.testing import KeychainContract, Store
from support.etcd import Cluster

_NUMBERS = itertools.count()


class EtcdStore(Store):
    """Below a prefix of its own: empty at first."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._prefix = f"contract {next(_NUMBERS)}/"

    def open(self) -> EtcdKeychain:
        settings = self._cluster.settings(prefix=self._prefix, seconds=5.0, attempt_seconds=2.0)
        return open_keychain(settings, ANSWER_BYTES)

    async def take_away(self) -> None:
        for number in range(3):
            self._cluster.kill(number)

    async def bring_back(self) -> None:
        for number in range(3):
            self._cluster.start(number)
        self._cluster.wait()


class TestEtcd(KeychainContract):
    patience = 20.0  # ``seconds`` of the store, on a machine that does much else

    @pytest.fixture
    def store(self, etcd: Cluster) -> EtcdStore:
        return EtcdStore(etcd)

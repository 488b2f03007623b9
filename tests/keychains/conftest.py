"""A cluster for the tests of keychains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import etcd as clusters
from support.etcd import Cluster
from support.world import World


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members, all of them running; skipped where there is no etcd. Tests share it: each has its own prefix."""
    if reason := clusters.missing():
        pytest.skip(reason)
    place = World()
    try:
        yield Cluster(place, str(tmp_path_factory.mktemp("client")))
    finally:
        place.close()

"""A desktop keyring, and a cluster, for the tests of keychains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import etcd as clusters
from support import secret_service
from support.etcd import Cluster
from support.secret_service import Desktop
from support.world import World


@pytest.fixture
def desktop(world: World) -> Iterator[Desktop]:
    """A session with a real gnome-keyring; skipped where there is none."""
    if reason := secret_service.missing():
        pytest.skip(reason)
    place = Desktop(world)
    try:
        yield place
    finally:
        place.close()


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

"""Clusters of three primaries with a replica each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from app.ledger.connection import connect
from tests.cluster.calling import SHARDS
from tests.cluster.servers import Cluster
from tests.folders import reachable_folder


@pytest.fixture(scope="session")
def _shared_cluster() -> Iterator[Cluster]:
    with reachable_folder() as folder, Cluster(folder) as cluster:
        yield cluster


@pytest.fixture
def cluster(_shared_cluster: Cluster) -> Iterator[Cluster]:
    """Shared, and empty. Its primaries share the shards; who was killed is started afterwards."""
    _shared_cluster.spread(SHARDS)
    yield _shared_cluster
    for server in _shared_cluster.servers:
        if not server.alive:
            server.start()
    _shared_cluster.until_whole()
    _shared_cluster.be_empty()


@pytest.fixture
def own_cluster(reachable_tmp_path: Path) -> Iterator[Cluster]:
    """For tests that kill: a server that is away for two seconds is dead, and its replica takes over."""
    with Cluster(reachable_tmp_path, node_timeout_ms=2000) as cluster:
        yield cluster


@pytest.fixture
async def redis(cluster: Cluster) -> AsyncIterator[Redis]:
    """A client of the shared cluster, as the ledger has it."""
    async with connect(cluster.url) as client:
        yield client

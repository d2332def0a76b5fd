"""Clusters of three primaries with a replica each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from app.ledger.connection import connect
from tests.chaos.storm.inspection import Inspection
from tests.chaos.storm.stage import SHARDS as STAGE_SHARDS
from tests.cluster.calling import SHARDS
from tests.cluster.servers import Cluster
from tests.cluster.stage import Counter
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def counter(inspection: Inspection) -> AsyncIterator[Counter]:
    """With credits in each shard of the ledger that a module inspects."""
    counter = Counter(inspection)
    for shard in range(STAGE_SHARDS):
        await counter.grant(shard)
    yield counter
    counter.close()

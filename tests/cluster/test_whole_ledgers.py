"""A whole ledger on a real cluster, and what befalls clusters: a town asks all the while, and in the end of
each test every answer, every balance and every entry is held against each other.

The ledger is the same in all of them, at `LASTRO_ACK=replicated=1`: a replica has what was answered.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.chaos.scenes import until, until_answered
from tests.chaos.storm.inspection import Inspection
from tests.chaos.storm.records import Applied
from tests.chaos.storm.stage import SHARDS
from tests.cluster.servers import Cluster
from tests.cluster.stage import Counter, inspected_on
from tests.folders import reachable_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Of this ledger alone: who is away for two seconds is dead."""
    with reachable_folder() as folder, Cluster(folder, node_timeout_ms=2000) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inspection(cluster: Cluster) -> AsyncIterator[Inspection]:
    async with inspected_on(cluster, ack="replicated=1") as inspection:
        yield inspection


async def all_is_well(inspection: Inspection) -> None:
    """Nothing was lost, nothing was done twice, and both stores say the same."""
    await inspection.calm(everything=True)
    assert inspection.book.findings.sentences == []


async def test_a_ledger_on_a_cluster_keeps_every_promise_of_one_on_a_redis(inspection: Inspection):
    async with inspection.town.at_work():
        await until_answered(inspection, 300)
    await all_is_well(inspection)


async def test_the_operators_commands_find_nothing_amiss(inspection: Inspection):
    for command in (["reconcile"], ["verify", "--from", "1"]):
        ran = await inspection.stage.lastro(*command)
        assert 0 == ran.returncode, ran.stdout + ran.stderr
    told = (await inspection.stage.lastro("doctor")).stdout
    assert not {"critical", "unknown"} & set(told.split()), told


async def test_a_batch_is_answered_across_shards_and_all_or_none_of_it_within_one(counter: Counter):
    status, told = await counter.batch([*range(SHARDS), *range(SHARDS)], atomic=False)
    assert (200, [201] * 2 * SHARDS) == (status, [each["status"] for each in told["results"]])
    status, told = await counter.batch([0, 0, 0], atomic=True)
    assert (200, [201] * 3) == (status, [each["status"] for each in told["results"]])
    status, told = await counter.batch([0, 1], atomic=True)
    assert (422, "batch_across_shards") == (status, told["code"])


async def test_a_slot_that_is_moved_under_load_loses_nothing_and_doubles_nothing(
    inspection: Inspection, cluster: Cluster
):
    """There, and back again."""
    async with inspection.town.at_work():
        for _ in range(2):
            await until_answered(inspection, 100)
            await asyncio.to_thread(cluster.move, 0, cluster.elsewhere(0))
        await until_answered(inspection, 100)
    await all_is_well(inspection)


async def test_a_failover_under_load_loses_nothing_that_was_answered_and_the_other_shards_go_on(
    inspection: Inspection, cluster: Cluster, counter: Counter
):
    """What the replica has must be enough: the journal has nothing of the last moments."""
    dead = cluster.server_of(0)
    replica = cluster.replica_of(dead)
    away = [shard for shard in range(SHARDS) if cluster.server_of(shard) is dead]
    others = [shard for shard in range(SHARDS) if shard not in away]
    async with inspection.town.at_work():
        with inspection.stage.workers_at_rest():
            await until_answered(inspection, 100)
            cluster.ask(replica, "CONFIG", "SET", "cluster-replica-no-failover", "yes")
            dead.kill()
            for shard in [*others, *others, away[0], *others]:
                is_served = isinstance(await counter.deduct(shard), Applied)
                assert is_served == (shard in others), counter.story
            cluster.ask(replica, "CONFIG", "SET", "cluster-replica-no-failover", "no")
            await asyncio.to_thread(cluster.until_taken_over, 0, replica)
        dead.start()
        await asyncio.to_thread(cluster.until_whole)

        async def all_served() -> bool:
            return all([isinstance(await counter.deduct(shard), Applied) for shard in range(SHARDS)])

        await until(all_served)
        await until_answered(inspection, 100)
    await all_is_well(inspection)

"""What a cluster loses, a whole ledger notices: at `LASTRO_ACK=memory` a replica takes over that lacks what
was answered, or a node comes back with nothing. Nothing false is served, and what is gone is named.
"""

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from app.embedded import Valkey
from app.ledger import keys
from tests.chaos.scenes import lag, until, until_fenced
from tests.chaos.storm.inspection import Inspection
from tests.chaos.storm.records import Applied
from tests.chaos.storm.stage import SHARDS
from tests.cluster.servers import Cluster
from tests.cluster.stage import ACCOUNTS, Counter, inspected_on
from tests.folders import reachable_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with reachable_folder() as folder, Cluster(folder) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inspection(cluster: Cluster) -> AsyncIterator[Inspection]:
    async with inspected_on(cluster, ack="memory") as inspection:
        inspection.book.excused.add("ledger_fenced")  # while a shard is rolled forward, or restored
        yield inspection


async def journaled(inspection: Inspection) -> None:
    async def nothing_lacks() -> bool:
        return await lag(inspection) == 0

    await until(nothing_lacks)


async def served(counter: Counter, shards: list[int]) -> None:
    """Until a credit of each of these can be spent."""

    async def all_are() -> bool:
        return all([isinstance(await counter.deduct(shard), Applied) for shard in shards])

    await until(all_are, 40)


def replace(cluster: Cluster, primary: Valkey) -> None:
    """It is killed, and its replica takes its place; once it comes back it follows that one."""
    replica = cluster.replica_of(primary)
    primary.kill()
    cluster.promote(replica)
    cluster.ask(replica, "CONFIG", "SET", "masterauth", cluster.password)
    primary.start()
    cluster.until_whole()


async def lost(inspection: Inspection) -> int:
    """How many operations are reported to be gone."""
    asked = "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM acknowledged_lost"
    return int(await inspection.database.fetchval(asked))


async def all_is_well(inspection: Inspection) -> None:
    await inspection.calm(everything=True)
    assert not inspection.book.findings.sentences, "\n".join(inspection.book.findings.sentences)


async def test_what_a_replica_lacks_and_the_journal_has_is_rolled_forward(
    inspection: Inspection, cluster: Cluster, counter: Counter
):
    primary = cluster.server_of(0)
    await journaled(inspection)
    cluster.lose_touch(cluster.replica_of(primary))
    before = [await counter.deduct(0) for _ in range(10)]
    await journaled(inspection)
    replace(cluster, primary)
    await served(counter, [0])
    after = await counter.deduct(0)
    assert isinstance(after, Applied)
    assert after.balance.version > before[-1].balance.version
    assert 0 == await lost(inspection)
    await all_is_well(inspection)


async def test_what_neither_a_replica_nor_the_journal_has_is_reported_and_nothing_else_is_lost(
    inspection: Inspection, cluster: Cluster, counter: Counter
):
    primary, book = cluster.server_of(0), inspection.book
    first = await counter.deduct(0)
    await journaled(inspection)
    cluster.lose_touch(cluster.replica_of(primary))
    with inspection.stage.workers_at_rest():
        told = [await counter.deduct(0) for _ in range(5)]
        assert all(isinstance(each, Applied) for each in told)
        gone, book.records[:] = book.records[-5:], book.records[:-5]
        replace(cluster, primary)
    book.told.pop(ACCOUNTS[0])
    await served(counter, [0])
    inspection.proofs.may_lose = True

    async def is_reported() -> bool:
        return await lost(inspection) > 0

    await until(is_reported)
    assert 5 == await lost(inspection)
    kept = await inspection.database.fetch(
        "SELECT model FROM journal WHERE model = ANY($1)", [each.mark for each in gone]
    )
    assert [] == kept
    doctor = (await inspection.stage.lastro("doctor")).stdout
    assert "acknowledged_lost" in doctor
    after = await counter.deduct(0)
    assert first.balance.available > after.balance.available > told[-1].balance.available - 5
    await all_is_well(inspection)


async def test_a_primary_that_comes_back_empty_is_fenced_and_its_shards_are_restored_while_others_go_on(
    inspection: Inspection, cluster: Cluster, counter: Counter
):
    primary = cluster.server_of(0)
    its = [shard for shard in range(SHARDS) if cluster.server_of(shard) is primary]
    others = [shard for shard in range(SHARDS) if shard not in its]
    await journaled(inspection)
    primary.kill()
    shutil.rmtree(primary.folder() / "appendonlydir")
    primary.start()
    cluster.until_whole()
    assert [None] * len(its) == [cluster.ask(primary, "GET", keys.meta(shard)) for shard in its]
    await until_fenced(inspection, set(its))
    assert None is await counter.deduct(its[0])
    assert all([isinstance(await counter.deduct(shard), Applied) for shard in others])
    salvage = str(inspection.stage.folder / "salvaged.jsonl")
    ran = await inspection.stage.lastro("restore", "--yes", "--salvage", salvage)
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    await served(counter, its)
    await all_is_well(inspection)

"""The journal of a cluster: each node's shards are kept whatever becomes of the others (I8)."""

import asyncio
import logging
import os
import signal
from contextlib import asynccontextmanager

import pytest

from app.ledger.connection import connect
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from tests.cluster.born import all_admitted, born, calling, sequences, shards_of, statuses
from tests.cluster.calling import SHARDS
from tests.cluster.servers import Cluster


@asynccontextmanager
async def working(database_url: str, url: str):
    """A worker meanwhile."""
    draining = asyncio.create_task(drain(database_url, url, 120, keep=None))
    try:
        yield
        assert not draining.done()
    finally:
        draining.cancel()
        await asyncio.wait({draining})


async def journaled(database, cursors: dict[int, int], seconds: float = 10.0) -> None:
    """Wait until the journal of these shards is there."""
    async with asyncio.timeout(seconds):
        while True:
            rows = await database.fetch("SELECT shard, cursor FROM shards")
            found = {row["shard"]: row["cursor"] for row in rows}
            if all(found[shard] >= cursor for shard, cursor in cursors.items()):
                return
            await asyncio.sleep(0.005)


def waits(caplog) -> list[str]:
    return [each for each in caplog.messages if each.startswith("the journal of shard")]


async def test_what_is_there_and_what_comes_is_journaled_of_every_node(
    database, database_url, redis, cluster: Cluster
):
    caller = calling(redis, cluster, await born(database, database_url, redis, cluster))
    assert ["ok"] * SHARDS == await statuses(caller)
    async with working(database_url, cluster.url):
        await journaled(database, dict.fromkeys(range(SHARDS), 1))
        for count in (2, 3, 4):
            assert ["ok"] * SHARDS == await statuses(caller)
            await journaled(database, dict.fromkeys(range(SHARDS), count), seconds=1.0)
    assert [4] * SHARDS == await sequences(redis, range(SHARDS))
    assert SHARDS * 4 == await database.fetchval("SELECT count(*) FROM journal")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_node_that_is_away_holds_up_no_other_and_goes_on_when_it_is_back(
    database, database_url, redis, cluster: Cluster, caplog, how
):
    caplog.set_level(logging.WARNING, "persistence.away")
    caller = calling(redis, cluster, await born(database, database_url, redis, cluster))
    its = shards_of(cluster, 0)
    others = [shard for shard in range(SHARDS) if shard not in its]
    async with working(database_url, cluster.url):
        assert ["ok"] * SHARDS == await statuses(caller)
        await journaled(database, dict.fromkeys(range(SHARDS), 1))
        server = cluster.server_of(0)
        if how is signal.SIGKILL:
            server.kill()
        else:
            os.kill(server.pid, how)
        try:
            for count in (2, 3, 4):
                for shard in others:
                    assert "ok" == (await caller.grant(shard)).status
                await journaled(database, dict.fromkeys(others, count), seconds=5.0)
                await asyncio.sleep(0.5)
        finally:
            if how is signal.SIGSTOP:
                os.kill(server.pid, signal.SIGCONT)
            else:
                server.start()
        said = waits(caplog)
        assert 1 <= len(said) <= 2  # one for each part of the shards that the worker has
        cluster.until_whole()
        caller.terms = await all_admitted(database, redis)
        for shard in its:
            assert "ok" == (await caller.grant(shard)).status
        await journaled(database, dict.fromkeys(its, 2))
        assert waits(caplog)[-1].endswith("goes on")


async def test_a_shard_that_was_moved_is_journaled_where_it_is_and_nothing_is_lost(
    database, database_url, redis, cluster: Cluster
):
    caller = calling(redis, cluster, await born(database, database_url, redis, cluster))
    async with working(database_url, cluster.url):
        assert ["ok"] * SHARDS == await statuses(caller)
        await journaled(database, dict.fromkeys(range(SHARDS), 1))
        for count in (2, 3):
            cluster.move(1, cluster.elsewhere(1))
            caller.terms = await admit(database, redis)
            assert ["ok"] * SHARDS == await statuses(caller)
            await journaled(database, dict.fromkeys(range(SHARDS), count))
    assert 3 == await database.fetchval("SELECT count(*) FROM journal WHERE shard = 1")


async def test_the_replica_that_took_over_is_journaled_unasked(database, database_url, own_cluster: Cluster):
    await give_birth(database_url, own_cluster.url, SHARDS)
    async with connect(own_cluster.url) as redis:
        caller = calling(redis, own_cluster, await admit(database, redis))
        async with working(database_url, own_cluster.url):
            assert ["ok"] * SHARDS == await statuses(caller)
            await journaled(database, dict.fromkeys(range(SHARDS), 1))
            lost = own_cluster.server_of(0)
            replica = own_cluster.replica_of(lost)
            lost.kill()
            own_cluster.until_taken_over(0, replica)
            caller.terms = await all_admitted(database, redis)
            assert ["ok"] * SHARDS == await statuses(caller)
            await journaled(database, dict.fromkeys(range(SHARDS), 2))

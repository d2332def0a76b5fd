"""Entries are counted once each, whoever counts and whatever befalls the journal; and nobody waits for it."""

import asyncio
import random
import time
from datetime import UTC, datetime

from app.ledger import keys
from app.ledger.operations import Grant, Reserve
from app.ledger.shards import new_reservation_id, shard_of
from persistence.admission import admit
from persistence.monitoring import PostgresMonitoring
from persistence.monitoring.counting import count
from persistence.monitoring.snapshots import Snapshots
from persistence.reconcile.adopt import adopt
from persistence.session import connect
from tests.integration.books import Shop
from tests.integration.journal.conftest import caller, ledger, worker
from tests.integration.journal.workers import SHARDS, keep_journal
from tests.integration.monitoring.comparing import assert_all
from tests.integration.monitoring.tally import Tally
from tests.integration.streams import replace_server

__all__ = ["caller", "ledger", "worker"]

LEFT = """
SELECT sum(cursor - coalesce(seq, 0)) FROM shards LEFT JOIN usage_cursors USING (shard)
"""


async def assert_counted(database, seed: int = 0) -> Tally:
    """Look at the whole, and demand that all is right."""
    now = datetime.now(UTC)
    async with database.acquire() as connection:
        await Snapshots().renew(connection, now)
    tally = await Tally.of(database)
    assert len(tally.lines) == await database.fetchval("SELECT counted FROM usage_state")
    await assert_all(tally, PostgresMonitoring(database, lambda: now), random.Random(seed), now)
    return tally


async def test_those_who_count_at_once_and_die_at_any_moment_count_everything_once(
    database, database_url, caller, worker
):
    """All of it was there before anybody counted, as after an upgrade."""
    await Shop(caller, SHARDS, seed=4).trade(calls=60)
    await keep_journal(worker)
    chance, deaths, seconds_max = random.Random(4), 0, 0.02

    async def counter() -> None:
        nonlocal deaths
        connection = await connect(database_url)
        try:
            async with asyncio.timeout(chance.uniform(0.001, seconds_max)):
                while await count(connection, entries_max=20):
                    pass
        except TimeoutError:
            deaths += 1
        finally:
            connection.terminate()

    while await database.fetchval(LEFT):
        await asyncio.gather(*(counter() for _ in range(3)))
        seconds_max *= 1.3  # however slow the machine is, some come to an end
    assert deaths > 3
    assert len((await assert_counted(database)).lines) > 150


async def test_who_counts_while_another_does_leaves_it_to_him(database, caller, worker):
    await Shop(caller, SHARDS, seed=1).trade(calls=5)
    await keep_journal(worker)
    async with database.acquire() as one, database.acquire() as other:
        async with one.transaction():
            assert await count(one) > 0
            async with asyncio.timeout(5):
                assert 0 == await count(other)
        assert 0 == await count(other)
    await assert_counted(database)


async def test_the_journal_does_not_wait_for_who_counts(database, caller, worker):
    shop = Shop(caller, SHARDS, seed=2)
    await shop.trade(calls=5)
    await keep_journal(worker)
    async with database.acquire() as counting, counting.transaction():
        assert await count(counting) > 0
        await shop.trade(calls=5)
        async with asyncio.timeout(5):
            await keep_journal(worker)
    assert 0 < await database.fetchval(LEFT)
    async with database.acquire() as connection:
        await count(connection)
    await assert_counted(database)


async def stay(caller):
    """Reserve for long; what trade leaves open depends on how fast it is."""
    shard = shard_of("stays", SHARDS)
    reservation = new_reservation_id(shard, time.time_ns() // 1_000_000)
    await caller.call(
        [
            Grant(shard=shard, account="stays", amount=5, open=True),
            Reserve(shard=shard, account="stays", reservation=reservation, amount=5, ttl_ms=86_400_000),
        ]
    )


async def test_entries_that_took_the_place_of_lost_ones_are_counted_as_what_they_are(
    database, database_url, redis, redis_url, caller, worker
):
    """Some reservations are known before, others are not, and some go on afterwards."""
    shop = Shop(caller, SHARDS, seed=5)
    await shop.trade(calls=30)
    await keep_journal(worker)
    async with database.acquire() as connection:
        await count(connection)
        await stay(caller)
        await shop.trade(calls=40)
        for shard in range(SHARDS):
            last = int(await redis.hget(keys.meta(shard), "sequence"))
            await redis.xtrim(keys.journal(shard), minid=f"{last - 19}-0", approximate=False)
        await replace_server(redis)
        assert await adopt(database_url, redis_url, "ana")
        while await count(connection, entries_max=30):
            pass
        caller.terms = await admit(database, redis)
        await shop.trade(calls=30)
        await keep_journal(worker)
        while await count(connection):
            pass
    tally = await assert_counted(database)
    stands = [line.entry for line in tally.lines if line.entry.stands is not None]
    assert {"pending"} < {entry.stands.status for entry in stands}

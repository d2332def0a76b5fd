"""Restoring while two operators meet, and everybody meddles."""

import asyncio
import json

import pytest

from app.ledger import keys
from app.ledger.operations import Deduct
from persistence.admission import admit
from persistence.drain import drain
from persistence.fences import fence, unfence
from persistence.restore import RestoreRefused, filling
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.state import assert_same, in_redis
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller

CUT_OFF = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE application_name = 'lastro restore' AND datname = current_database()
"""


async def test_a_restore_that_has_lost_its_lock_removes_nothing_of_the_next_one(
    caller, database, database_url, redis, redis_url, restored, monkeypatch
):
    """Cut off from PostgreSQL, which lets another operator begin, it still has a page to send to Redis."""
    operation = Deduct(shard=0, account="ana0", amount=1, key="k", fingerprint="f")
    await caller.grant(0, calls=3)
    await caller.call([operation])
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.hset(keys.meta(0), "fence", "look at this")
    sending, goes_on = asyncio.Event(), asyncio.Event()
    send = filling.load

    async def held_up(*arguments, **named):
        monkeypatch.undo()
        sending.set()
        await goes_on.wait()
        return await send(*arguments, **named)

    monkeypatch.setattr(filling, "load", held_up)
    first = asyncio.create_task(restored())
    await sending.wait()
    await database.execute(CUT_OFF)

    async def late(step: str) -> None:
        if step == "after removal":
            goes_on.set()
            with pytest.raises(RestoreRefused):
                await first

    found = await restored(barrier=late)
    assert (found.drift, found.fences) == ([], {})
    assert_same(before, await in_redis(redis, SHARDS))


async def test_a_restore_that_slept_while_another_one_was_done_touches_nothing(
    caller, database, database_url, redis, redis_url, restored
):
    """Its next step would be to empty what is served by now."""
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.flushall()
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleeps(step: str) -> None:
        if step == "after salvage":
            asleep.set()
            await awake.wait()

    first = asyncio.create_task(restored(barrier=sleeps))
    await asleep.wait()
    await database.execute(CUT_OFF)
    assert (await restored()).fences == {}
    await Caller(redis, await admit(database, redis)).grant(0, calls=2)
    awake.set()
    with pytest.raises(RestoreRefused, match="no longer as it was"):
        await first
    await journal_all(database_url, redis_url)
    assert json.loads(await redis.get(keys.account(0, "ana0")))["available"] == 5
    assert await database.fetchval("SELECT available FROM accounts") == 5


async def test_a_restore_that_everybody_meddles_with_comes_to_the_same(
    caller, database, database_url, redis, redis_url, restored
):
    """Processes admit, a worker drains, an operator opens and closes, and an old process still calls."""
    await Traffic(caller, SHARDS, seed=21).run(30)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    steps = []

    async def meddled_with(step: str) -> None:
        steps.append(step)
        assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))
        assert (await unfence(database, redis, None, "somebody is in a hurry")).opened == []
        assert await fence(database, redis, None, "somebody is late") == []
        assert (await caller.call([Deduct(shard=0, account="account-0", amount=1)])).status == "not_admitted"
        await drain(database_url, redis_url, 0.01, keep=None)

    found = await restored(barrier=meddled_with)
    assert (len(steps), found.drift, found.fences) == (7, [], {})
    assert_same(before, await in_redis(redis, SHARDS))
    assert found.left == list(range(SHARDS))  # as whoever was late wants it
    assert (await unfence(database, redis, None, "in time")).opened == found.left
    await Caller(redis, await admit(database, redis)).grant(0)


async def test_a_worker_in_the_middle_of_a_batch_moves_nothing_under_a_restore(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await caller.grant(0, calls=3)
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleeps(step: str) -> None:
        if step == "after read" and not awake.is_set():
            asleep.set()
            await awake.wait()

    worker = asyncio.create_task(
        drain(database_url, redis_url, 0.3, keep=None, connections=1, barrier=sleeps)
    )
    await asleep.wait()
    await redis.hset(keys.meta(0), "fence", "look at this")

    async def wakes(step: str) -> None:
        if step == "after removal":
            awake.set()

    found = await restored(barrier=wakes)
    assert [(each.drained, each.salvaged, each.cursor) for each in found.shards] == [(3, 0, 6)]
    assert (await worker).condemned == []
    assert json.loads(await redis.get(keys.account(0, "ana0")))["available"] == 6

"""A born ledger whose clock stands still, and what monitoring says about it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.http.times import moment
from app.ledger import keys
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.monitoring import PostgresMonitoring
from persistence.monitoring.counting import ENTRIES_MAX, count
from persistence.monitoring.snapshots import Snapshots
from tests.engine import Clock, script_with_clock
from tests.integration.ledgers import process

SHARDS = 3


@pytest.fixture
async def born(database_url, redis_url) -> str:
    return str(await give_birth(database_url, redis_url, SHARDS))


@pytest.fixture
async def clock(redis, born) -> Clock:
    clock = Clock(redis)
    await clock.set(clock.now_ms)
    return clock


@pytest.fixture
async def timed(database, redis_url, clock):
    async with process(database, redis_url) as ledger:
        ledger._batcher._only._carrier._script = script_with_clock()
        yield ledger


@pytest.fixture
async def journaled(
    database, database_url, redis, redis_url, born
) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """A journal worker beside the test, and what waits for it."""
    worker = asyncio.create_task(drain(database_url, redis_url, 120.0, keep=None))

    async def wait() -> None:
        while True:
            cursors = await database.fetch("SELECT shard, cursor FROM shards")
            sequences = [int(await redis.hget(keys.meta(row["shard"]), "sequence")) for row in cursors]
            if sequences == [row["cursor"] for row in cursors]:
                return
            await asyncio.sleep(0.002)

    yield wait
    worker.cancel()
    await asyncio.wait({worker})


@pytest.fixture
def monitoring(database, clock) -> PostgresMonitoring:
    return PostgresMonitoring(database, lambda: moment(clock.now_ms))


@pytest.fixture
def count_all(database, clock) -> Callable[..., Awaitable[int]]:
    """Counts until there is nothing more, and looks at the whole. Returns how many entries were counted."""

    async def counted(entries_max: int = ENTRIES_MAX) -> int:
        total = 0
        async with database.acquire() as connection:
            while some := await count(connection, entries_max=entries_max):
                total += some
            await Snapshots().renew(connection, moment(clock.now_ms))
        return total

    return counted

"""What PostgreSQL alone says about a ledger is what its Redis holds."""

import pytest

from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from tests.integration.restore.state import assert_same, in_journal, in_redis
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller

SHARDS = 3


@pytest.fixture
async def caller(database, database_url, redis_url, redis) -> Caller:
    await give_birth(database_url, redis_url, SHARDS)
    return Caller(redis, await admit(database, redis))


@pytest.mark.parametrize("seed", range(2))
async def test_after_any_traffic_the_journal_says_what_redis_holds_key_by_key(
    caller, database, database_url, redis, redis_url, seed, nightly
):
    await Traffic(caller, SHARDS, seed).run(1000 if nightly else 100)
    while (await drain(database_url, redis_url, 0.2, keep=None)).rows:
        pass
    seconds, _ = await redis.time()
    async with database.acquire() as connection:
        expected = await in_journal(connection, SHARDS, seconds * 1000)
    found = await in_redis(redis, SHARDS)
    kinds = {name.split(":")[2] for name in found.values}
    assert kinds == {"account", "reservation", "holds", "due", "operation", "task"}
    assert_same(expected, found)

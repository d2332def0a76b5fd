"""What PostgreSQL alone says about a ledger is what its Redis holds."""

import pytest

from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.state import assert_same, in_journal, in_redis
from tests.integration.restore.traffic import Traffic


@pytest.mark.parametrize("seed", range(2))
async def test_after_any_traffic_the_journal_says_what_redis_holds_key_by_key(
    caller, database, database_url, redis, redis_url, seed, nightly
):
    await Traffic(caller, SHARDS, seed).run(1000 if nightly else 100)
    await journal_all(database_url, redis_url)
    seconds, _ = await redis.time()
    async with database.acquire() as connection:
        expected = await in_journal(connection, SHARDS, seconds * 1000)
    found = await in_redis(redis, SHARDS)
    kinds = {name.split(":")[2] for name in found.values}
    assert kinds == {"account", "reservation", "holds", "due", "operation", "task"}
    assert_same(expected, found)

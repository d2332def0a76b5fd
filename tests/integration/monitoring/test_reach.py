"""How far monitoring says that it has come, against what has happened by then."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.backing import BackingUnavailable
from persistence.monitoring import PostgresMonitoring
from persistence.monitoring.counting import count
from persistence.monitoring.following import Following
from persistence.monitoring.reach import look, note_reach
from persistence.pool import open_pool
from tests.integration.journal.conftest import caller, ledger, worker
from tests.integration.journal.workers import SHARDS, keep_journal

__all__ = ["caller", "ledger", "worker"]

AS_OF = "SELECT as_of FROM usage_state"
LAST = "SELECT max(at) FROM journal"


async def noted(database, redis):
    """As a turn does it, without counting. Returns what was seen, and how far it goes."""
    async with database.acquire() as connection:
        seen = await look(redis, SHARDS)
        await note_reach(connection, seen)
    return seen, await database.fetchval(AS_OF)


async def test_what_is_counted_to_the_end_goes_as_far_as_the_moment_of_the_look(
    database, redis, caller, worker
):
    await caller.grant(0, calls=3)
    await keep_journal(worker)
    async with database.acquire() as connection:
        await count(connection)
    seen, as_of = await noted(database, redis)
    assert as_of == seen.at > await database.fetchval(LAST)


async def test_what_nobody_has_counted_yet_ends_it(database, redis, caller, worker):
    await caller.grant(0)
    await keep_journal(worker)
    _, as_of = await noted(database, redis)
    assert as_of == await database.fetchval(LAST)


async def test_what_the_journal_has_not_got_yet_ends_it(database, redis, caller, worker):
    await caller.grant(1)
    await keep_journal(worker)
    async with database.acquire() as connection:
        await count(connection)
    _, before = await noted(database, redis)
    await caller.grant(1)
    waits_ms = int(await redis.hget(keys.meta(1), "oldest_ms"))
    await caller.grant(2)
    seen, as_of = await noted(database, redis)
    assert before < as_of < seen.at
    assert waits_ms == int(as_of.timestamp() * 1000)


async def test_it_stands_still_while_redis_is_away_or_another_one_answers(database, redis, caller, worker):
    await caller.grant(0)
    await keep_journal(worker)
    async with database.acquire() as connection:
        await count(connection)
    _, before = await noted(database, redis)
    async with Redis.from_url("redis://127.0.0.1:1") as away:
        assert (None, before) == await noted(database, away)
    await redis.hset(keys.meta(0), "incarnation", 99)
    assert before == (await noted(database, redis))[1]
    await redis.hset(keys.meta(0), mapping={"incarnation": 1, "ledger": "another"})
    assert before == (await noted(database, redis))[1]


async def test_before_anybody_counts_it_goes_back_to_when_the_ledger_was_made(database, ledger):
    made = await database.fetchval("SELECT created_at FROM ledger")
    monitoring = PostgresMonitoring(database, lambda: made + timedelta(seconds=5))
    for answer in (
        await monitoring.overview(),
        await monitoring.top_accounts("day", 10),
        await monitoring.models("week"),
    ):
        assert (made, 5.0) == (answer.as_of, answer.lag_seconds)


async def test_a_turn_counts_looks_and_says_when_the_next_one_is(database, redis, caller, worker):
    following = Following(database, redis)
    await caller.grant(0, calls=3)
    await keep_journal(worker)
    assert await following.turn() < 60
    assert 3 == await database.fetchval("SELECT counted FROM usage_state")
    names = {row["name"] for row in await database.fetch("SELECT name FROM usage_snapshots")}
    assert {"balances", "hour", "day", "week", "month"} == names
    assert await following.turn() >= 1.0


async def test_nothing_is_told_while_postgres_is_away(clock):
    pool = await open_pool("postgresql://lastro@127.0.0.1:1/lastro")
    monitoring = PostgresMonitoring(pool, lambda: clock)
    for ask in (monitoring.overview, lambda: monitoring.top_accounts("day", 1)):
        with pytest.raises(BackingUnavailable):
            await ask()
    await pool.close()

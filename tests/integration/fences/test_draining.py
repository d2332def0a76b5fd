"""What the operator has fenced is journaled on, until Redis may be moved."""

import asyncio

import pytest

from app.ledger.connection import connect
from app.ledger.operations import Grant
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import fence, fences, unfence
from persistence.planned import draining
from persistence.pool import open_pool
from tests.integration.books import assert_equal
from tests.integration.fences.serving import refuses
from tests.integration.ledgers import ACCOUNTS, SHARDS, deduct, process
from tests.integration.streams import put_back, snapshot


async def test_what_an_operator_fenced_is_journaled_on(database, database_url, redis, redis_url, ledger):
    await fence(database, redis, None, "a move")
    drained = await drain(database_url, redis_url, 0.5, keep=None)
    assert (drained.rows, drained.condemned) == (SHARDS, [])
    assert await assert_equal(database, redis) == SHARDS


@pytest.mark.parametrize("by", ["admission", "journal", "restore", "reconciliation"])
async def test_what_anybody_else_fenced_is_not_journaled(
    database, database_url, redis, redis_url, ledger, by
):
    await fence(database, redis, [1], "a move")
    await database.execute("UPDATE shards SET fenced_by = $1 WHERE shard = 1", by)
    assert (await drain(database_url, redis_url, 0.5, keep=None)).rows == SHARDS - 1
    assert await database.fetchval("SELECT cursor FROM shards WHERE shard = 1") == 0


async def test_draining_says_what_is_left_until_nothing_is_and_redis_may_be_moved(
    database, database_url, redis, redis_url, ledger, own_valkey
):
    left = [each async for each in draining(database_url, redis_url, database, redis, "a move")]
    assert [each.entries for each in left] == [SHARDS, 0]
    assert await assert_equal(database, redis) == SHARDS
    async with connect(own_valkey.url) as moved:
        await put_back(moved, await snapshot(redis))
        opening = await unfence(database, moved, None, "moved")
        assert (opening.opened, opening.stays) == (list(range(SHARDS)), {})
        async with process(database, own_valkey.url) as new:
            assert await deduct(new, 0) == 99
            # The one that was moved away from is no longer served, though it has all the same data.
            async with asyncio.timeout(5):
                while "Another Redis has been admitted" not in await refuses(ledger, 0):  # noqa: ASYNC110 (there is no event to wait for)
                    await asyncio.sleep(0.01)
            assert await deduct(new, 0) == 98
    assert await fences(database) == []


async def test_a_drain_that_meets_a_shard_fenced_for_another_reason_names_it_and_ends(
    database, database_url, redis, redis_url, ledger
):
    await database.execute(
        "UPDATE shards SET fence = 'a fork', fenced_at = now(), fenced_by = 'journal' WHERE shard = 1"
    )
    left = [each async for each in draining(database_url, redis_url, database, redis, "a move")]
    assert left[-1] == (0, {1: "a fork"})
    assert await database.fetchval("SELECT sum(cursor) FROM shards") == SHARDS - 1


async def test_a_fenced_shard_is_drained_through_a_restart_of_postgresql(
    own_postgres, redis, redis_url, caplog
):
    await give_birth(own_postgres.url, redis_url, SHARDS)
    database = await open_pool(own_postgres.url)
    async with process(database, redis_url) as ledger:
        for name in ACCOUNTS.values():
            await ledger.grant(Grant(account=name, amount=100))
        await fence(database, redis, None, "a move")
        own_postgres.kill()
        drained = asyncio.create_task(drain(own_postgres.url, redis_url, 2.0, keep=None))
        async with asyncio.timeout(5):
            while "the journal waits" not in caplog.text:  # noqa: ASYNC110 - it is said or not
                await asyncio.sleep(0.01)
        own_postgres.start()
        assert (await drained).failures > 0
        await database.expire_connections()
        left = [each async for each in draining(own_postgres.url, redis_url, database, redis, "a move")]
        assert left[-1] == (0, {})
        assert await assert_equal(database, redis) == SHARDS
    await database.close()

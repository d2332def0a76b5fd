"""Waiting for the journal: true for the very entry only, false in time, and one poller for all who wait."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.embedded import Postgres
from app.ledger.shards import TransactionId
from persistence.journaled import Journaled
from persistence.pool import Pool, open_pool
from tests.integration.rows import Rows

ADVANCE = """
INSERT INTO shards (shard, cursor, head) VALUES ($1, $2, $3) ON CONFLICT (shard) DO UPDATE SET cursor = $2
"""


async def journal(database, rows, account="acc-1", **fields):
    """Append an entry and move the cursor, as the worker does."""
    shard, sequence, entry = await rows.append(account, **fields)
    await database.execute(ADVANCE, shard, sequence, bytes(32))
    return shard, sequence, entry


@pytest.fixture
def rows(database):
    return Rows(database)


@pytest.fixture
async def counted(database_url: str) -> AsyncIterator[tuple[Pool, list[str]]]:
    """A pool, and the statements that went through it."""
    statements: list[str] = []

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda record: statements.append(record.query))

    async with asyncpg.create_pool(database_url, min_size=0, init=listen) as pool:
        yield pool, statements


async def test_an_entry_that_is_there_is_true_at_once(database, rows):
    shard, sequence, entry = await journal(database, rows)
    transaction = TransactionId(shard, entry.incarnation, sequence)
    assert await Journaled(database).journaled(transaction, entry.nonce)


async def test_an_entry_that_comes_later_is_true_when_it_comes(database, rows):
    shard, sequence, _ = await journal(database, rows)
    waiting = asyncio.create_task(Journaled(database).wait(shard, sequence + 1, "later", 1, 5))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    await journal(database, rows, nonce="later")
    async with asyncio.timeout(1):
        assert await waiting


@pytest.mark.parametrize(("nonce", "incarnation"), [("another", 1), ("n", 2)])
async def test_another_entry_in_its_place_is_false_at_once(database, rows, nonce, incarnation):
    shard, sequence, _ = await journal(database, rows, nonce="n")
    async with asyncio.timeout(1):
        assert not await Journaled(database).wait(shard, sequence, nonce, incarnation, 5)


async def test_an_entry_that_does_not_come_is_false_in_time(database, rows):
    shard, sequence, entry = await journal(database, rows)
    began = time.monotonic()
    assert not await Journaled(database).wait(shard, sequence + 1, entry.nonce, 1, 0.2)
    assert 0.2 <= time.monotonic() - began < 1


async def test_without_postgresql_it_is_false_in_time_and_true_when_it_is_back(own_postgres: Postgres):
    pool = await open_pool(own_postgres.url)
    shard, sequence, entry = await journal(pool, Rows(pool))
    journaled = Journaled(pool)
    own_postgres.kill()
    assert not await journaled.wait(shard, sequence, entry.nonce, 1, 0.2)
    waiting = asyncio.create_task(journaled.wait(shard, sequence, entry.nonce, 1, 10))
    await asyncio.sleep(0)
    own_postgres.restart()
    assert await waiting
    await pool.close()


async def test_a_thousand_who_wait_are_one_question_a_tick_and_nobody_asks_when_nobody_waits(counted, rows):
    pool, statements = counted
    journaled = Journaled(pool, poll_seconds=0.01)
    shard, sequence, _ = await journal(pool, rows)
    statements.clear()
    waiting = [asyncio.create_task(journaled.wait(shard, sequence + n, "n", 1, 5)) for n in range(1, 1001)]
    async with asyncio.timeout(5):
        while statements.count(Journaled.CURSORS) < 3:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)
    assert 3 == statements.count(Journaled.CURSORS)
    assert 0 == statements.count(Journaled.ENTRIES)
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    await journaled._poller
    assert {} == journaled._waiting


async def test_many_who_wait_for_the_same_entry_are_all_answered_each_by_its_nonce(database, rows):
    journaled = Journaled(database)
    shard, sequence, _ = await journal(database, rows)
    asked = [journaled.wait(shard, sequence + 1, nonce, 1, 5) for nonce in ("mine", "not mine", "mine")]
    waiting = asyncio.gather(*asked)
    await journal(database, rows, nonce="mine")
    assert [True, False, True] == await waiting


async def test_more_than_may_wait_are_told_no_at_once(database, monkeypatch):
    monkeypatch.setattr("persistence.journaled.WAITING_MAX", 2)
    journaled = Journaled(database)
    waiting = [asyncio.create_task(journaled.wait(0, n, "n", 1, 5)) for n in (1, 2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        assert not await journaled.wait(0, 3, "n", 1, 5)
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)

"""A row stands in one month only (I8). Each month has its keys; beyond a month it is kept by who writes."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from app.ledger.entries import Entry, Leg
from app.ledger.stream import Line
from persistence.journal import Journal, Outcome
from persistence.projections import Projections
from tests.integration.journal.workers import keep_journal, to_the_end
from tests.integration.streams import forge, ms, put_back, snapshot


async def test_no_second_row_takes_a_place_in_another_month(database, redis, caller, ledger, worker):
    """A worker that sleeps over its entry, and wakes up when another one has the place, in another month."""
    await caller.grant(0)
    reached, go = asyncio.Event(), asyncio.Event()

    async def sleep(step: str) -> None:
        if step == "after read" and journaled:
            reached.set()
            await go.wait()

    journaled = False
    async with worker(barrier=sleep) as sleeping:
        assert Outcome.DONE is await to_the_end(sleeping, 0)
        before, journaled = await snapshot(redis), True
        await forge(redis, 0, at_ms=ms(datetime.now(UTC) + timedelta(days=200)))
        waking = asyncio.create_task(sleeping.one_batch(0))
        await reached.wait()
        await put_back(redis, before)
        await caller.grant(0)
        async with database.acquire() as connection:
            awake = Journal(connection, redis, ledger, keep=None)
            assert Outcome.DONE is await to_the_end(awake, 0)
        go.set()
        assert Outcome.MOVED is (await waking).outcome
    assert [1, 2] == [row[0] for row in await database.fetch("SELECT seq FROM journal ORDER BY at")]


async def test_no_second_version_of_an_account_comes_from_another_shard_and_month(
    database, redis, caller, worker
):
    await caller.grant(0)
    await caller.grant(1)
    await keep_journal(worker)
    ahead = ms(datetime.now(UTC) + timedelta(days=200))
    await forge(redis, 1, account="ana0", version=2, available=2, at_ms=ahead)
    assert Outcome.CONDEMNED is (await keep_journal(worker))[1]
    assert 1 == await database.fetchval("SELECT count(*) FROM journal WHERE account = 'ana0'")


@pytest.mark.parametrize("kind", ["granted", "configured"])
async def test_two_shards_cannot_open_the_same_account_at_once(database, caller, kind):
    """Neither sees the other's row when it looks; the table has one place."""
    fields = {"low_balance": 7} if kind == "configured" else {}
    amount = 0 if fields else 1
    entry = Entry(
        format=1, kind=kind, at_ms=1, account="eva", version=1, amount=amount, available=amount, held=0,
        legs=[] if fields else [Leg("default", 0, 1, 0)], incarnation=1, nonce="n", **fields,
    )  # fmt: skip
    lines = [Line(1, entry, b"", None)]
    async with database.acquire() as first, database.acquire() as second:
        projected = []
        for shard, connection in enumerate((first, second)):
            transaction = connection.transaction()
            await transaction.start()
            each = Projections(shard)
            await each.load(connection, lines)
            each.fold(lines)
            projected.append((transaction, each))
        (earlier, one), (later, other) = projected
        await one.store(first)
        storing = asyncio.create_task(other.store(second))
        await earlier.commit()
        with pytest.raises(asyncpg.UniqueViolationError):
            await storing
        await later.rollback()
    assert [0] == [row[0] for row in await database.fetch("SELECT shard FROM accounts")]

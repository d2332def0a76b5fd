"""Entries reach PostgreSQL exactly once, whoever dies (I7, I8)."""

import asyncio

import pytest

from app.ledger import keys
from app.ledger.connection import connect as connect_redis
from app.ledger.entries import seal
from app.ledger.operations import Deduct, Grant
from persistence.journal import Journal, Outcome
from persistence.session import connect
from tests.integration.books import Shop, assert_equal
from tests.integration.dying import Killed, dies_at
from tests.integration.journal.workers import SHARDS, keep_journal

BARRIERS = ["after cursor", "after read", "after commit"]


async def test_everything_that_the_script_can_do_is_journaled_and_adds_up(database, redis, caller, worker):
    shop = Shop(caller, SHARDS, seed=7)
    for _ in range(12):
        await shop.trade(calls=8)
        await keep_journal(worker)
    assert await assert_equal(database, redis) > 200


@pytest.mark.parametrize("entries_max", [1, 7, 64])
async def test_batches_end_where_calls_end(database, redis, caller, worker, entries_max):
    await Shop(caller, SHARDS, seed=11).trade(calls=40)
    await keep_journal(worker, entries_max=entries_max)
    await assert_equal(database, redis)


async def test_a_call_larger_than_a_batch_is_read_whole(database, redis, caller, worker):
    await caller.grant(0, calls=2, entries=20)
    async with worker(entries_max=4) as journal:
        assert (await journal.one_batch(0)).rows == 20
        assert (await journal.one_batch(0)).rows == 20
    await assert_equal(database, redis)


async def test_notes_stand_beside_the_entry_that_carries_their_hash(database, redis, caller, worker):
    sealed = seal(reason="birthday ☺", metadata={"campaign": "11/21"})
    await caller.call(
        [Grant(shard=0, account="ana", amount=5, open=True, notes=sealed.text, notes_hash=sealed.hash)]
    )
    await keep_journal(worker)
    assert await database.fetchval("SELECT text FROM notes WHERE shard = 0 AND seq = 1") == sealed.text
    assert "birthday" not in await database.fetchval("SELECT entry FROM journal")
    await assert_equal(database, redis)


async def test_the_largest_amounts_arrive_digit_by_digit(database, redis, caller, worker):
    largest = 2**53 - 1
    await caller.call([Grant(shard=0, account="ana", amount=largest, open=True)])
    await caller.call([Deduct(shard=0, account="ana", amount=largest - 1)])
    await keep_journal(worker)
    assert [row[0] for row in await database.fetch("SELECT amount FROM journal ORDER BY seq")] == [
        largest,
        largest - 1,
    ]
    await assert_equal(database, redis)


async def test_an_account_that_ran_out_of_rows_for_lots_is_folded_as_the_script_does_it(
    database, redis, caller, worker
):
    def grant(number: int, priority: int | None = None) -> Grant:
        return Grant(
            shard=0, account="ana", amount=1, bucket=f"pot-{number:02}", priority=priority, open=True
        )

    await caller.call([grant(number, priority=64 - number) for number in range(64)])
    await caller.call([Deduct(shard=0, account="ana", amount=40)])
    await keep_journal(worker)
    await caller.call([grant(number) for number in range(70, 80)])
    await caller.call([grant(number) for number in (63, 30, 0)])
    await keep_journal(worker)
    assert await database.fetchval("SELECT count(*) FROM lots") == 64
    assert await assert_equal(database, redis) == 78


async def test_an_empty_stream_is_nothing_to_do(database, redis, caller, worker):
    async with worker() as journal:
        assert await journal.one_batch(0) == (Outcome.DONE, 0, 0)
    assert await assert_equal(database, redis) == 0


# Whoever dies


@pytest.mark.parametrize("step", BARRIERS)
async def test_a_worker_that_dies_anywhere_is_made_good_by_the_next(database, redis, caller, worker, step):
    shop = Shop(caller, SHARDS, seed=3)
    await shop.trade(calls=10)
    async with worker(barrier=dies_at(step)) as journal:
        for shard in range(SHARDS):
            with pytest.raises(Killed):
                await journal.one_batch(shard)
    await shop.trade(calls=10)
    await keep_journal(worker)
    await assert_equal(database, redis)


async def test_what_a_dead_worker_had_committed_is_told_to_redis_by_the_next(database, redis, caller, worker):
    await caller.grant(0, calls=3)
    async with worker(barrier=dies_at("after commit")) as journal:
        with pytest.raises(Killed):
            await journal.one_batch(0)
    assert await redis.hget(keys.meta(0), "journaled") == b"0"
    async with worker() as journal:
        assert await journal.one_batch(0) == (Outcome.DONE, 0, 3)
    await assert_equal(database, redis)


async def test_a_shard_has_one_worker_and_the_next_takes_over_when_it_is_gone(
    database_url, caller, worker, redis
):
    async with worker():
        connection = await connect(database_url)
        spare = Journal(connection, redis, "", keep=None)
        assert await spare.lock([0, 1, 2]) == []
    assert await spare.lock([0, 1, 2]) == [0, 1, 2]
    await connection.close()


async def test_two_workers_on_one_shard_journal_it_once(
    database, database_url, redis, redis_url, ledger, caller, worker
):
    """The lock is for economy: here nobody has it, and nothing is doubled."""
    await caller.grant(0, calls=30, entries=3)

    async def without_lock() -> list[Outcome]:
        connection, client = await connect(database_url), connect_redis(redis_url)
        journal = Journal(connection, client, ledger, keep=None, entries_max=9)
        outcomes = [(await journal.one_batch(0)).outcome]
        while outcomes[-1] in (Outcome.MORE, Outcome.MOVED):
            outcomes.append((await journal.one_batch(0)).outcome)
        await connection.close()
        await client.aclose()
        return outcomes

    outcomes = await asyncio.gather(*(without_lock() for _ in range(3)))
    assert any(Outcome.MOVED in each for each in outcomes)
    assert {each[-1] for each in outcomes} == {Outcome.DONE}
    assert await assert_equal(database, redis) == 90


async def test_a_batch_read_twice_is_committed_once(
    database, redis, caller, worker, database_url, ledger, redis_url
):
    await caller.grant(0, calls=3)

    async def barrier(name: str) -> None:
        if name == "after read":
            connection, client = await connect(database_url), connect_redis(redis_url)
            await Journal(connection, client, ledger, keep=None).one_batch(0)
            await connection.close()
            await client.aclose()

    async with worker(barrier=barrier) as journal:
        assert (await journal.one_batch(0)).outcome is Outcome.MOVED
    assert await assert_equal(database, redis) == 3

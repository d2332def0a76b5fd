"""Runs of the clean-up: what they end and drop, one at a time, whoever dies meanwhile."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app.cleaning import Waiting
from app.ledger.errors import LedgerUnavailable, ReservationExpired
from app.ledger.operations import Confirm, Grant, Reserve
from persistence.cleaning.cleaning import ABANDONED, PostgresCleaning
from persistence.cleaning.dropping import drop
from persistence.fences import fence
from persistence.pool import open_pool
from tests.integration.cleaning.dropped import ROWS, TOMORROW, drop_all
from tests.integration.cleaning.founded import cleaning, ledger, runs
from tests.integration.dying import Killed, dies_at
from tests.integration.ledgers import ACCOUNTS, SHARDS, journal_all

__all__ = ["cleaning", "ledger"]


async def hold(ledger, ttl_ms=60_000, shard=0, **terms):
    """A reservation as it was made; whoever asks for it later may end it by that."""
    id_ = await ledger.new_reservation_id(ACCOUNTS[shard])
    wanted = Reserve(account=ACCOUNTS[shard], reservation=id_, amount=5, ttl_ms=ttl_ms, **terms)
    return (await ledger.reserve(wanted)).reservation


async def ended(ledger, count=1):
    for number in range(count):
        await ledger.confirm(Confirm(reservation=(await hold(ledger, shard=number % SHARDS)).id))


async def past_deadlines(redis, at_ms):
    while (await redis.time())[0] * 1000 <= at_ms:  # noqa: ASYNC110 - the server's clock tells nobody
        await asyncio.sleep(0.02)


@asynccontextmanager
async def under_way(cleaning, step="after lock"):
    """A run that has come to a step, and goes on when the block ends."""
    there, on = asyncio.Event(), asyncio.Event()

    async def barrier(name):
        if name == step:
            there.set()
            await on.wait()

    running = asyncio.create_task(cleaning(barrier=barrier).run("key:first"))
    await there.wait()
    try:
        yield running
    finally:
        on.set()
        await asyncio.wait({running})


async def test_a_run_ends_what_is_due_and_drops_what_is_old_and_nothing_else(
    ledger, cleaning, database, database_url, redis, redis_url
):
    due = [await hold(ledger, ttl_ms=3_000, shard=shard) for shard in range(SHARDS)]
    kept = await hold(ledger)
    lapsing = {"bucket": "short", "expires_at_ms": due[3].expires_at_ms}  # is due, too, and no reservation
    await ledger.grant(Grant(account=ACCOUNTS[3], amount=5, **lapsing))
    await ended(ledger, 3)
    await journal_all(database_url, redis_url)
    await past_deadlines(redis, max(each.expires_at_ms for each in due))
    assert Waiting(expired=4, old=3) == await cleaning().count()
    with capture_logs() as logs:
        cleaned = await cleaning().run("key:test")
    assert (4, 3) == (cleaned.expired, cleaned.old)
    assert [("key:test", True, 4, 3, None, True)] == await runs(database)
    (said,) = [each for each in logs if each["event"] == "cleanup.finished"]
    assert (4, 3, "key:test") == (said["expired"], said["old"], said["by"])
    assert cleaned.duration_ms == said["duration_ms"]
    assert Waiting(0, 0) == await cleaning().count()
    for each in due:
        with pytest.raises(ReservationExpired):
            await ledger.confirm(Confirm(reservation=each.id))
    assert "confirmed" == (await ledger.confirm(Confirm(reservation=kept.id))).reservation.status


async def test_asking_how_much_there_is_ends_nothing(ledger, cleaning, redis):
    due = await hold(ledger, ttl_ms=1_000)
    await past_deadlines(redis, due.expires_at_ms)
    for _ in range(3):
        assert 1 == (await cleaning().count()).expired


async def test_old_ones_stay_where_only_what_is_due_is_wanted(
    ledger, cleaning, database, database_url, redis_url
):
    await ended(ledger, 2)
    await journal_all(database_url, redis_url)
    assert 0 == (await cleaning().run("key:test", whole=False)).old
    assert 2 == await database.fetchval(ROWS)
    assert "-infinity" == await database.fetchval("SELECT kept_from::text FROM cleanup")
    assert 2 == (await cleaning().run("key:test")).old


async def test_days_are_counted_by_redis_clock_from_the_ending_on(
    ledger, cleaning, database, database_url, redis_url
):
    await ended(ledger, 2)
    await journal_all(database_url, redis_url)
    older = """
    UPDATE reservations SET settled_at = settled_at - $1::interval
    WHERE id = (SELECT id FROM reservations ORDER BY id LIMIT 1)
    """
    await database.execute(older, timedelta(days=90, seconds=-60))
    assert 0 == (await cleaning(days=90).run("key:test")).old
    await database.execute(older, timedelta(seconds=61))
    assert 1 == (await cleaning(days=90).run("key:test")).old


async def test_of_two_at_once_the_second_does_nothing_and_says_so(
    ledger, cleaning, database, database_url, redis_url
):
    await ended(ledger, 2)
    await journal_all(database_url, redis_url)
    async with under_way(cleaning) as first:
        assert (await cleaning().standing()).running
        assert await cleaning().run("key:second") is None
        await cleaning().force("key:third")
        assert await cleaning().turn()
    assert 2 == first.result().old
    assert [("key:first", True, 0, 2, None, True)] == await runs(database)
    assert not (await cleaning().standing()).running


@pytest.mark.parametrize("step", ["after lock", "after expiring", "after keeping", "after batch"])
async def test_a_run_that_dies_anywhere_leaves_nothing_that_the_next_does_not_make_good(
    ledger, cleaning, database, database_url, redis_url, step
):
    await ended(ledger, 7)
    await journal_all(database_url, redis_url)
    with pytest.raises(Killed):
        await cleaning(barrier=dies_at(step)).run("key:dead")
    ids = [
        row[0]
        for row in await database.fetch("SELECT reservation::text FROM journal WHERE kind = 'confirmed'")
    ]
    for each in ids:
        assert "confirmed" == (await ledger.find(each)).status
    assert not (await cleaning().standing()).running
    await cleaning().run("key:next")
    assert 0 == await database.fetchval(ROWS)
    (dead, following) = await runs(database)
    assert ABANDONED == dead[4]
    assert (None, 7) == (following[4], dead[3] + following[3])


async def test_a_run_whose_process_is_killed_lets_go_of_everything(
    ledger, cleaning, database, database_url, redis, redis_url
):
    await ended(ledger, 3)
    await journal_all(database_url, redis_url)
    pool = await open_pool(database_url, connections_max=1)
    there = asyncio.Event()

    async def hangs(step):
        there.set()
        await asyncio.Event().wait()

    dying = PostgresCleaning(pool, ledger, redis, days=-1, interval_seconds=600, barrier=hangs)
    running = asyncio.create_task(dying.run("key:dead"))
    await there.wait()
    pool.terminate()  # as the kernel does it
    running.cancel()
    await asyncio.wait({running})
    async with asyncio.timeout(10):
        while (await cleaning().standing()).running:  # noqa: ASYNC110 - PostgreSQL tells nobody
            await asyncio.sleep(0.02)
    assert 3 == (await cleaning().run("key:next")).old
    assert [(ABANDONED, True), (None, True)] == [(row[4], row[5]) for row in await runs(database)]


async def test_batches_wait_for_nobody_who_has_a_row_in_his_hands_and_leave_it(
    ledger, cleaning, database, database_url, redis_url
):
    await ended(ledger, 9)
    await journal_all(database_url, redis_url)
    async with database.acquire() as other, other.transaction():
        held = await other.fetchval("SELECT id FROM reservations ORDER BY settled_at LIMIT 1 FOR UPDATE")
        async with asyncio.timeout(5):
            assert 8 == (await cleaning().run("key:test")).old
        assert [held] == [row["id"] for row in await other.fetch("SELECT id FROM reservations")]
    assert 1 == (await cleaning().run("key:test")).old


async def test_batches_are_transactions_of_their_own_and_end_with_the_time(
    ledger, database, database_url, redis_url
):
    await ended(ledger, 9)
    await journal_all(database_url, redis_url)
    seen = []

    async def look(step):
        if step == "after batch":
            seen.append(await database.fetchval(ROWS))

    async with database.acquire() as connection:
        batches = drop(connection, TOMORROW, 0.0, rows_at_once=4)
        assert [4] == [rows async for rows in batches]
        assert TOMORROW == await database.fetchval("SELECT kept_from FROM cleanup")
    await drop_all(database, rows_at_once=2, barrier=look)
    assert [3, 1, 0] == seen


async def test_from_when_on_rows_must_be_there_never_goes_back(ledger, cleaning, database):
    await cleaning(days=10).run("key:test")
    ten = await database.fetchval("SELECT kept_from FROM cleanup")
    await cleaning(days=90).run("key:test")
    assert ten == await database.fetchval("SELECT kept_from FROM cleanup")


async def test_a_fenced_shard_does_not_keep_the_others_from_being_cleaned(
    ledger, cleaning, database, database_url, redis, redis_url
):
    due = [await hold(ledger, ttl_ms=1_000, shard=shard) for shard in range(SHARDS)]
    await journal_all(database_url, redis_url)
    await past_deadlines(redis, max(each.expires_at_ms for each in due))
    await fence(database, redis, [0], "for the test")
    assert 3 == (await cleaning().run("key:test")).expired


async def test_a_ledger_that_was_not_founded_has_nothing_dropped(
    ledger, cleaning, database, database_url, redis_url
):
    await ended(ledger)
    await journal_all(database_url, redis_url)
    await database.execute("UPDATE ledger SET born = false")
    with pytest.raises(LedgerUnavailable):
        await cleaning().run("key:test")
    assert 1 == await database.fetchval(ROWS)


async def test_runs_that_nobody_asks_about_any_more_are_forgotten(ledger, cleaning, database):
    await cleaning().run("key:old")
    await database.execute("UPDATE cleanups SET finished_at = now() - interval '91 days'")
    await cleaning().run("key:new")
    assert ["key:new"] == [row[0] for row in await runs(database)]

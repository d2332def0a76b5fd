"""A month on another disk is still the journal: every row, every rule, and nobody waits for long (I8, I11).

What was thought of: killed after any step; written to meanwhile; read all the time; a reader that does not
end; a half copy elsewhere. What is refused: test_archiving_refused.py.
"""

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from persistence import giving_way
from persistence.archiving import ArchiveRefused, copy, move, tablespace_for
from persistence.archiving.tables import tablespaces_of
from persistence.session import connect
from persistence.verify import verify
from tests.integration.books import Shop, assert_equal
from tests.integration.journal.archives import (
    COLD,
    INDEXES,
    OWN,
    Killed,
    connection,
    killed_at,
    left_over,
    month,
    quick,
    rows_of,
)
from tests.integration.journal.workers import SHARDS, keep_journal, to_the_end

__all__ = ["connection", "month", "quick"]


async def test_a_month_that_was_put_away_is_the_same_and_comes_back(
    month, connection, database, redis, caller, worker
):
    before, rows = await month(), await rows_of(connection)
    indexes = await connection.fetchrow(INDEXES, before.name)
    seen = []
    moved = await move(connection, before.name, COLD, seen=seen.append)
    assert (moved.before, moved.after, moved.rows) == (OWN, COLD, len(rows))
    assert 2 * len(rows) == sum(seen)
    there = await month()
    assert (there.tablespace, there.is_away, there.rows) == (COLD, True, before.rows)
    assert (there.name, there.since, there.until) == (before.name, before.since, before.until)
    assert {COLD} == await tablespaces_of(connection, before.name)
    assert indexes == await connection.fetchrow(INDEXES, before.name)
    assert rows == await rows_of(connection)
    assert [] == await left_over(connection)
    assert [] == (await verify(connection, since=1)).findings
    for statement in ("UPDATE {} SET amount = 0", "DELETE FROM {}", "TRUNCATE {}"):
        for table in ("journal", before.name):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await connection.execute(statement.format(table))
    await Shop(caller, SHARDS, seed=12).trade(5)
    await keep_journal(worker)
    assert len(rows) < await assert_equal(database, redis)
    back = await move(connection, (await month()).name, await tablespace_for(connection, None))
    assert (back.before, back.after, (await month()).is_away) == (COLD, OWN, False)
    assert {OWN} == await tablespaces_of(connection, before.name)
    assert back.rows == await assert_equal(database, redis)


async def test_one_that_is_there_is_left_as_it_is(month, connection):
    its = "SELECT $1::regclass::oid"
    await move(connection, (await month()).name, COLD)
    there = await connection.fetchval(its, (await month()).name)
    moved = await move(connection, (await month()).name, COLD)
    assert (moved.before, moved.after) == (COLD, COLD)
    assert there == await connection.fetchval(its, (await month()).name)


@pytest.mark.parametrize("step", ["after copy", "after proof", "after settling"])
async def test_whoever_was_killed_goes_on(month, connection, database_url, step):
    rows = await rows_of(connection)

    killed = await connect(database_url)
    with pytest.raises(Killed):
        await move(killed, (await month()).name, COLD, barrier=killed_at(step))
    await killed.close()
    assert (rows, OWN) == (await rows_of(connection), (await month()).tablespace)
    seen = []
    assert COLD == (await move(connection, (await month()).name, COLD, seen=seen.append)).after
    assert len(rows) == sum(seen)  # proved again, not copied again
    assert (rows, []) == (await rows_of(connection), await left_over(connection))


async def test_a_half_copy_on_another_disk_is_begun_again(month, connection):
    with pytest.raises(Killed):
        await move(connection, (await month()).name, COLD, barrier=killed_at("after copy"))
    await connection.execute(f"ALTER TABLE {(await month()).name}_copy SET TABLESPACE pg_default")
    await move(connection, (await month()).name, COLD)
    name = (await month()).name
    assert {COLD} == await tablespaces_of(connection, name)


@pytest.mark.parametrize("step", ["after copy", "after proof", "after settling"])
async def test_what_is_written_meanwhile_goes_with_it(
    month, connection, database, redis, caller, worker, step
):
    written = 0

    async def write(reached: str) -> None:
        nonlocal written
        if reached == step and written < 2:
            written += 1
            await caller.grant(written)
            async with worker([written]) as journal:
                await to_the_end(journal, written)

    moved = await move(connection, (await month()).name, COLD, barrier=write)
    assert written == 2
    assert moved.rows == await assert_equal(database, redis)
    assert {COLD} == await tablespaces_of(connection, moved.name)
    assert [] == (await verify(connection, since=1)).findings


async def test_what_is_written_to_all_the_time_stays_and_loses_nothing(
    month, connection, database, redis, caller, worker
):
    async def write(reached: str) -> None:
        if reached == "after proof":
            await caller.grant(0)
            await keep_journal(worker)

    with pytest.raises(ArchiveRefused, match="is written to all the time"):
        await move(connection, (await month()).name, COLD, barrier=write)
    assert (await month()).rows == await assert_equal(database, redis)
    assert OWN == (await month()).tablespace


async def test_nobody_misses_a_row_and_no_write_fails_while_it_goes_to_and_fro(
    month, connection, database, redis, caller, worker, quick
):
    """Whoever counts the journal all the while never finds less than before."""
    is_over, counted = asyncio.Event(), [0]

    async def read() -> None:
        while not is_over.is_set():
            async with database.acquire() as reader:
                counted.append(await reader.fetchval("SELECT count(*) FROM journal WHERE shard = 1"))

    async def write() -> None:
        async with worker([0]) as journal:
            while not is_over.is_set():
                await caller.grant(0)
                await to_the_end(journal, 0)
                await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(each) for each in (read(), read(), write())]
    try:
        for place in (COLD, OWN, COLD, OWN):
            for _ in range(20):
                with suppress(ArchiveRefused):  # somebody wrote each time: the next time it goes
                    await move(connection, (await month()).name, place)
                    break
            assert (await month()).tablespace == place
    finally:
        is_over.set()
        await asyncio.gather(*tasks)
    assert counted == sorted(counted)
    assert len(counted) > 20
    assert counted[-1] > 0
    await keep_journal(worker)
    assert (await month()).rows == await assert_equal(database, redis)


async def test_a_long_reader_keeps_the_month_and_nobody_waits_for_him(
    month, connection, database, redis, quick, monkeypatch
):
    async with database.acquire() as reader, database.acquire() as other:
        monkeypatch.setattr(giving_way, "TRIES_MAX", 3)
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM journal")
            moving = asyncio.create_task(move(connection, (await month()).name, COLD))
            while not moving.done():
                assert await other.fetchval("SELECT count(*) FROM journal", timeout=1.9)
            with pytest.raises(ArchiveRefused, match="goes on with the copy"):
                await moving
            assert OWN == (await month()).tablespace
    moved = await move(connection, (await month()).name, COLD)
    assert moved.rows == await assert_equal(database, redis)


async def test_a_month_is_copied_and_proved_in_pieces(month, connection, monkeypatch):
    """A month of millions goes over in pieces."""
    monkeypatch.setattr(copy, "COPY_ROWS", 7)
    monkeypatch.setattr(copy, "PAGE_ROWS", 5)
    rows, seen = await rows_of(connection), []
    await move(connection, (await month()).name, COLD, seen=seen.append)
    assert (rows, max(seen), 2 * len(rows)) == (await rows_of(connection), 7, sum(seen))

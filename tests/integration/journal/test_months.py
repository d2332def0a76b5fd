"""The journal by month: each has a table before anybody needs it, and nobody waits for that (I8, I11)."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from persistence.archiving.tables import SHAPE
from persistence.journal import Outcome
from persistence.migrate import migrate, shipped
from persistence.months import AHEAD, MAKE, make_ahead
from persistence.rows import JOURNAL
from persistence.session import connect
from tests.integration.books import assert_equal
from tests.integration.journal.workers import keep_journal, to_the_end
from tests.integration.streams import forge, ms

MONTHS = "SELECT name FROM journal_months ORDER BY since"

BY_MONTH = "0016_journal_bounds.sql"


async def names(connection) -> list[str]:
    return [row[0] for row in await connection.fetch(MONTHS)]


def month(ahead: int) -> str:
    """The name of the table of the month that is so many after this one."""
    now = datetime.now(UTC)
    year, number = divmod(now.year * 12 + now.month - 1 + ahead, 12)
    return f"journal_{year}_{number + 1:02}"


# What there was before.

ROW = """
INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held, by, entry,
  hash)
VALUES (0, $1, 1, $2, 'granted', 'ana', $1, 1, $1, 0, 'key:x', '{}', decode(repeat('00', 32), 'hex'))
"""


@pytest.fixture
async def before(empty_database_url):
    """A connection to a database as it was before there were months."""
    await migrate(empty_database_url, [each for each in shipped() if each.name < BY_MONTH])
    connection = await connect(empty_database_url)
    yield connection
    await connection.close()


async def test_a_journal_that_is_there_becomes_the_first_table_without_being_copied(
    before, empty_database_url
):
    moments = ["2025-11-30 23:59:59.999Z", "2025-12-01 00:00Z", "2026-02-28 23:59:59.999Z"]
    for n, moment in enumerate(moments, 1):
        await before.execute(ROW, n, datetime.fromisoformat(moment))
    rows = await before.fetch("SELECT * FROM journal ORDER BY seq")
    files = "SELECT relfilenode FROM pg_class WHERE relname = $1"
    indexes = """SELECT array_agg(relfilenode ORDER BY relfilenode)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = $1::text::regclass"""
    table, its = await before.fetchval(files, "journal"), await before.fetchval(indexes, "journal")
    await migrate(empty_database_url)
    first = f"journal_2025_11_to_{month(1)[8:]}"
    assert rows == await before.fetch("SELECT * FROM journal ORDER BY seq")
    assert [first, *(month(n) for n in range(2, AHEAD + 1))] == await names(before)
    assert (table, its) == (await before.fetchval(files, first), await before.fetchval(indexes, first))
    # Its indexes are those of the journal; only the two keys are its own.
    lone = """SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass
    AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)"""
    assert 2 == await before.fetchval(lone, first) == await before.fetchval(lone, month(2))
    since, until = await before.fetchrow("SELECT since, until FROM journal_months WHERE name = $1", first)
    assert datetime(2025, 11, 1, tzinfo=UTC) == since < datetime.now(UTC) + timedelta(days=27) < until
    await before.execute(ROW, 4, datetime.now(UTC))
    assert 4 == await before.fetchval(f"SELECT max(seq) FROM {first}")


async def test_the_first_table_is_like_any_month(before, empty_database_url):
    """So that it may be put away as they are (`persistence/archiving`)."""
    await before.execute(ROW, 1, datetime(2025, 11, 30, tzinfo=UTC))
    await migrate(empty_database_url)
    first, *_, last = await names(before)
    shapes = [sorted(row[0] for row in await before.fetch(SHAPE, name)) for name in (first, last)]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > len(JOURNAL)


@pytest.mark.parametrize("is_new", [False, True])
async def test_an_upgrade_goes_on_beside_those_who_read_and_write(before, empty_database_url, is_new):
    """The last step alone keeps them waiting, for a moment. After a crash the next run goes on."""
    known = shipped()
    if not is_new:
        await before.execute(ROW, 1, datetime.now(UTC))
    await migrate(empty_database_url, [each for each in known if each.name < "0017"])
    await before.execute(ROW, 2, datetime.now(UTC))
    async with before.transaction():
        await before.execute(ROW, 3, datetime.now(UTC))
        async with asyncio.timeout(10):
            await migrate(empty_database_url, [each for each in known if each.name < "0018"])
    await migrate(empty_database_url)
    rows = [row[0] for row in await before.fetch("SELECT seq FROM journal ORDER BY seq")]
    assert rows == ([2, 3] if is_new else [1, 2, 3])
    left = "SELECT count(*) FROM pg_constraint WHERE conname = 'journal_bounds'"
    assert 0 == await before.fetchval(left)


async def test_who_may_read_the_journal_still_may(before, empty_database_url):
    await before.execute("DROP ROLE IF EXISTS auditor_of_months; CREATE ROLE auditor_of_months")
    await before.execute("GRANT SELECT ON journal TO auditor_of_months")
    await before.execute(ROW, 1, datetime.now(UTC))
    await migrate(empty_database_url)
    try:
        await before.execute("SET ROLE auditor_of_months")
        assert 1 == await before.fetchval("SELECT count(*) FROM journal")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await before.execute(ROW, 2, datetime.now(UTC))
    finally:
        await before.execute("RESET ROLE; DROP OWNED BY auditor_of_months; DROP ROLE auditor_of_months")


# What a month is.


@pytest.mark.parametrize("statement", ["UPDATE {} SET amount = 0", "DELETE FROM {}", "TRUNCATE {}"])
async def test_no_statement_changes_a_month_by_whatever_name(database, before, empty_database_url, statement):
    await before.execute(ROW, 1, datetime(2026, 1, 2, tzinfo=UTC))
    await migrate(empty_database_url)
    await before.execute(MAKE, [datetime(2030, 1, 1, tzinfo=UTC)])
    there = await names(before)
    assert "journal_2030_01" in there
    assert there[0].startswith("journal_2026_01_to_")
    for table in ["journal", *there]:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await before.execute(statement.format(table))


async def test_months_are_made_once_whoever_makes_them_and_whatever_the_time_zone(database):
    moments = [datetime(2030, 1, 31, 23, 59, tzinfo=UTC), datetime(2030, 2, 1, tzinfo=UTC)]

    async def make(zone: str) -> list[str]:
        async with database.acquire() as connection:
            await connection.execute(f"SET TIME ZONE '{zone}'")
            return [row[0] for row in await connection.fetch(MAKE, moments)]

    made = await asyncio.gather(*map(make, ["Asia/Kathmandu", "America/Sao_Paulo", "UTC", "Asia/Tokyo"]))
    assert [[], [], [], ["journal_2030_01", "journal_2030_02"]] == sorted(made)
    january = "SELECT since, until FROM journal_months WHERE name = 'journal_2030_01'"
    assert tuple(await database.fetchrow(january)) == (
        datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 2, 1, tzinfo=UTC),
    )  # fmt: skip


async def test_nobody_who_reads_or_writes_waits_while_a_month_is_made(database):
    """Who is amid reading and writing goes on, and sees it afterwards; who makes it does not wait either."""
    count = "SELECT count(*) FROM journal WHERE account = $1"
    async with database.acquire() as reader, database.acquire() as writer, database.acquire() as maker:
        prepared = await reader.prepare(count)
        for _ in range(10):  # so often that PostgreSQL keeps the plan
            assert 0 == await prepared.fetchval("ana")
        async with reader.transaction(), writer.transaction():
            assert 0 == await prepared.fetchval("ana")
            await writer.execute(ROW, 1, datetime.now(UTC))
            await maker.execute("SET lock_timeout = '1s'")
            assert ["journal_2030_01"] == [
                row[0] for row in await maker.fetch(MAKE, [datetime(2030, 1, 2, tzinfo=UTC)])
            ]
            await writer.execute(ROW, 2, datetime.now(UTC))
            assert 0 == await prepared.fetchval("ana")
        await writer.execute(ROW, 3, datetime(2030, 1, 2, tzinfo=UTC))
        assert 3 == await prepared.fetchval("ana")


async def test_who_needs_no_month_that_is_missing_waits_for_nobody_who_makes_one(database):
    async with database.acquire() as maker, database.acquire() as writer, maker.transaction():
        await maker.execute(MAKE, [datetime(2030, 1, 2, tzinfo=UTC)])
        await writer.execute("SET lock_timeout = '1s'")
        assert [] == await writer.fetch(MAKE, [datetime.now(UTC)])


# Who makes them.


async def test_the_months_to_come_are_made_ahead(database):
    async with database.acquire() as connection:
        for name in await names(connection):
            await connection.execute(f"DROP TABLE {name}")
        assert [month(n) for n in range(AHEAD + 1)] == await make_ahead(connection)
        assert [] == await make_ahead(connection)


async def test_a_month_that_is_missing_is_made_by_whoever_journals(database, redis, caller, worker):
    await caller.grant(0, calls=2)
    await caller.grant(1)
    for name in await names(database):
        await database.execute(f"DROP TABLE {name}")
    assert [Outcome.DONE] * 3 == await keep_journal(worker)
    assert [month(0)] == await names(database)
    assert 3 == await assert_equal(database, redis)


async def test_an_entry_of_a_clock_that_is_far_ahead_is_journaled(database, redis, caller, worker):
    ahead = datetime.now(UTC) + timedelta(days=500)
    await caller.grant(0)
    async with worker() as journal:
        assert Outcome.DONE is await to_the_end(journal, 0)
        await forge(redis, 0, at_ms=ms(ahead))
        assert Outcome.DONE is await to_the_end(journal, 0)
        await forge(redis, 0, at_ms=ms(ahead))
        assert Outcome.DONE is await to_the_end(journal, 0)
    table = f"journal_{ahead:%Y_%m}"
    assert 2 == await database.fetchval(f"SELECT count(*) FROM {table}")


async def test_a_month_that_went_from_under_a_worker_is_made_anew(database, redis, caller, worker):
    """It remembers which there are; what it is refused for makes it look again, and fences nobody."""
    await caller.grant(0)
    async with worker() as journal:
        assert Outcome.DONE is await to_the_end(journal, 0)
        await database.execute(
            f"ALTER TABLE journal DETACH PARTITION {month(0)}; ALTER TABLE {month(0)} RENAME TO aside"
        )
        await caller.grant(0)
        assert Outcome.DONE is await to_the_end(journal, 0)
    assert 1 == await database.fetchval("SELECT count(*) FROM journal")
    assert [] == await database.fetch("SELECT FROM shards WHERE fence IS NOT NULL")


async def test_workers_of_several_shards_need_a_month_at_once(database, redis, caller, worker):
    for shard in range(3):
        await caller.grant(shard, calls=3)
    for name in await names(database):
        await database.execute(f"DROP TABLE {name}")

    async def one(shard: int) -> Outcome:
        async with worker([shard]) as journal:
            return await to_the_end(journal, shard)

    assert [Outcome.DONE] * 3 == await asyncio.gather(*map(one, range(3)))
    assert 9 == await assert_equal(database, redis)

"""Whoever does something else while a month goes to another disk: nobody sees less or waits for long (I8).

What was thought of: a transaction that is older than the copy; somebody who reads the month by its name, or
asks which months there are; the journal gets an index or a column; a table that has the name of the copy.
"""

import asyncio

import asyncpg
import pytest

from persistence import giving_way
from persistence.archiving import ArchiveRefused, move, unfinished
from persistence.archiving.tables import tablespaces_of
from persistence.calendar import MONTHS
from persistence.session import connect
from tests.integration.books import assert_equal
from tests.integration.journal.archives import (
    COLD,
    OWN,
    Killed,
    connection,
    killed_at,
    left_over,
    month,
    quick,
    rows_of,
)
from tests.integration.journal.workers import keep_journal

__all__ = ["connection", "month", "quick"]

COUNT = "SELECT count(*) FROM journal"


async def test_a_transaction_that_is_older_than_the_copy_sees_the_whole_journal(
    month, connection, database, quick, monkeypatch
):
    """It has looked at something, and not yet at the journal, so that no lock tells of it."""
    monkeypatch.setattr(giving_way, "TRIES_MAX", 2)
    name, rows = (await month()).name, len(await rows_of(connection))
    async with database.acquire() as reader:
        async with reader.transaction(isolation="repeatable_read"):
            assert 1 == await reader.fetchval("SELECT count(*) FROM ledger")
            with pytest.raises(ArchiveRefused, match="older than its copy does not end"):
                await move(connection, name, COLD)
            assert rows == await reader.fetchval(COUNT)
        assert COLD == (await move(connection, name, COLD)).after
        assert rows == await reader.fetchval(COUNT)


async def test_one_that_is_older_than_what_was_written_meanwhile_sees_all_it_should(
    month, connection, database, caller, worker, quick, monkeypatch
):
    """It begins when the copy is old for everybody, and before the last rows are copied."""
    monkeypatch.setattr(giving_way, "TRIES_MAX", 2)
    name, rows = (await month()).name, len(await rows_of(connection))
    async with database.acquire() as reader:
        transaction = reader.transaction(isolation="repeatable_read")
        written = []

        async def write(step: str) -> None:
            if step == "after settling" and not written:
                await transaction.start()
                written.append(await reader.fetchval("SELECT count(*) FROM ledger"))
                await caller.grant(1)
                await keep_journal(worker)

        with pytest.raises(ArchiveRefused, match="older than its copy does not end"):
            await move(connection, name, COLD, barrier=write)
        assert rows == await reader.fetchval(COUNT)
        await transaction.rollback()
    assert (await move(connection, name, COLD)).rows == await connection.fetchval(COUNT) > rows


async def test_who_has_gone_quiet_amid_the_exchange_keeps_nobody(
    month, connection, database, database_url, monkeypatch
):
    monkeypatch.setattr(giving_way, "QUIET_SECONDS", 1)
    name, rows = (await month()).name, len(await rows_of(connection))
    is_amid = asyncio.Event()

    async def sleep(step: str) -> None:
        if step == "amid exchange":
            is_amid.set()
            await asyncio.sleep(8)

    asleep = await connect(database_url)
    moving = asyncio.create_task(move(asleep, name, COLD, barrier=sleep))
    await is_amid.wait()
    assert rows == await database.fetchval(COUNT, timeout=6)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await moving
    await asleep.close()
    assert (await move(connection, name, COLD)).rows == rows


async def test_an_exchange_that_takes_long_is_taken_back(month, connection):
    """An index that has to be built, a disk that hangs: everybody waits for it."""

    async def take_long(step: str) -> None:
        if step == "amid exchange":
            await connection.execute("SELECT pg_sleep(5)")

    name = (await month()).name
    with pytest.raises(
        ArchiveRefused, match="took more than 1 s, for which everybody waits, and was taken back"
    ):
        await move(connection, name, COLD, barrier=take_long)
    assert OWN == (await month()).tablespace
    assert (await move(connection, name, COLD)).is_copied


async def others_read_until_it_is_refused(moving: asyncio.Task, other, seconds: float) -> None:
    """Each time within so many."""
    while not moving.done():
        assert await other.fetchval(COUNT, timeout=seconds)
        await asyncio.sleep(0.01)
    with pytest.raises(ArchiveRefused, match="somebody has been using its tables"):
        await moving


async def test_a_vacuum_of_the_month_keeps_nobody_from_the_journal(month, connection, database, monkeypatch):
    monkeypatch.setattr(giving_way, "LOCK_SECONDS", 3)
    monkeypatch.setattr(giving_way, "TRIES_MAX", 1)
    name = (await month()).name
    async with database.acquire() as vacuum, database.acquire() as other, vacuum.transaction():
        await vacuum.execute(f"LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE")
        moving = asyncio.create_task(move(connection, name, COLD))
        await others_read_until_it_is_refused(moving, other, 2)


async def test_who_reads_the_month_by_its_name_keeps_nobody_from_the_journal(
    month, connection, database, monkeypatch
):
    monkeypatch.setattr(giving_way, "LOCK_SECONDS", 3)
    monkeypatch.setattr(giving_way, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(giving_way, "TRIES_MAX", 4)
    name = (await month()).name
    async with database.acquire() as reader, database.acquire() as other, reader.transaction():
        await reader.execute(f"SELECT count(*) FROM {name}")  # which keeps its lock, and no snapshot
        moving = asyncio.create_task(move(connection, name, COLD))
        await others_read_until_it_is_refused(moving, other, 2.5)
    assert COLD == (await move(connection, name, COLD)).after


WAITS = """
SELECT EXISTS (
  SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
  WHERE datname = current_database() AND NOT granted
)
"""


async def test_who_asks_which_months_there_are_is_told_of_all(month, connection, database):
    """Also amid the exchange, for which the answer waits."""
    its = await month()
    asked = ["SELECT * FROM journal_months", MONTHS.replace("$1", "NULL")]
    async with connection.transaction():
        await connection.execute(f"""
        ALTER TABLE journal DETACH PARTITION {its.name};
        DROP TABLE {its.name};
        SELECT make_journal_table('{its.name}');
        ALTER TABLE journal ATTACH PARTITION {its.name} FOR VALUES FROM ('{its.since}') TO ('{its.until}');
        """)
        answers = [asyncio.create_task(database.fetch(each, timeout=20)) for each in asked]
        while not await connection.fetchval(WAITS):
            assert not all(each.done() for each in answers), "nobody had to wait"
            await asyncio.sleep(0.01)
    for answer in await asyncio.gather(*answers):
        assert its.name in {row["name"] for row in answer}
        assert all(None not in row.values() for row in answer)


CHANGES = [
    "CREATE INDEX ON journal (by)",
    "CREATE INDEX ON ONLY journal (by)",
    "ALTER TABLE journal ADD COLUMN more text DEFAULT 'x'",
    "ALTER TABLE journal ADD CONSTRAINT more CHECK (amount IS NOT NULL)",
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_copy_of_a_journal_that_was_changed_is_made_anew(month, connection, database, change):
    """Attached as it is, it would get its index while everybody waits."""
    name = (await month()).name

    async def alter(step: str) -> None:
        if step == "after settling":
            await database.execute(change)

    with pytest.raises(
        ArchiveRefused, match=r"was changed meanwhile: .*by|more|amount.*The same command makes a new copy"
    ):
        await move(connection, name, COLD, barrier=alter)
    rows = await rows_of(connection)
    assert COLD == (await move(connection, name, COLD)).after
    assert (rows, []) == (await rows_of(connection), await left_over(connection))
    assert {COLD} == await tablespaces_of(connection, name)


ON_ITS_OWN = [
    "CREATE INDEX ON {month} (model)",
    "ALTER TABLE journal ADD CONSTRAINT more CHECK (version >= 0) NOT VALID",
    """
    CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER told AFTER INSERT ON journal FOR EACH ROW EXECUTE FUNCTION told()
    """,
]


@pytest.mark.parametrize("what", ON_ITS_OWN)
async def test_what_a_month_need_not_have_keeps_it_nowhere(month, connection, what):
    name = (await month()).name
    await connection.execute(what.format(month=name))
    rows = await rows_of(connection)
    assert (await move(connection, name, COLD)).is_copied
    assert rows == await rows_of(connection)
    triggers = "SELECT array_agg(tgname ORDER BY tgname) FROM pg_trigger WHERE tgrelid = $1::text::regclass"
    assert ("told" in await connection.fetchval(triggers, name)) == ("told" in what)


async def test_what_a_new_table_would_not_have_is_told_before_anything_is_copied(month, connection):
    await connection.execute("""
    CREATE TABLE kinds AS SELECT DISTINCT kind FROM journal;
    ALTER TABLE kinds ADD PRIMARY KEY (kind);
    ALTER TABLE journal ADD FOREIGN KEY (kind) REFERENCES kinds
    """)
    with pytest.raises(ArchiveRefused, match="has not what `journal` has: FOREIGN KEY"):
        await move(connection, (await month()).name, COLD)
    assert [] == await left_over(connection)


async def test_a_table_of_somebody_elses_is_left_alone(month, connection):
    name = (await month()).name
    await connection.execute(f"CREATE TABLE {name}_copy AS SELECT * FROM {name}")
    with pytest.raises(ArchiveRefused, match=f"there is a table {name}_copy that is not its copy. Rename it"):
        await move(connection, name, COLD)
    assert await connection.fetchval(f"SELECT count(*) FROM {name}_copy") == (await month()).rows
    assert [] == await unfinished(connection)


async def test_a_copy_that_is_not_wanted_any_more_goes(month, connection):
    name = (await month()).name

    with pytest.raises(Killed):
        await move(connection, name, COLD, barrier=killed_at("after copy"))
    assert [f"{name}_copy"] == [each.name for each in await unfinished(connection)]
    moved = await move(connection, name, OWN)
    assert (moved.before, moved.after, await left_over(connection)) == (OWN, OWN, [])


async def test_an_index_that_stayed_behind_follows(month, connection, database, redis):
    name = (await month()).name
    await move(connection, name, COLD)
    await connection.execute("CREATE INDEX ON journal (by)")
    assert {COLD, OWN} == await tablespaces_of(connection, name)
    assert (await move(connection, name, COLD)).is_copied
    assert {COLD} == await tablespaces_of(connection, name)
    assert (await month()).rows == await assert_equal(database, redis)


async def test_indexes_that_would_go_elsewhere_are_told(month, connection):
    name = (await month()).name
    await connection.execute(f"ALTER INDEX journal_at SET TABLESPACE {COLD}")
    await move(connection, name, COLD)
    with pytest.raises(ArchiveRefused, match="have the tablespace cold, and so would those of its months"):
        await move(connection, name, OWN)
    assert (COLD, []) == ((await month()).tablespace, await left_over(connection))
    await connection.execute(f"ALTER INDEX journal_at SET TABLESPACE {OWN}")
    assert OWN == (await move(connection, name, OWN)).after

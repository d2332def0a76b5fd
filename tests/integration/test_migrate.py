"""The tables come in order, once each, and are never changed behind anybody's back."""

import asyncio
import hashlib

import asyncpg
import pytest

from persistence import giving_way
from persistence.migrate import Migration, MigrationRefused, migrate, shipped
from persistence.session import connect

SHIPPED = [each.name for each in shipped()]


def of(name: str, sql: str) -> Migration:
    return Migration(name, sql, hashlib.sha256(sql.encode()).hexdigest())


ONE = of("0001_one.sql", "-- One.\nCREATE TABLE one (x integer);")
TWO = of("0002_two.sql", "-- Two.\nCREATE TABLE two (x integer); INSERT INTO two VALUES (2);")


async def tables(database_url: str) -> set[str]:
    connection = await connect(database_url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in rows} - {"migrations"}


async def test_an_empty_database_gets_every_file_in_order_and_only_once(empty_database_url):
    assert await migrate(empty_database_url) == SHIPPED
    assert await migrate(empty_database_url) == []
    assert {"ledger", "shards", "journal", "accounts", "api_keys"} <= await tables(empty_database_url)


async def test_processes_that_migrate_at_once_take_turns(empty_database_url):
    done = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(done, key=len) == [[], [], [], SHIPPED]


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(empty_database_url):
    await migrate(empty_database_url, [ONE])
    with pytest.raises(MigrationRefused, match=r"0001_one\.sql was changed after it had been applied"):
        await migrate(empty_database_url, [of(ONE.name, ONE.sql + " "), TWO])
    assert await tables(empty_database_url) == {"one"}


async def test_a_database_newer_than_the_release_is_refused(empty_database_url):
    await migrate(empty_database_url, [ONE, TWO])
    with pytest.raises(MigrationRefused, match=r"newer than this release: it has had 0002_two\.sql"):
        await migrate(empty_database_url, [ONE])


async def test_a_file_slipped_in_before_one_that_was_applied_is_refused(empty_database_url):
    await migrate(empty_database_url, [TWO])
    with pytest.raises(MigrationRefused, match=r"0001_one\.sql comes before 0002_two\.sql"):
        await migrate(empty_database_url, [ONE, TWO])


async def test_a_file_that_fails_leaves_nothing_of_itself_and_all_before_it(empty_database_url):
    broken = of("0003_broken.sql", "-- Broken.\nCREATE TABLE three (x integer); SELECT 1 / 0;")
    with pytest.raises(
        MigrationRefused, match=r"0003_broken\.sql failed and was taken back: division by zero"
    ):
        await migrate(empty_database_url, [ONE, TWO, broken])
    assert await tables(empty_database_url) == {"one", "two"}
    repaired = of(broken.name, "-- Repaired.\nCREATE TABLE three (x integer);")
    assert await migrate(empty_database_url, [ONE, TWO, repaired]) == ["0003_broken.sql"]


WAITS = """
SELECT EXISTS (
  SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND application_name = 'lastro migrate' AND wait_event_type = 'Lock'
)
"""


async def test_who_uses_a_table_for_long_keeps_nobody_else_from_it(empty_database_url, monkeypatch):
    """What waits for a long question would have all others wait behind it; it gives way and tries again."""
    monkeypatch.setattr(giving_way, "LOCK_SECONDS", 1)
    monkeypatch.setattr(giving_way, "PAUSE_SECONDS", 0.5)
    await migrate(empty_database_url, [ONE])
    more = of("0002_more.sql", "-- More.\nALTER TABLE one ADD COLUMN y integer;")
    reader, other = await connect(empty_database_url), await connect(empty_database_url)
    try:
        async with reader.transaction():
            assert 0 == await reader.fetchval("SELECT count(*) FROM one")
            migrating = asyncio.create_task(migrate(empty_database_url, [ONE, more]))
            for _ in range(3):
                while not await other.fetchval(WAITS):
                    assert not migrating.done()
                    await asyncio.sleep(0.01)
                assert 0 == await other.fetchval("SELECT count(*) FROM one", timeout=5)  # when it gives way
            assert not migrating.done()
        assert [more.name] == await migrating
        async with reader.transaction():
            await reader.execute("LOCK TABLE one")
            monkeypatch.setattr(giving_way, "TRIES_MAX", 2)
            last = of("0003_last.sql", "-- Last.\nDROP TABLE one;")
            with pytest.raises(
                MigrationRefused, match=r"0003_last\.sql was not applied: somebody has been using"
            ):
                await migrate(empty_database_url, [ONE, more, last])
    finally:
        await reader.close()
        await other.close()


async def test_the_journal_takes_no_update_delete_or_truncate(empty_database_url):
    await migrate(empty_database_url)
    connection = await connect(empty_database_url)
    try:
        for statement in ("UPDATE journal SET amount = 0", "DELETE FROM journal", "TRUNCATE journal"):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await connection.execute(statement)
    finally:
        await connection.close()


def test_every_migration_opens_with_a_sentence():
    for each in shipped():
        first = each.sql.partition("\n")[0]
        assert first.startswith("-- "), each.name
        assert first[3].isupper(), each.name

"""What else is done with a ledger whose old reservations were dropped: erased, exported, brought elsewhere,
cleaned by hand.
"""

import asyncio
from functools import partial

import asyncpg
import pytest
from click.testing import CliRunner

from app import logs
from app.cli import cli
from app.ledger import keys
from persistence import rebuild
from persistence.backup.export import export
from persistence.backup.importing import import_backup
from persistence.backup.reading import Backup
from persistence.birth import give_birth
from persistence.cleaning.cleaning import _LOCK, PostgresCleaning
from tests.integration.backup.conftest import (
    journal_all,
    living,
    past_url,
    second,
    second_url,
    template,
)
from tests.integration.backup.test_erase import ANA, life
from tests.integration.cleaning.dropped import drop_all

__all__ = ["journal_all", "life", "living", "past_url", "second", "second_url", "template"]


async def test_what_is_personal_of_a_dropped_reservation_is_erased_too(life, database):
    await life.live()
    await life.trim()
    await drop_all(database)
    async with database.acquire() as connection:
        before = await rebuild.reservations(connection, life.reservations)
        assert {"secret-image"} == {each.resource for each in before.values()}
        for each in life.reservations:  # a day later Redis has forgotten them
            await life.redis.delete(keys.reservation(ANA, each))
        assert 5 == (await life.erase()).notes
        after = await rebuild.reservations(connection, life.reservations)
    assert [] == await life.found()
    assert set(life.reservations) == after.keys()
    assert {(None, None, None)} == {
        (each.resource, each.metadata, each.cancel_reason) for each in after.values()
    }
    assert ["confirmed", "cancelled"] == [after[each].status for each in life.reservations]


async def test_a_backup_of_it_is_the_same_and_brings_everything_back_into_the_listing(
    past_url, second, redis, tmp_path
):
    connection = await asyncpg.connect(past_url)
    try:
        rows = "SELECT * FROM reservations ORDER BY id"
        before = await connection.fetch(rows)
        async with asyncpg.create_pool(past_url, min_size=1, max_size=2) as pool:
            await drop_all(pool)
        await export(connection, tmp_path / "b")
    finally:
        await connection.close()
    await import_backup(second, redis, Backup(tmp_path / "b"))
    assert before == await second.fetch(rows)
    assert await second.fetchval("SELECT kept_from = '-infinity' FROM cleanup")


@pytest.fixture
async def cleanup(database_url, redis_url, tmp_path, monkeypatch):
    """Runs `lastro cleanup` in a thread. Returns its exit code and what it said."""
    await give_birth(database_url, redis_url, 4)
    monkeypatch.setenv("LASTRO_DATABASE_URL", database_url)
    monkeypatch.setenv("LASTRO_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "set_up", lambda _level: None)  # which would outlive the test

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["cleanup", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return partial(asyncio.to_thread, run)


async def test_by_hand_it_counts_ends_and_drops_and_says_what_it_did(cleanup):
    assert (0, "0 reservations are due, 0 are old\n") == await cleanup("--count")
    for options in ((), ("--expired",)):
        code, said = await cleanup(*options)
        assert 0 == code, said
        assert "0 reservations ended, 0 old ones dropped, in 0." in said
    code, said = await cleanup("--count", "--expired")
    assert (2, True) == (code, "has no meaning beside it" in said)


async def test_by_hand_it_does_nothing_while_another_runs_or_nobody_answers(cleanup, database, monkeypatch):
    async with database.acquire() as connection:
        assert await connection.fetchval(PostgresCleaning.TAKE, _LOCK)
        assert (2, "Error: Another clean-up runs: nothing was done.\n") == await cleanup()
    monkeypatch.setenv("LASTRO_DATABASE_URL", "postgresql://lastro@127.0.0.1:9/lastro")
    code, said = await cleanup()
    assert (2, True) == (code, "PostgreSQL is away" in said)

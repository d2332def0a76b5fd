"""Clean-up by itself: when it is due, stopped, started or forced, and when it fails."""

import asyncio

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.cleaning import Standing
from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerUnavailable
from persistence.cleaning.cleaning import PostgresCleaning
from persistence.pool import open_pool
from tests.integration.cleaning.founded import cleaning, ledger, runs

__all__ = ["cleaning", "ledger"]


async def test_it_is_on_from_the_beginning_and_due_at_once_and_then_once_in_its_interval(
    ledger, cleaning, database
):
    its = cleaning()
    standing = await its.standing()
    assert Standing(True, False, 600, 0.0, None) == standing
    await asyncio.gather(*(cleaning().turn() for _ in range(8)))
    assert [("system", True, 0, 0, None, True)] == await runs(database)
    standing = await its.standing()
    assert 595 < standing.next_run_seconds <= 600
    assert standing.last.error is None
    await database.execute("UPDATE cleanups SET started_at = started_at - interval '599 seconds'")
    await its.turn()
    assert 1 == len(await runs(database))
    await database.execute("UPDATE cleanups SET started_at = started_at - interval '1 second'")
    await asyncio.gather(*(cleaning().turn() for _ in range(8)))
    assert 2 == len(await runs(database))


async def test_who_has_seen_that_it_is_due_looks_again_when_nobody_else_can_do_it(
    ledger, cleaning, database, monkeypatch
):
    late = cleaning()
    seen = await late.standing()
    assert 0 == seen.next_run_seconds
    await cleaning().turn()

    async def as_it_was():
        return seen

    monkeypatch.setattr(late, "standing", as_it_was)
    await late.turn()
    assert 1 == len(await runs(database))


async def test_a_stop_holds_for_every_process_until_somebody_starts_it_and_does_not_hold_up_others(
    ledger, cleaning, database
):
    await cleaning().stop("key:operator")
    await cleaning().turn()
    assert [] == await runs(database)
    standing = await cleaning().standing()
    assert (False, None) == (standing.enabled, standing.next_run_seconds)
    await cleaning().run("key:hand")
    await cleaning().force("key:force")
    assert [("key:hand",), ("key:force",)] == [row[:1] for row in await runs(database)]
    assert not (await cleaning().standing()).enabled
    await cleaning().start("key:operator", 900)
    assert (True, 900) == ((its := await cleaning().standing()).enabled, its.interval_seconds)
    await cleaning().start("key:operator")
    assert 600 == (await cleaning().standing()).interval_seconds
    assert "key:operator" == await database.fetchval("SELECT changed_by FROM cleanup")


async def test_who_forces_it_may_have_it_more_often(ledger, cleaning, database):
    await cleaning().force("key:force", 5)
    assert 1 == len(await runs(database))
    assert 4 < (await cleaning().standing()).next_run_seconds <= 5
    await database.execute("UPDATE cleanups SET started_at = started_at - interval '5 seconds'")
    await cleaning().turn()
    assert ["key:force", "system"] == [row[0] for row in await runs(database)]


async def test_what_only_ended_what_was_due_puts_nothing_off(ledger, cleaning, database):
    await cleaning().run("key:test", whole=False)
    assert 0 == (await cleaning().standing()).next_run_seconds
    await cleaning().turn()
    assert 2 == len(await runs(database))


async def test_one_that_fails_says_why_and_is_made_good_before_the_next_is_due(
    ledger, cleaning, database, redis, own_valkey
):
    own_valkey.kill()
    async with Redis.from_url(own_valkey.url) as gone:
        its = PostgresCleaning(database, ledger, gone, days=-1, interval_seconds=3600)
        with capture_logs() as logs, pytest.raises(LedgerUnavailable):
            await its.turn()
        assert ["warning"] == [each["log_level"] for each in logs if each["event"] == "cleanup.finished"]
        with pytest.raises(LedgerUnavailable):
            await its.count()
    (run,) = await runs(database)
    assert run[4].startswith("LedgerUnavailable")
    standing = await cleaning(interval_seconds=3600).standing()
    assert 295 < standing.next_run_seconds <= 300
    assert run[4] == standing.last.error


async def test_without_postgresql_nothing_is_told(ledger, redis):
    pool = await open_pool("postgresql://lastro@127.0.0.1:9/lastro")
    its = PostgresCleaning(pool, ledger, redis, days=-1, interval_seconds=600)
    for ask in (its.standing, its.count, its.turn):
        with pytest.raises(BackingUnavailable):
            await ask()
    pool.terminate()

"""What an account had at a moment is what it was seen to have then."""

import asyncio
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from app.http.times import present
from app.ledger.backing import BackingUnavailable
from app.ledger.entries import Leg
from app.ledger.errors import AccountNotFound, JournalBacklogged, LedgerUnavailable, Overloaded
from app.ledger.operations import Deduct, Grant
from app.ledger.replies import Account
from persistence import past as past_module
from persistence.folding import Contradiction
from persistence.past import PostgresPast
from persistence.pool import open_pool
from tests.integration.ledgers import journal_all
from tests.integration.reading.life import ACCOUNTS
from tests.integration.rows import MORNING

ENTRIES = "SELECT version, at, kind, available, held FROM journal WHERE account = $1 ORDER BY version"
MILLISECOND = timedelta(milliseconds=1)


def now():
    return present(0)


def shown(account: Account) -> Account:
    """What of an account is shown, in the order in which it is."""
    return msgspec.structs.replace(account, open_holds=0, lapses_at_ms=0, fence=None)


async def test_at_the_time_of_each_entry_the_balance_is_the_one_that_the_entry_names(
    past, life, worker, database
):
    kinds = Counter()
    for account in ACCOUNTS:
        entries = await database.fetch(ENTRIES, account)
        last = {row["at"]: row for row in entries}
        for at, row in last.items():
            found = await past.balance(account, at, now())
            assert (row["version"], row["available"], row["held"]) == (
                found.version,
                found.available,
                found.held,
            )
            assert (found.available, found.held) == (
                sum(lot.available for lot in found.lots),
                sum(lot.held for lot in found.lots),
            )
        kinds.update(row["kind"] for row in entries)
    assert {"granted", "deducted", "reserved", "confirmed", "refunded", "adjusted", "configured"} <= set(
        kinds
    )
    assert {"lapsed", "expired", "cancelled", "extended"} <= set(kinds)


async def test_lots_priorities_and_settings_are_as_redis_showed_them_at_that_version(
    past, life, worker, database
):
    compared = 0
    for account in ACCOUNTS:
        last = {row["at"]: row["version"] for row in await database.fetch(ENTRIES, account)}
        for at, version in last.items():
            if version in life.seen[account]:
                assert shown(life.seen[account][version]) == shown(await past.balance(account, at, now()))
                compared += 1
    assert compared > 100
    assert any(each.overdraft_limit for seen in life.seen.values() for each in seen.values())
    assert any(each.status == "frozen" for seen in life.seen.values() for each in seen.values())


async def test_small_pages_lead_to_the_same_balance(past, life, worker, database, monkeypatch):
    rows = await database.fetch(ENTRIES, "ana")
    middle = rows[len(rows) // 2]["at"]
    at_once = await past.balance("ana", middle, now())
    monkeypatch.setattr(past_module, "FOLDED_ROWS", 3)
    monkeypatch.setattr(past_module, "LONG_ROWS", 2)
    assert at_once == await past.balance("ana", middle, now())


async def test_before_its_first_entry_an_account_had_nothing_at_version_0(past, life, worker, database):
    first = (await database.fetch(ENTRIES, "ana"))[0]["at"]
    found = await past.balance("ana", first - MILLISECOND, now())
    assert (0, 0, 0, [], "active") == (found.version, found.available, found.held, found.lots, found.status)
    assert 1 == (await past.balance("ana", first + timedelta(microseconds=1), now())).version


async def test_between_two_entries_stands_what_the_earlier_one_left(past, rows):
    for after_ms in (0, 1000, 1000, 5000, 5001):
        await rows.append("ana", after_ms=after_ms, legs=[Leg("default", 0, 5, 0)])
    for after_ms, version in ((0, 1), (999, 1), (1000, 3), (1001, 3), (4999, 3), (5000, 4)):
        found = await past.balance("ana", MORNING + after_ms * MILLISECOND, now())
        assert (version, 5 * version) == (found.version, found.available)


async def test_an_account_that_nobody_opened_had_nothing_ever(past, ledger):
    for at in (MORNING, now()):
        with pytest.raises(AccountNotFound):
            await past.balance("nobody", at, now())
        with pytest.raises(AccountNotFound):
            await past.statement("nobody", MORNING, at, now())


async def test_what_the_journal_lacks_is_waited_for(past, ledger, database_url, redis_url):
    for _ in range(3):
        await ledger.grant(Grant(account="ana", amount=10))
    await asyncio.sleep(0.005)  # a statement ends before the moment that it names
    asked = asyncio.gather(past.balance("ana", now(), now()), past.statement("ana", MORNING, now(), now()))
    await journal_all(database_url, redis_url)
    balance, statement = await asked
    assert (30, 3) == (balance.available, statement.closing.version)


async def test_a_journal_that_does_not_come_is_not_guessed_at(past, ledger, monkeypatch):
    monkeypatch.setattr(past_module, "BEHIND_SECONDS", 0.1)
    await ledger.grant(Grant(account="ana", amount=10))
    with pytest.raises(JournalBacklogged):
        await past.balance("ana", now(), now())
    with pytest.raises(JournalBacklogged):
        await past.statement("ana", MORNING, now(), now())


async def test_a_moment_before_the_last_journaled_entry_is_answered_while_the_journal_lags(
    past, ledger, database_url, redis_url, database, monkeypatch
):
    monkeypatch.setattr(past_module, "BEHIND_SECONDS", 0.1)
    for _ in range(2):
        await ledger.grant(Grant(account="ana", amount=10))
        await asyncio.sleep(0.002)
    await journal_all(database_url, redis_url)
    await ledger.deduct(Deduct(account="ana", amount=1))
    first, second = [row["at"] for row in await database.fetch(ENTRIES, "ana")]
    assert 10 == (await past.balance("ana", first, now())).available
    with pytest.raises(JournalBacklogged):
        await past.balance("ana", second, now())


class Deaf:
    """A ledger whose Redis is away."""

    async def balance(self, account):
        raise LedgerUnavailable


async def test_without_redis_the_past_is_told_from_a_day_ago_backwards(database, rows):
    past = PostgresPast(database, Deaf())
    await rows.append("ana", legs=[Leg("default", 0, 5, 0)])
    assert 1 == (await past.balance("ana", now() - timedelta(hours=25), now())).version
    with pytest.raises(LedgerUnavailable):
        await past.balance("ana", now() - timedelta(hours=23), now())


async def test_a_journal_with_a_hole_is_not_added_up(past, rows):
    await rows.append("ana", legs=[Leg("default", 0, 5, 0)])
    rows.skip("ana")
    for after_ms in (1, 2):
        await rows.append("ana", after_ms=after_ms, legs=[Leg("default", 0, 5, 0)])
    with pytest.raises(Contradiction):
        await past.balance("ana", MORNING + MILLISECOND, now())
    with pytest.raises(Contradiction):
        await past.statement("ana", MORNING, MORNING + 2 * MILLISECOND, now())


async def test_a_statement_does_not_pass_over_a_hole(past, rows):
    for number in range(9):
        if number == 2:
            rows.skip("ana")
        else:
            await rows.append("ana", after_ms=number)
    statement = await past.statement("ana", MORNING, MORNING + timedelta(days=1), now())
    with pytest.raises(Contradiction):
        await anext(statement.entries)


async def test_long_histories_wait_for_their_turn_and_not_for_ever(past, rows, monkeypatch):
    monkeypatch.setattr(past_module, "LONG_ROWS", 1)
    monkeypatch.setattr(past_module, "LONG_WAIT_SECONDS", 0.05)
    for after_ms in range(3):
        await rows.append("ana", after_ms=after_ms, legs=[Leg("default", 0, 5, 0)])
    async with past._turn(2), past._turn(2):
        assert 1 == (await past.balance("ana", MORNING, now())).version
        with pytest.raises(Overloaded):
            await past.balance("ana", MORNING + MILLISECOND, now())
    assert 2 == (await past.balance("ana", MORNING + MILLISECOND, now())).version


async def test_without_postgresql_there_is_no_past(ledger):
    pool = await open_pool("postgresql://nobody@127.0.0.1:1/nothing")
    past = PostgresPast(pool, ledger)
    with pytest.raises(BackingUnavailable):
        await past.balance("ana", MORNING, now())
    with pytest.raises(BackingUnavailable):
        await past.statement("ana", MORNING, MORNING, MORNING)
    await pool.close()

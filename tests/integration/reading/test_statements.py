"""A statement adds up: what there was, what happened, what there was then."""

import random
from datetime import timedelta

from app.http.times import moment, present
from app.reports import Standing
from persistence import past as past_module
from tests.integration.ledgers import journal_all
from tests.integration.reading.life import ACCOUNTS
from tests.integration.rows import MORNING

TIMES = "SELECT at FROM journal WHERE account = $1 ORDER BY version"
MILLISECOND = timedelta(milliseconds=1)


def now():
    return present(0)


async def read(past, account, since, until):
    """A statement and its entries."""
    found = await past.statement(account, since, until, now())
    return found, [each.entry async for page in found.entries for each in page]


async def test_closing_is_opening_and_all_that_happened_between_whatever_the_times(
    past, life, worker, database, monkeypatch
):
    monkeypatch.setattr(past_module, "SHOWN_ROWS", 7)
    chance = random.Random(3)
    for account in ACCOUNTS:
        times = [row["at"] for row in await database.fetch(TIMES, account)]
        moments = [
            times[0] - MILLISECOND,
            times[0],
            times[-1],
            times[-1] + MILLISECOND,
            *chance.sample(times, 8),
        ]
        for _ in range(30):
            since, until = sorted(chance.choices(moments, k=2))
            statement, entries = await read(past, account, since, until)
            opening, closing = statement.opening, statement.closing
            assert len([at for at in times if since <= at < until]) == len(entries)
            assert len([at for at in times if at < since]) == opening.version
            running = [opening.available, opening.held]
            for number, entry in enumerate(entries, opening.version + 1):
                running[0] += sum(leg.available for leg in entry.legs)
                running[1] += sum(leg.held for leg in entry.legs)
                assert (number, *running) == (entry.version, entry.available, entry.held)
                assert since <= moment(entry.at_ms) < until
            assert (closing.available, closing.held, closing.version) == (
                *running,
                opening.version + len(entries),
            )


async def test_opening_and_closing_are_the_balances_as_of_then(past, life, worker, database):
    times = [row["at"] for row in await database.fetch(TIMES, "bea")]
    since, until = times[len(times) // 3], times[2 * len(times) // 3]
    statement, _ = await read(past, "bea", since, until)
    for at, standing in ((since, statement.opening), (until, statement.closing)):
        balance = await past.balance("bea", at - MILLISECOND, now())
        assert standing == Standing(balance.available, balance.held, balance.version)


async def test_what_comes_while_a_statement_is_read_is_not_in_it(
    past, life, database, database_url, redis_url, monkeypatch
):
    monkeypatch.setattr(past_module, "SHOWN_ROWS", 5)
    await past._ledger.balance("ana")  # what is due happens
    await journal_all(database_url, redis_url)
    tomorrow = now() + timedelta(days=1)
    statement = await past.statement("ana", MORNING, tomorrow, now())
    read_so_far = await anext(statement.entries)
    await life.go_on(40)
    await journal_all(database_url, redis_url)
    entries = read_so_far + [each async for page in statement.entries for each in page]
    assert list(range(1, statement.closing.version + 1)) == [each.entry.version for each in entries]
    assert statement.closing.version < len(await database.fetch(TIMES, "ana"))


async def test_a_statement_of_no_time_has_no_entries_and_one_balance(past, life, worker, database):
    at = (await database.fetch(TIMES, "cid"))[5]["at"]
    statement, entries = await read(past, "cid", at, at)
    assert ([], statement.opening) == (entries, statement.closing)
    assert statement.opening.version > 0


async def test_before_an_account_was_opened_it_had_nothing(past, life, worker):
    statement, entries = await read(past, "ana", MORNING - timedelta(days=9), MORNING)
    assert ([], Standing(0, 0, 0), Standing(0, 0, 0)) == (entries, statement.opening, statement.closing)

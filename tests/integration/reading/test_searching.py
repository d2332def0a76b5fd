"""Reservations and accounts are found page by page, by indexes, whatever is asked and made meanwhile."""

import base64
from datetime import datetime, timedelta

import msgspec
import pytest

from app.ledger.backing import BackingUnavailable
from app.ledger.shards import new_reservation_id, shard_of
from app.reports import InvalidCursor
from app.searching import AccountFilter, ReservationFilter
from persistence import searching as searching_module
from persistence.pool import open_pool
from persistence.searching import PostgresSearching
from tests.integration.rows import MORNING, MORNING_MS, SHARDS

RESERVATION = """
INSERT INTO reservations (id, shard, account, status, reserved, captured, released, held, expires_at,
  created_at, settled_at, cancel_cause, model, reserved_seq, ended_seq)
VALUES ($1::text::uuid, $2, $3, $4, 5, $5, $6, $7, $8, $9, $10, $11, $12, 1, $13)
"""
ACCOUNT = """
INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at, overdraft_limit, status,
  low_balance)
VALUES ($1, $2, 3, 7, 2, $3, $3, 40, 'frozen', 9)
"""
MINUTE = timedelta(minutes=1)
ALL = ReservationFilter()


@pytest.fixture
def searching(database):
    return PostgresSearching(database)


@pytest.fixture
def hold(database):
    """Makes reservations, each a minute after the one before, due ten minutes later."""
    made = []

    async def hold(status="pending", account="ana", cause=None, model=None, made_at=None):
        number = len(made) if made_at is None else made_at
        id_ = new_reservation_id(shard_of(account, SHARDS), MORNING_MS + 60_000 * number)
        at = MORNING + number * MINUTE
        ended = status != "pending"
        spent = 5 if status == "confirmed" else 0
        await database.execute(
            RESERVATION, id_, shard_of(account, SHARDS), account, status, spent, 5 - spent if ended else 0,
            0 if ended else 5, at + 10 * MINUTE, at, at if ended else None, cause, model,
            2 if ended else None,
        )  # fmt: skip
        made.append(id_)
        return id_

    return hold


@pytest.fixture
def account(database):
    async def open_one(name):
        await database.execute(ACCOUNT, name, shard_of(name, SHARDS), MORNING)

    return open_one


async def walk(ask, which, limit, between=None):
    """All that the pages of a filter bring; `between` is awaited before each page but the first."""
    found, cursor = [], None
    while True:
        page = await ask(which, cursor=cursor, limit=limit)
        assert len(page.data) <= limit
        found += page.data
        if (cursor := page.next_cursor) is None:
            return found
        if between:
            await between()


async def ids(searching, limit=3, **which):
    return [each.id for each in await walk(searching.reservations, ReservationFilter(**which), limit)]


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 200])
async def test_reservations_come_newest_first_and_once(searching, hold, limit):
    made = [await hold(account=("ana", "bea")[number % 2]) for number in range(7)]
    assert made[::-1] == await ids(searching, limit)
    assert made[::-2] == await ids(searching, limit, account="ana")


async def test_every_filter_of_reservations_holds_and_all_together(searching, hold):
    pending = await hold(account="bea", model="flux")
    confirmed = await hold("confirmed", model="flux")
    cancelled = await hold("cancelled", cause="requested")
    failed = await hold("cancelled", cause="failed", model="flux")
    expired = await hold("cancelled", cause="expired")
    assert [expired, failed, cancelled, confirmed, pending] == await ids(searching)
    assert [pending] == await ids(searching, status="pending")
    assert [confirmed] == await ids(searching, status="confirmed")
    assert [failed, cancelled] == await ids(searching, status="cancelled")
    assert [expired] == await ids(searching, status="expired")
    assert [failed, confirmed, pending] == await ids(searching, model="flux")
    assert [cancelled, confirmed, pending] == await ids(searching, due_before=MORNING + 13 * MINUTE)
    assert [] == await ids(searching, status="pending", account="ana")
    assert [failed] == await ids(
        searching, account="ana", status="cancelled", model="flux", due_before=MORNING + 14 * MINUTE
    )


async def test_pending_reservations_of_a_known_account_are_found(searching, hold, account):
    await account("ana")
    made = [await hold() for _ in range(4)]
    await hold("confirmed")
    assert made[::-1] == await ids(searching, account="ana", status="pending")


async def test_reservations_made_and_ended_meanwhile_neither_repeat_nor_hide_any(searching, hold, database):
    made = [await hold() for _ in range(9)]

    async def meanwhile():
        await hold()
        await hold(made_at=4)  # by a process whose clock is behind
        await database.execute("UPDATE reservations SET expires_at = expires_at + interval '1 day'")

    walked = [each.id for each in await walk(searching.reservations, ALL, 2, meanwhile)]
    assert len(set(walked)) == len(walked)
    assert made[::-1] == [each for each in walked if each in made]
    assert sorted(walked, reverse=True) == walked


async def test_a_reservation_is_shown_as_the_journal_has_it(searching, hold):
    id_ = await hold("cancelled", cause="expired", model="flux")
    (found,) = (await searching.reservations(ALL)).data
    assert (id_, "ana", "cancelled", "expired", 5, "flux") == (
        found.id, found.account, found.status, found.cancel_cause, found.released, found.model,
    )  # fmt: skip
    assert MORNING_MS + 600_000 == found.expires_at_ms


NAMES = ["a", "ab", "abc", "b%", "bab", "cab", "x_b", "xyb", "z.ab", "Ab"]


async def found(searching, text, limit=2, **more):
    return [each.account for each in await walk(searching.accounts, AccountFilter(text=text, **more), limit)]


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
async def test_accounts_that_begin_with_the_text_come_before_those_that_have_it_further_on(
    searching, account, limit
):
    for name in ("cab", "abc", "ab", "bab", "a", "z.ab", "Ab", "ab:ab"):
        await account(name)
    assert ["ab", "ab:ab", "abc", "bab", "cab", "z.ab"] == await found(searching, "ab", limit)
    assert ["Ab", "a", "ab", "ab:ab", "abc", "bab", "cab", "z.ab"] == await found(searching, "", limit)
    assert ["abc"] == await found(searching, "abc", limit)
    assert [] == await found(searching, "abcd", limit)
    assert ["z.ab"] == await found(searching, ".", limit)


@pytest.mark.parametrize(
    "text", ["%", "_", "\\", "a%", "a_b", "'", "a'b", "~", "é", "\U0010ffff", "a" * 128, "*", "$2", "{}"]
)
async def test_no_sign_stands_for_others(searching, account, text):
    for name in ("a", "ab", "axb", "a.b"):
        await account(name)
    assert [] == await found(searching, text)


async def test_an_underscore_is_an_underscore(searching, account):
    for name in ("a_b", "axb", "x.a_b"):
        await account(name)
    assert ["a_b", "x.a_b"] == await found(searching, "a_")


async def test_an_account_is_shown_with_its_settings_as_of_the_journal(searching, account):
    await account("ana")
    (one,) = (await searching.accounts(AccountFilter())).data
    assert {
        "account": "ana", "version": 3, "available": 7, "held": 2, "overdraft_limit": 40, "status": "frozen",
        "low_balance": 9,
    } == msgspec.structs.asdict(one)  # fmt: skip


async def test_one_account_is_found_among_all_only_where_the_text_is_in_it(searching, account):
    for name in ("ana", "anabel", "susana"):
        await account(name)
    assert ["susana"] == await found(searching, "ana", account="susana")
    assert ["ana"] == await found(searching, "", account="ana")
    assert [] == await found(searching, "bel", account="ana")


async def test_accounts_opened_meanwhile_neither_repeat_nor_hide_any(searching, account):
    there = [f"m{number:02}" for number in range(9)] + [f"x.m{number}" for number in range(4)]
    for name in there:
        await account(name)
    new = iter(range(1000))

    async def meanwhile():
        number = next(new)
        for name in (f"a{number}m", f"m{number:02}x", f"zm{number}"):
            await account(name)

    walked = [each.account for each in await walk(searching.accounts, AccountFilter(text="m"), 2, meanwhile)]
    assert len(set(walked)) == len(walked)
    assert there == [each for each in walked if each in there]


def forged(position):
    digest = base64.urlsafe_b64decode("AAAAAAAAAAA=")
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((digest, position))).decode().rstrip("=")


def with_position(cursor, position):
    packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    digest, _ = msgspec.msgpack.decode(packed)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((digest, position))).decode().rstrip("=")


async def test_a_cursor_that_no_page_gave_is_refused(searching, hold, account):
    for name in ("ana", "anb"):
        await account(name)
        await hold()
    of_reservations = (await searching.reservations(ALL, limit=1)).next_cursor
    of_accounts = (await searching.accounts(AccountFilter(text="an"), limit=1)).next_cursor
    wrong = ["", "x", "é", of_accounts, forged(["0" * 36]), of_reservations[:-1], of_reservations + "A"]
    wrong += [
        with_position(of_reservations, each) for each in (["-" * 36], [], ["a", "b"], [1], "x", ["\0" * 36])
    ]
    for each in wrong:
        with pytest.raises(InvalidCursor):
            await searching.reservations(ALL, cursor=each)
    with pytest.raises(InvalidCursor):
        await searching.reservations(ReservationFilter(account="ana"), cursor=of_reservations)
    for each in ([2, "a"], [0, "a\0"], [0, "a\n"], [0], ["a"], [0, "a" * 129], [0, "é"], [-1, "a"]):
        with pytest.raises(InvalidCursor):
            await searching.accounts(AccountFilter(text="an"), cursor=with_position(of_accounts, each))
    with pytest.raises(InvalidCursor):
        await searching.accounts(AccountFilter(text="a"), cursor=of_accounts)


@pytest.mark.parametrize("limit", [0, 201, -1])
async def test_a_limit_out_of_bounds_is_a_bug(searching, limit):
    with pytest.raises(ValueError, match="limit"):
        await searching.reservations(ALL, limit=limit)
    with pytest.raises(ValueError, match="limit"):
        await searching.accounts(AccountFilter(), limit=limit)


async def test_without_postgresql_nothing_is_searched():
    pool = await open_pool("postgresql://nobody@127.0.0.1:1/nothing")
    searching = PostgresSearching(pool)
    with pytest.raises(BackingUnavailable):
        await searching.reservations(ALL)
    with pytest.raises(BackingUnavailable):
        await searching.accounts(AccountFilter())
    await pool.close()


@pytest.mark.parametrize("looked", [1, 2, 3, 5])
async def test_a_search_that_hardly_any_account_passes_goes_on_in_the_next_page(
    searching, account, monkeypatch, looked
):
    monkeypatch.setattr(searching_module, "LOOKED_MAX", looked)
    for number in range(10):
        await account(f"a{number}")
    for name in ("x", "b.x", "c.x", "z.x"):
        await account(name)
    short = await searching.accounts(AccountFilter(text="x"), limit=3)
    assert ["x"] == [each.account for each in short.data]
    assert short.next_cursor is not None
    for limit in (1, 2, 3):
        assert ["x", "b.x", "c.x", "z.x"] == await found(searching, "x", limit)
        assert [] == await found(searching, "y", limit)


@pytest.mark.parametrize("due", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"])
async def test_a_deadline_may_be_asked_about_at_any_time(searching, hold, due):
    made = await hold()
    assert ([made] if due > "2026" else []) == await ids(searching, due_before=datetime.fromisoformat(due))

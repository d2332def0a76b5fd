"""The history that people page through: exact for an account, in order over accounts."""

import asyncio
import base64
from datetime import timedelta

import pytest

from app.ledger.backing import BackingUnavailable
from app.ledger.entries import Notes
from app.ledger.shards import TransactionId, new_reservation_id, shard_of
from app.reports import InvalidCursor, TransactionFilter
from persistence.history import PostgresHistory
from persistence.pool import open_pool
from tests.integration.rows import MORNING, MORNING_MS, SHARDS, Rows

EVERYTHING = TransactionFilter()
OF_ONE = TransactionFilter(account="acc-1")


@pytest.fixture
def history(database):
    return PostgresHistory(database)


@pytest.fixture
def rows(database):
    return Rows(database)


async def walk(history, which, limit, between=None):
    """All that the pages of a filter bring; `between` is awaited before each page but the first."""
    found, cursor = [], None
    while True:
        page = await history.transactions(which, cursor=cursor, limit=limit)
        assert len(page.data) <= limit
        assert page.has_more == (page.next_cursor is not None)
        found += page.data
        if (cursor := page.next_cursor) is None:
            return found
        if between:
            await between()


def versions(transactions):
    return [each.entry.version for each in transactions]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 200])
async def test_the_pages_of_an_account_bring_every_version_once_newest_first(history, rows, limit):
    for _ in range(7):
        await rows.append("acc-1")
        await rows.append("acc-2")
    assert [7, 6, 5, 4, 3, 2, 1] == versions(await walk(history, OF_ONE, limit))


async def test_entries_that_come_while_an_account_is_paged_neither_repeat_nor_hide_any(history, rows):
    for _ in range(9):
        await rows.append("acc-1")
    walked = await walk(history, OF_ONE, 2, between=lambda: rows.append("acc-1"))
    assert [9, 8, 7, 6, 5, 4, 3, 2, 1] == versions(walked)


@pytest.mark.parametrize("limit", [1, 3, 20])
async def test_a_listing_over_accounts_goes_by_time_then_shard_then_sequence(history, rows, limit):
    accounts = [f"acc-{n}" for n in range(5)]
    wrote = []
    for after_ms in (0, 0, 7, 7, 7, 9):
        wrote += [await rows.append(account, after_ms=after_ms) for account in accounts]
    expected = sorted(((entry.at_ms, shard, seq) for shard, seq, entry in wrote), reverse=True)
    walked = await walk(history, EVERYTHING, limit)
    assert expected == [(each.entry.at_ms, each.shard, each.sequence) for each in walked]


async def test_what_was_there_when_the_reading_began_comes_once_although_shards_commit_out_of_order(
    history, rows
):
    """A slow shard journals old entries while the pages are read: some come in their place, none disturbs."""
    fast, slow = "acc-1", "acc-2"
    assert shard_of(fast, SHARDS) != shard_of(slow, SHARDS)
    for n in range(20):
        await rows.append(fast, after_ms=10 * n)
    late = iter(range(0, 200, 15))
    walked = await walk(history, EVERYTHING, 3, between=lambda: rows.append(slow, after_ms=next(late)))
    assert list(range(20, 0, -1)) == [each.entry.version for each in walked if each.entry.account == fast]
    positions = [(each.entry.at_ms, each.shard, each.sequence) for each in walked]
    assert sorted(set(positions), reverse=True) == positions


async def test_paging_stays_exact_while_others_write_at_full_speed(history, rows):
    for _ in range(30):
        await rows.append("acc-1")

    async def write():
        while True:
            await rows.append("acc-1")

    writing = asyncio.create_task(write())
    for _ in range(5):
        walked = versions(await walk(history, OF_ONE, 7))
        assert list(range(walked[0], 0, -1)) == walked
    writing.cancel()


async def test_every_filter_holds_and_all_that_are_given_together(history, rows):
    reservation = new_reservation_id(3, MORNING_MS)
    await rows.append("acc-1", model="video", after_ms=0)
    await rows.append("acc-1", kind="reserved", reservation=reservation, task="t-1", after_ms=1000)
    await rows.append("acc-1", kind="confirmed", reservation=reservation, model="video", after_ms=2000)
    await rows.append("acc-2", model="video", after_ms=3000)
    second = MORNING + timedelta(seconds=1)

    async def kinds(**which):
        found = await walk(history, TransactionFilter(**which), 2)
        return [(each.entry.account[-1] + each.entry.kind[0]) for each in found]

    assert ["2g", "1c", "1r", "1g"] == await kinds()
    assert ["1c", "1r", "1g"] == await kinds(account="acc-1")
    assert ["1c", "1r"] == await kinds(reservation=reservation)
    assert ["1c", "1r"] == await kinds(task="t-1")
    assert ["2g", "1c", "1g"] == await kinds(model="video")
    assert ["2g", "1r", "1g"] == await kinds(kinds=("granted", "reserved"))
    assert ["2g", "1c", "1r"] == await kinds(since=second)
    assert ["1g"] == await kinds(until=second)
    assert ["1r"] == await kinds(since=second, until=second + timedelta(milliseconds=1))
    assert ["1c"] == await kinds(
        account="acc-1",
        reservation=reservation,
        task="t-1",
        kinds=("confirmed",),
        model="video",
        since=second,
    )
    assert [] == await kinds(account="acc-2", task="t-1")
    assert [] == await kinds(account="acc-3")


async def test_the_version_is_the_last_journaled_one_also_where_the_page_is_empty(history, rows):
    for _ in range(3):
        await rows.append("acc-1")
    assert 3 == (await history.transactions(OF_ONE, limit=1)).version
    assert 3 == (await history.transactions(TransactionFilter(account="acc-1", model="x"))).version
    assert (await history.transactions(EVERYTHING)).version is None
    assert (await history.transactions(TransactionFilter(account="nobody"))).version is None


async def test_a_transaction_is_found_by_its_id_with_its_notes(history, rows):
    shard, sequence, entry = await rows.append("acc-1", incarnation=4, notes=Notes(salt="", reason="why"))
    found = await history.transaction(TransactionId(shard, 4, sequence))
    assert (f"{shard}-4-{sequence}", entry) == (str(found.id), found.entry)
    assert '"reason":"why"' in found.notes
    (listed,) = (await history.transactions(OF_ONE)).data
    assert found == listed


@pytest.mark.parametrize(("incarnation", "step"), [(3, 0), (5, 0), (4, 1), (999_999_999_999_999, 0)])
async def test_an_id_of_another_incarnation_or_of_nothing_finds_nothing(history, rows, incarnation, step):
    shard, sequence, _ = await rows.append("acc-1", incarnation=4)
    assert await history.transaction(TransactionId(shard, incarnation, sequence + step)) is None


def changed(cursor, place):
    packed = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    packed[place] ^= 1
    return base64.urlsafe_b64encode(bytes(packed)).decode().rstrip("=")


async def test_a_cursor_that_no_page_gave_is_refused(history, rows):
    for _ in range(3):
        await rows.append("acc-1")
    cursor = (await history.transactions(OF_ONE, limit=1)).next_cursor
    for wrong in ("", "0", "x", "é", "a" * 10_000, cursor[:-1], cursor + "A", cursor + "=", f"{cursor} "):
        with pytest.raises(InvalidCursor):
            await history.transactions(OF_ONE, cursor=wrong)
    for place in range(12):
        with pytest.raises(InvalidCursor):
            await history.transactions(OF_ONE, cursor=changed(cursor, place))


@pytest.mark.parametrize(
    "other",
    [
        EVERYTHING,
        TransactionFilter(account="acc-2"),
        TransactionFilter(account="acc-1", model="video"),
        TransactionFilter(account="acc-1", since=MORNING),
        TransactionFilter(account="acc-1", until=MORNING),
        TransactionFilter(account="acc-1", kinds=("granted",)),
    ],
)
async def test_a_cursor_means_nothing_for_another_filter(history, rows, other):
    for account in ("acc-1", "acc-1", "acc-2", "acc-2"):
        await rows.append(account)
    cursor = (await history.transactions(OF_ONE, limit=1)).next_cursor
    with pytest.raises(InvalidCursor):
        await history.transactions(other, cursor=cursor)


async def test_a_cursor_says_nothing_to_whom_it_is_shown(history, rows):
    for _ in range(2):
        await rows.append("acc-1")
    cursor = (await history.transactions(OF_ONE, limit=1)).next_cursor
    assert cursor.isascii()
    assert len(cursor) < 60
    assert "acc-1" not in str(base64.urlsafe_b64decode(cursor + "=="))


@pytest.mark.parametrize("limit", [0, 201, -1])
async def test_a_limit_out_of_bounds_is_a_bug(history, limit):
    with pytest.raises(ValueError, match="limit"):
        await history.transactions(EVERYTHING, limit=limit)


async def test_without_postgresql_the_past_is_unavailable():
    pool = await open_pool("postgresql://nobody@127.0.0.1:1/nothing")
    history = PostgresHistory(pool)
    with pytest.raises(BackingUnavailable):
        await history.transactions(EVERYTHING)
    with pytest.raises(BackingUnavailable):
        await history.transaction(TransactionId(0, 1, 1))
    await pool.close()

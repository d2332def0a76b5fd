"""A renewal that keeps some of what is left: credits of a bucket move along to the new lot, in one entry."""

import pytest

from app.ledger.operations import Balance, Deduct, Grant
from tests.lua.direct import ANA
from tests.lua.invariants import check_keys
from tests.lua.scenes import MINUTE_MS, balance, configure, deduct, entries, grant, legs, reserve, rows


@pytest.mark.parametrize(
    ("most", "moved"),
    [
        (0, []),
        (1, [("plan", -1, 0)]),
        (3, [("plan", -3, 0)]),
        (4, [("plan", -3, 0), ("plan", -1, 0)]),
        (8, [("plan", -3, 0), ("plan", -5, 0)]),
        (900, [("plan", -3, 0), ("plan", -5, 0)]),
    ],
)
async def test_so_many_leftovers_at_most_move_along_the_soonest_to_lapse_first(direct, most, moved):
    await grant(direct, 5, "plan", 2 * MINUTE_MS)
    await grant(direct, 3, "plan", MINUTE_MS)
    applied = await grant(direct, 100, "plan", 3 * MINUTE_MS, rollover=most)
    sum_ = -sum(amount for _, amount, _ in moved)
    assert [*moved, ("plan", 100 + sum_, 0)] == legs(applied)
    assert (100, sum_ or None) == (applied.entry.amount, applied.entry.rollover)
    assert (108, 0) == await balance(direct)
    assert 100 + sum_ == (await direct.account()).lots[-1].available
    await check_keys(direct.redis)


async def test_only_what_lapses_earlier_and_is_of_the_bucket_moves(direct):
    now = direct.now_ms
    await grant(direct, 1, "plan")
    await grant(direct, 2, "plan", 9 * MINUTE_MS)
    await grant(direct, 4, "plan", 2 * MINUTE_MS)
    await grant(direct, 8, "plan", MINUTE_MS)
    await grant(direct, 16, "extra", MINUTE_MS)
    applied = await grant(direct, 100, "plan", 2 * MINUTE_MS, rollover=900)
    assert [("plan", now + MINUTE_MS, -8), ("plan", now + 2 * MINUTE_MS, 108)] == [
        (leg.bucket, leg.expires_at_ms, leg.available) for leg in applied.entry.legs
    ]
    assert [("extra", 16, 0), ("plan", 112, 0), ("plan", 2, 0), ("plan", 1, 0)] == await rows(direct)
    await check_keys(direct.redis)


async def test_a_lot_that_never_lapses_takes_along_all_that_would(direct):
    await grant(direct, 4, "plan", 2 * MINUTE_MS)
    await grant(direct, 8, "plan", MINUTE_MS)
    await grant(direct, 1, "plan")
    applied = await grant(direct, 100, "plan", rollover=10)
    assert [("plan", -8, 0), ("plan", -2, 0), ("plan", 110, 0)] == legs(applied)
    assert [("plan", 2, 0), ("plan", 111, 0)] == await rows(direct)
    await check_keys(direct.redis)


async def test_what_is_held_does_not_move(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    await reserve(direct, 7)
    applied = await grant(direct, 100, "plan", 2 * MINUTE_MS, rollover=900)
    assert (3, [("plan", -3, 0), ("plan", 103, 0)]) == (applied.entry.rollover, legs(applied))
    assert [("plan", 0, 7), ("plan", 103, 0)] == await rows(direct)
    await check_keys(direct.redis)


async def test_what_moved_along_lapses_with_the_lot_that_it_moved_to(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    await grant(direct, 100, "plan", 2 * MINUTE_MS, rollover=10)
    assert direct.now_ms + 2 * MINUTE_MS == (await direct.account()).lapses_at_ms
    await direct.clock.advance(2 * MINUTE_MS - 1)
    assert 110 == (await direct.do(Balance(account=ANA)))[1].available
    await direct.clock.advance(1)
    assert 0 == (await direct.do(Balance(account=ANA)))[1].available
    assert ["granted", "granted", "lapsed"] == [each.kind for each in await entries(direct)]
    await check_keys(direct.redis)


async def test_what_lapses_at_this_moment_is_gone_before_the_renewal(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    await direct.clock.advance(MINUTE_MS)
    applied = await grant(direct, 100, "plan", MINUTE_MS, rollover=10)
    assert [("lapsed", 10), ("granted", 100)] == [
        (each.kind, each.amount) for each in await entries(direct, 2)
    ]
    assert (None, (100, 0)) == (applied.entry.rollover, await balance(direct))
    await check_keys(direct.redis)


async def test_in_debt_there_is_nothing_to_move_along(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    await reserve(direct, 4)
    await configure(direct, overdraft_limit=100)
    await deduct(direct, 16)
    applied = await grant(direct, 100, "plan", 2 * MINUTE_MS, rollover=10)
    assert (None, [("plan", 90, 0), ("overdraft", 10, 0)]) == (applied.entry.rollover, legs(applied))
    await check_keys(direct.redis)


async def test_a_renewal_of_an_account_full_of_lots_finds_room_in_the_lot_that_it_empties(direct_valkey):
    direct = direct_valkey
    for i in range(63):
        await grant(direct, 1, f"b{i}")
    await grant(direct, 10, "plan", MINUTE_MS)
    renewal = {
        "account": ANA,
        "amount": 100,
        "bucket": "plan",
        "expires_at_ms": direct.now_ms + 2 * MINUTE_MS,
    }
    assert "limit_reached" == (await direct.refused(Grant(**renewal, rollover=9))).word
    applied, _, _ = await direct.do(Grant(**renewal, rollover=10))
    assert [("plan", -10, 0), ("plan", 110, 0)] == legs(applied)
    assert 64 == len(await rows(direct))
    await check_keys(direct.redis)


async def test_several_renewals_of_one_call_move_the_same_credits_on_and_on(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    later = [direct.now_ms + i * MINUTE_MS for i in (2, 3, 4)]
    await direct.send(
        *(Grant(account=ANA, amount=1, bucket="plan", expires_at_ms=at_ms, rollover=8) for at_ms in later),
        Deduct(account=ANA, amount=2),
    )
    assert [("plan", 2, 0), ("plan", 9, 0)] == await rows(direct)
    assert [8, 8, 8] == [each.rollover for each in await entries(direct) if each.rollover]
    await check_keys(direct.redis)

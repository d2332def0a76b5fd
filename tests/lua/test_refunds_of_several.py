"""refund of several transactions at once: which is given back first, and whether there is room for all."""

import pytest

from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Confirm
from app.ledger.replies import Applied
from tests.lua.invariants import check_keys
from tests.lua.scenes import (
    MINUTE_MS,
    balance,
    configure,
    deduct,
    entries,
    grant,
    keyed,
    legs,
    original,
    part,
    refund,
    reserve,
    rows,
)


async def parts_of(direct) -> tuple[str, list[Applied]]:
    """A reservation that captured 10, 20 and, at last, 15 and a charge of 5, the latest first."""
    await grant(direct, 100)
    id_ = await reserve(direct, 45, task="t", provider="fal", model="m", over_capture="charge")
    first, second = await part(direct, id_, 10, "p1"), await part(direct, id_, 20, "p2")
    last, _, _ = await direct.do(Confirm(reservation=id_, amount=20))
    return id_, [last, second, first]


async def test_of_several_the_first_is_given_back_first_as_an_entry_each(direct):
    id_, spent = await parts_of(direct)
    applied, account, _ = await direct.do(refund(*spent, amount=45, by="key:shop", **keyed()))
    made = await entries(direct, 3)
    assert [20, 20, 5] == [each.amount for each in made]
    assert [original(each).transaction for each in spent] == [each.refund_of for each in made]
    assert ["k", None, None] == [each.key for each in made]
    assert {("key:shop", id_, "t", "fal", "m")} == {
        (each.by, each.reservation, each.task, each.provider, each.model) for each in made
    }
    assert (made[0], 95) == (applied.entry, account.available)
    await check_keys(direct.redis)
    again, _, _ = await direct.do(refund(*spent, amount=45, by="key:shop", **keyed()))
    assert (applied.entry, True) == (again.entry, again.replayed)
    refused = await direct.refused(refund(*spent, amount=6))
    assert {"required": 6, "refunded": 45, "left": 5} == refused.facts
    await check_keys(direct.redis)


async def test_one_of_several_of_which_nothing_is_left_is_passed_over(direct):
    _, spent = await parts_of(direct)
    await direct.do(refund(spent[0]))
    await direct.do(refund(spent[1], amount=15))
    applied, _, _ = await direct.do(refund(*spent, **keyed()))
    made = await entries(direct, 2)
    assert [(5, "k"), (10, None)] == [(each.amount, each.key) for each in made]
    assert (made[0], (100, 0)) == (applied.entry, await balance(direct))
    refused = await direct.refused(refund(*spent))
    assert {"required": 50, "refunded": 50, "left": 0} == refused.facts
    await check_keys(direct.redis)


async def test_several_into_lots_that_have_lapsed_lapse_one_by_one(direct):
    await grant(direct, 30, "plan", MINUTE_MS)
    spent = [await deduct(direct, 10) for _ in range(3)]
    await direct.clock.advance(MINUTE_MS)
    await direct.do(refund(*spent))
    kinds = [(each.kind, each.amount) for each in await entries(direct, 6)]
    assert [("refunded", 10), ("lapsed", 10)] * 3 == kinds
    await check_keys(direct.redis)


async def test_several_that_come_to_more_than_the_bound_overflow_or_repay_to_the_last_digit(direct):
    await grant(direct, CREDITS_MAX)
    spent = [await deduct(direct, CREDITS_MAX)]
    await configure(direct, overdraft_limit=CREDITS_MAX)
    spent.append(await deduct(direct, CREDITS_MAX - 2))
    await grant(direct, 1)
    refused = await direct.refused(refund(*spent))
    assert ("balance_overflow", {"available": 3 - CREDITS_MAX, "held": 0}) == (refused.word, refused.facts)
    await deduct(direct, 1)
    await direct.do(refund(*spent))
    assert (CREDITS_MAX, 0) == await balance(direct)
    await check_keys(direct.redis)


LOTS_FULL = [
    ("of the default bucket", 63, ["x"], None, True),
    ("into one that is gone", 64, ["x"], None, False),
    ("into one that is there", 64, ["b0"], None, True),
    ("into two that are gone", 63, ["x", "y"], None, False),
    ("into a row that is empty, too", 63, ["x", "empty"], None, False),
    ("twice into the same that is gone", 63, ["x", "x"], None, True),
    ("into a bucket instead", 63, ["x", "y"], "z", True),
]


@pytest.mark.parametrize(
    ("_", "full", "into", "bucket", "fits"), LOTS_FULL, ids=[row[0] for row in LOTS_FULL]
)
async def test_there_must_be_room_for_every_lot_that_is_made_anew(direct_valkey, _, full, into, bucket, fits):
    """A row that was emptied is as full as any other once something comes back to it."""
    direct = direct_valkey
    spent = []
    for name in into:
        await grant(direct, 1, name, priority=1)
        spent.append(await deduct(direct, 1))
    for i in range(full):
        await grant(direct, 1, f"b{i}")
    asked = refund(*spent, bucket=bucket)
    if fits:
        await direct.do(asked)
    else:
        refused = await direct.refused(asked)
        assert ("limit_reached", {"what": "lots", "limit": 64}) == (refused.word, refused.facts)
    assert 64 >= len([row for row in await rows(direct) if row[1:] != (0, 0)])
    await check_keys(direct.redis)


async def test_debt_that_takes_all_of_it_needs_no_room(direct_valkey):
    direct = direct_valkey
    await grant(direct, 5, "gone")
    spent = await deduct(direct, 5)
    for i in range(64):
        await grant(direct, 1, f"b{i}")
    await reserve(direct, 64)
    await configure(direct, overdraft_limit=100)
    await deduct(direct, 5)
    applied, _, _ = await direct.do(refund(spent))
    assert [("overdraft", 5, 0)] == legs(applied)
    await check_keys(direct.redis)

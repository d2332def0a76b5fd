"""A confirm of more than is held: refused, cut to what is held, or the rest is charged as a deduct would."""

import pytest

from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Confirm, Find, Grant
from tests.lua.direct import ANA
from tests.lua.dump import dump, without_traces
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
    part,
    reserve,
    rows,
)


@pytest.mark.parametrize(
    ("agreed", "asked", "outcome"),
    [
        ({}, {}, "reject"),
        ({}, {"over_capture": "cap"}, "cap"),
        ({}, {"over_capture": "charge"}, "charge"),
        ({"over_capture": "cap"}, {}, "cap"),
        ({"over_capture": "charge"}, {}, "charge"),
        ({"over_capture": "charge"}, {"over_capture": "cap"}, "cap"),
        ({"over_capture": "charge"}, {"over_capture": "reject"}, "reject"),
    ],
)
async def test_what_the_confirm_says_goes_before_what_the_reservation_says(direct, agreed, asked, outcome):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, **agreed)
    confirm = Confirm(reservation=id_, amount=75, **asked)
    if outcome == "reject":
        before = without_traces(await dump(direct.redis))
        refused = await direct.refused(confirm)
        assert ("exceeds_reservation", {"required": 75, "held": 60}) == (refused.word, refused.facts)
        assert before == without_traces(await dump(direct.redis))
        return
    charged = 15 if outcome == "charge" else 0
    applied, account, shown = await direct.do(confirm)
    entry = applied.entry
    assert (60 + charged, 60, charged, 0) == (entry.amount, entry.captured, entry.charged, entry.released)
    assert ("confirmed", 60, 60, charged, 0) == (
        shown.status, shown.reserved, shown.captured, shown.charged, shown.released,
    )  # fmt: skip
    assert (40 - charged, 0) == (account.available, account.held)
    await check_keys(direct.redis)


async def test_what_is_charged_is_taken_in_spending_order_and_a_lot_has_one_leg(direct):
    await grant(direct, 10, "a", priority=1)
    await grant(direct, 10, "b", priority=2, in_ms=MINUTE_MS)
    id_ = await reserve(direct, 15, over_capture="charge")
    await grant(direct, 3, "first", priority=0)
    await grant(direct, 10, "last", priority=3)
    applied, _, _ = await direct.do(Confirm(reservation=id_, amount=24))
    assert [("a", 0, -10), ("b", -5, -5), ("first", -3, 0), ("last", -1, 0)] == legs(applied)
    assert [("last", 9, 0)] == [row for row in await rows(direct) if row[1:] != (0, 0)]
    await check_keys(direct.redis)


async def test_what_is_charged_may_be_owed(direct):
    await grant(direct, 60)
    id_ = await reserve(direct, 55, over_capture="charge")
    await configure(direct, overdraft_limit=10)
    refused = await direct.refused(Confirm(reservation=id_, amount=71))
    assert ("insufficient_credits", {"required": 16, "available": 5, "held": 0}) == (
        refused.word, refused.facts,
    )  # fmt: skip
    applied, _, _ = await direct.do(Confirm(reservation=id_, amount=70))
    assert [("default", -5, -55), ("overdraft", -10, 0)] == legs(applied)
    assert (-10, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_what_cannot_be_charged_leaves_everything_held(direct):
    """The hold of the reservation itself is no help, those of others are."""
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS, over_capture="charge")
    before = without_traces(await dump(direct.redis))
    refused = await direct.refused(Confirm(reservation=id_, amount=101))
    assert ("insufficient_credits", {"required": 41, "available": 40, "held": 0}) == (
        refused.word, refused.facts,
    )  # fmt: skip
    assert before == without_traces(await dump(direct.redis))
    other = await reserve(direct, 30, ttl_ms=3 * MINUTE_MS)
    refused = await direct.refused(Confirm(reservation=id_, amount=100))
    facts = {"required": 40, "available": 10, "held": 30, "open_reservations": 1}
    assert ("credits_held", facts | {"next_release_at_ms": direct.now_ms + 3 * MINUTE_MS}) == (
        refused.word, refused.facts,
    )  # fmt: skip
    _, _, shown = await direct.do(Find(reservation=id_))
    assert ("pending", 60) == (shown.status, shown.held)
    await direct.do(Confirm(reservation=other, amount=0))
    await direct.do(Confirm(reservation=id_, amount=100))
    assert (0, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_after_parts_only_what_is_still_held_counts(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    await part(direct, id_, 50, "p1")
    refused = await direct.refused(Confirm(reservation=id_, amount=11))
    assert {"required": 11, "held": 10} == refused.facts
    _, _, shown = await direct.do(
        Confirm(reservation=id_, amount=15, over_capture="charge", final=False, **keyed("p2"))
    )
    assert ("confirmed", 60, 5, 0, 1) == (
        shown.status, shown.captured, shown.charged, shown.released, len(shown.parts),
    )  # fmt: skip
    [last] = await entries(direct, 1)
    assert (15, 10, 5, 0) == (last.amount, last.captured, last.charged, last.released)
    await check_keys(direct.redis)


async def test_a_frozen_account_spends_what_is_held_and_nothing_beyond_it(direct):
    await grant(direct, 100)
    ids = [await reserve(direct, 20) for _ in range(4)]
    await configure(direct, status="frozen")
    more = {"over_capture": "charge"}
    assert "account_frozen" == (await direct.refused(Confirm(reservation=ids[0], amount=21, **more))).word
    assert "exceeds_reservation" == (await direct.refused(Confirm(reservation=ids[0], amount=21))).word
    await direct.do(Confirm(reservation=ids[0], amount=20, **more))
    await direct.do(Confirm(reservation=ids[1], amount=21, over_capture="cap"))
    await direct.do(Confirm(reservation=ids[2], amount=5))
    await part(direct, ids[3], 5, "p1")
    await check_keys(direct.redis)


async def test_the_largest_charge_beyond_the_smallest_hold_is_exact(direct):
    await grant(direct, CREDITS_MAX)
    id_ = await reserve(direct, 1, over_capture="charge")
    applied, account, shown = await direct.do(Confirm(reservation=id_, amount=CREDITS_MAX))
    assert (CREDITS_MAX, CREDITS_MAX - 1) == (applied.entry.amount, shown.charged)
    assert (0, 0) == (account.available, account.held)
    await check_keys(direct.redis)


async def test_the_policies_and_the_price_stand_in_the_entry_and_in_the_reservation(direct):
    price = '{"model":"flux/\\"dev\\"","version":3,"base":"0","price":"0.5","units":"120.000001"}'
    await grant(direct, 100)
    id_ = await reserve(direct, 60, over_capture="charge", on_expired="charge", price=price, model="flux")
    [last] = await entries(direct, 1)
    assert ("charge", "charge", 'flux/"dev"', 3) == (
        last.over_capture, last.on_expired, last.price.model, last.price.version,
    )  # fmt: skip
    await direct.do(Confirm(reservation=id_, amount=61, model="flux/pro"))
    _, _, shown = await direct.do(Find(reservation=id_))
    assert (last.price, "charge", "charge", "flux/pro") == (
        shown.price, shown.over_capture, shown.on_expired, shown.model,
    )  # fmt: skip
    plain = await reserve(direct, 1)
    [last] = await entries(direct, 1)
    assert (None, None, None) == (last.over_capture, last.on_expired, last.price)
    _, _, shown = await direct.do(Find(reservation=plain))
    assert ("reject", "reject", None) == (shown.over_capture, shown.on_expired, shown.price)


async def test_a_charge_of_this_call_sees_what_others_of_it_have_spent(direct):
    await grant(direct, 100)
    ids = [await reserve(direct, 10, over_capture="charge") for _ in range(3)]
    reply = await direct.send(
        Confirm(reservation=ids[0], amount=50),
        Confirm(reservation=ids[1], amount=50),
        Grant(account=ANA, amount=10),
        Confirm(reservation=ids[1], amount=50),
    )
    words = [getattr(each, "word", "ok") for each in reply.results]
    assert ["ok", "credits_held", "ok", "ok"] == words
    assert (0, 10) == await balance(direct)
    await deduct_fails(direct)
    await check_keys(direct.redis)


async def deduct_fails(direct) -> None:
    with pytest.raises(AssertionError, match="credits_held"):
        await deduct(direct, 1)

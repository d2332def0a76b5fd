"""I5's one exception: what the deadline has ended may once be confirmed after all, from what is available."""

import pytest

from app.ledger import keys
from app.ledger.operations import Cancel, Confirm, Extend, Find, Sweep
from tests.lua.direct import ANA, SHARD, Direct
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import (
    DAY_MS,
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
)


async def expired(direct: Direct, amount: int = 60, **more) -> str:
    """A reservation of ana whose deadline has passed; she has 100."""
    await grant(direct, 100)
    id_ = await reserve(direct, amount, ttl_ms=MINUTE_MS, **more)
    await direct.clock.advance(MINUTE_MS)
    await direct.do(Sweep(shard=SHARD))
    return id_


@pytest.mark.parametrize(
    ("agreed", "asked", "late"),
    [
        ({}, {}, False),
        ({}, {"on_expired": "charge"}, True),
        ({"on_expired": "charge"}, {}, True),
        ({"on_expired": "charge"}, {"on_expired": "reject"}, False),
    ],
)
async def test_it_needs_the_policy_of_the_confirm_or_of_the_reservation(direct, agreed, asked, late):
    id_ = await expired(direct, **agreed)
    before = without_traces(await dump(direct.redis))
    if not late:
        refused = await direct.refused(Confirm(reservation=id_, **asked))
        assert ("reservation_expired", {"at_ms": direct.now_ms}) == (refused.word, refused.facts)
        assert before == without_traces(await dump(direct.redis))
        return
    await direct.clock.advance(5000)
    applied, account, shown = await direct.do(Confirm(reservation=id_, **asked))
    entry = applied.entry
    assert ("confirmed", 60, 0, 60, 0, True) == (
        entry.kind, entry.amount, entry.captured, entry.charged, entry.released, entry.late,
    )  # fmt: skip
    assert [("default", -60, 0)] == legs(applied)
    assert ("confirmed", 60, 0, 60, 60, True, None, direct.now_ms) == (
        shown.status, shown.reserved, shown.captured, shown.charged, shown.released, shown.late,
        shown.cancel_cause, shown.settled_at_ms,
    )  # fmt: skip
    assert (40, 0, 0) == (account.available, account.held, account.open_holds)
    forgotten_ms = await direct.redis.pexpiretime(keys.reservation(SHARD, id_))
    assert direct.now_ms + DAY_MS == forgotten_ms
    await check_keys(direct.redis)


async def test_a_second_late_confirm_is_answered_with_the_first(direct):
    id_ = await expired(direct, on_expired="charge")
    first, _, _ = await direct.do(Confirm(reservation=id_, amount=30, **keyed("first")))
    before = without_traces(await dump(direct.redis))
    for more in ({}, {"amount": 60}, keyed("second"), {"on_expired": "reject"}):
        again, account, shown = await direct.do(Confirm(reservation=id_, **more))
        assert (first.entry, True, 70, 30) == (again.entry, again.replayed, account.available, shown.charged)
    assert before == without_traces(await dump(direct.redis))
    refused = await direct.refused(Cancel(reservation=id_))
    assert ("reservation_confirmed", {"at_ms": direct.now_ms}) == (refused.word, refused.facts)
    assert "reservation_confirmed" == (await direct.refused(Extend(reservation=id_, ttl_ms=1000))).word
    await check_keys(direct.redis)


async def test_what_was_cancelled_by_somebody_is_never_confirmed(direct):
    await grant(direct, 100)
    for cause in ("requested", "failed"):
        id_ = await reserve(direct, 10, on_expired="charge")
        await direct.do(Cancel(reservation=id_, cause=cause))
        refused = await direct.refused(Confirm(reservation=id_, on_expired="charge"))
        assert ("reservation_cancelled", cause) == (refused.word, refused.facts["cause"])


@pytest.mark.parametrize(("after_ms", "late"), [(DAY_MS - 1, True), (DAY_MS, True), (DAY_MS + 1, False)])
async def test_it_is_possible_until_24_hours_after_the_deadline(direct, after_ms, late):
    id_ = await expired(direct, on_expired="charge")
    await direct.journaled()
    await direct.clock.advance(after_ms)
    if late:
        await direct.do(Confirm(reservation=id_))
    else:
        assert "reservation_expired" == (await direct.refused(Confirm(reservation=id_))).word
    await check_keys(direct.redis)


async def test_after_parts_it_charges_what_the_deadline_released(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS, on_expired="charge")
    await part(direct, id_, 25, "p1")
    await direct.clock.advance(MINUTE_MS)
    refused = await direct.refused(Confirm(reservation=id_, amount=36))
    assert ("exceeds_reservation", {"required": 36, "held": 35}) == (refused.word, refused.facts)
    applied, _, shown = await direct.do(Confirm(reservation=id_))
    assert (35, 35, 0) == (applied.entry.amount, applied.entry.charged, applied.entry.captured)
    assert (25, 35, 35, 0, 1) == (
        shown.captured, shown.charged, shown.released, shown.held, len(shown.parts),
    )  # fmt: skip
    assert (40, 0) == await balance(direct)
    again, _, _ = await direct.do(Confirm(reservation=id_, amount=25, final=False, **keyed("p1")))
    assert (25, False) == (again.entry.amount, again.entry.late)
    await check_keys(direct.redis)


@pytest.mark.parametrize(("policy", "charged"), [("reject", None), ("cap", 60), ("charge", 75)])
async def test_more_than_was_reserved_is_as_the_other_policy_says(direct, policy, charged):
    id_ = await expired(direct, on_expired="charge")
    confirm = Confirm(reservation=id_, amount=75, over_capture=policy)
    if charged is None:
        refused = await direct.refused(confirm)
        assert ("exceeds_reservation", {"required": 75, "held": 60}) == (refused.word, refused.facts)
        return
    applied, account, shown = await direct.do(confirm)
    assert (charged, charged, 100 - charged) == (applied.entry.amount, shown.charged, account.available)
    assert (60, 0, 60) == (shown.reserved, shown.captured, shown.released)
    await check_keys(direct.redis)


async def test_less_than_was_reserved_is_charged_and_nothing_ends_as_confirmed_too(direct):
    id_ = await expired(direct, on_expired="charge")
    applied, account, shown = await direct.do(Confirm(reservation=id_, amount=0))
    assert ([], 0, 0, "confirmed", 100) == (
        legs(applied), applied.entry.amount, shown.charged, shown.status, account.available,
    )  # fmt: skip
    await check_keys(direct.redis)


async def test_it_may_be_owed_and_what_cannot_be_owed_is_refused_until_it_can(direct):
    id_ = await expired(direct, on_expired="charge")
    await deduct(direct, 90)
    before = without_traces(await dump(direct.redis))
    refused = await direct.refused(Confirm(reservation=id_))
    assert ("insufficient_credits", {"required": 60, "available": 10, "held": 0}) == (
        refused.word, refused.facts,
    )  # fmt: skip
    assert before == without_traces(await dump(direct.redis))
    await reserve(direct, 5)
    await configure(direct, overdraft_limit=54)
    refused = await direct.refused(Confirm(reservation=id_))
    assert ("credits_held", 1) == (refused.word, refused.facts["open_reservations"])
    await configure(direct, overdraft_limit=55)
    applied, _, _ = await direct.do(Confirm(reservation=id_))
    assert [("default", -5, 0), ("overdraft", -55, 0)] == legs(applied)
    await check_keys(direct.redis)


@pytest.mark.parametrize("amount", [None, 1, 60, 61])
async def test_a_frozen_account_is_not_charged_late(direct, amount):
    """Its state is told before what is wrong with the amount."""
    id_ = await expired(direct, on_expired="charge")
    await configure(direct, status="frozen")
    assert "account_frozen" == (await direct.refused(Confirm(reservation=id_, amount=amount))).word
    await direct.do(Confirm(reservation=id_, amount=0))
    await check_keys(direct.redis)


async def test_a_closed_account_is_not_charged_late(direct):
    id_ = await expired(direct, on_expired="charge")
    await deduct(direct, 100)
    await configure(direct, status="closed")
    for amount in (None, 0, 61):
        assert "account_closed" == (await direct.refused(Confirm(reservation=id_, amount=amount))).word
    await check_keys(direct.redis)


async def test_a_part_that_is_late_is_the_last(direct):
    id_ = await expired(direct, on_expired="charge")
    _, _, shown = await direct.do(Confirm(reservation=id_, amount=10, final=False, **keyed("p1")))
    assert ("confirmed", 10, True, []) == (shown.status, shown.charged, shown.late, shown.parts)
    again, _, _ = await direct.do(Confirm(reservation=id_, amount=10, final=False, **keyed("p1")))
    assert again.replayed
    await check_keys(direct.redis)


async def test_the_call_in_which_the_deadline_passes_may_confirm_late(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS, on_expired="charge", task="t", model="m")
    await direct.clock.advance(MINUTE_MS)
    await direct.do(Confirm(reservation=id_, model="n"))
    kinds = [(each.kind, each.model, each.task) for each in await entries(direct, 2)]
    assert [("expired", "m", "t"), ("confirmed", "n", "t")] == kinds
    assert 0 == await direct.redis.zcard(keys.holds(SHARD, ANA))
    _, _, shown = await direct.do(Find(reservation=id_))
    assert (True, "n") == (shown.late, shown.model)
    await check_keys(direct.redis)


async def test_what_was_extended_can_be_late_only_after_its_new_deadline(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS, on_expired="charge")
    await part(direct, id_, 10, "p1")
    await direct.do(Extend(reservation=id_, ttl_ms=3 * MINUTE_MS))
    await direct.clock.advance(2 * MINUTE_MS)
    await part(direct, id_, 10, "p2")
    await direct.clock.advance(MINUTE_MS)
    _, _, shown = await direct.do(Confirm(reservation=id_))
    assert (True, 20, 40, 40, 1) == (
        shown.late, shown.captured, shown.charged, shown.released, shown.extensions,
    )  # fmt: skip
    await check_keys(direct.redis)

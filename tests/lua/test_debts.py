"""I2 with an overdraft: how debt comes about, how it is repaid first, and what it keeps from being spent."""

import pytest

from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Adjust, Cancel, Confirm, Deduct, Grant, Refund, Reserve, Sweep
from tests.lua.direct import ANA, SHARD
from tests.lua.invariants import check_keys
from tests.lua.scenes import (
    MINUTE_MS,
    balance,
    configure,
    deduct,
    entries,
    grant,
    legs,
    original,
    owing,
    reserve,
    rows,
)


async def test_what_is_not_there_is_owed_up_to_the_limit_and_not_one_more(direct):
    await grant(direct, 30)
    await configure(direct, overdraft_limit=50)
    assert [("default", -30, 0), ("overdraft", -30, 0)] == legs(await deduct(direct, 60))
    assert [("default", 0, 0), ("overdraft", -30, 0)] == await rows(direct)
    refused = await direct.refused(Deduct(account=ANA, amount=21))
    assert ("insufficient_credits", {"required": 21, "available": -30, "held": 0}) == (
        refused.word, refused.facts,
    )  # fmt: skip
    assert [("overdraft", -20, 0)] == legs(await deduct(direct, 20))
    assert "insufficient_credits" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    assert (-50, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_without_a_limit_nothing_is_owed(direct):
    await grant(direct, 30)
    assert "insufficient_credits" == (await direct.refused(Deduct(account=ANA, amount=31))).word
    await configure(direct, overdraft_limit=1)
    await deduct(direct, 31)
    assert (-1, 0) == await balance(direct)


@pytest.mark.parametrize(
    ("amount", "word"),
    [(50, None), (51, "credits_held"), (110, "credits_held"), (111, "insufficient_credits")],
)
async def test_waiting_for_a_hold_helps_where_it_and_the_overdraft_suffice(direct, amount, word):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    await configure(direct, overdraft_limit=10)
    if word is None:
        await deduct(direct, amount)
        assert (-10, 60) == await balance(direct)
        return
    refused = await direct.refused(Deduct(account=ANA, amount=amount))
    assert (word, amount, 40, 60) == (
        refused.word, refused.facts["required"], refused.facts["available"], refused.facts["held"],
    )  # fmt: skip
    if word == "credits_held":
        await direct.do(Cancel(reservation=id_))
        await deduct(direct, amount)
    await check_keys(direct.redis)


async def test_a_reservation_never_draws_on_the_overdraft(direct):
    await grant(direct, 30)
    await configure(direct, overdraft_limit=50)
    refused = await direct.refused(Reserve(account=ANA, reservation=direct.new_id(), amount=31))
    assert ("insufficient_credits", 30) == (refused.word, refused.facts["available"])
    await reserve(direct, 30)
    await deduct(direct, 1)
    refused = await direct.refused(Reserve(account=ANA, reservation=direct.new_id(), amount=1))
    assert ("credits_held", -1) == (refused.word, refused.facts["available"])


ARRIVALS = {
    "a grant that is less": (
        lambda _: Grant(account=ANA, amount=20, bucket="plan"),
        [("overdraft", 20, 0)],
    ),
    "a grant that is as much": (lambda _: Grant(account=ANA, amount=30), [("overdraft", 30, 0)]),
    "a grant that is more": (
        lambda _: Grant(account=ANA, amount=50, bucket="plan"),
        [("plan", 20, 0), ("overdraft", 30, 0)],
    ),
    "an adjustment": (
        lambda _: Adjust(account=ANA, amount=50),
        [("default", 20, 0), ("overdraft", 30, 0)],
    ),
    "a cancel": (lambda id_: Cancel(reservation=id_), [("default", 10, -40), ("overdraft", 30, 0)]),
    "a confirm that releases less": (
        lambda id_: Confirm(reservation=id_, amount=25),
        [("default", 0, -40), ("overdraft", 15, 0)],
    ),
    "a confirm that releases more": (
        lambda id_: Confirm(reservation=id_, amount=5),
        [("default", 5, -40), ("overdraft", 30, 0)],
    ),
    "a confirm of all": (lambda id_: Confirm(reservation=id_), [("default", 0, -40)]),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRIVALS)
async def test_whatever_comes_in_repays_first_what_is_owed(direct, name):
    operation, expected = ARRIVALS[name]
    id_ = await owing(direct, 30, held=40)
    applied, account, _ = await direct.do(operation(id_))
    assert expected == legs(applied)
    repaid = sum(available for bucket, available, _ in expected if bucket == "overdraft")
    debt = [lot.available for lot in account.lots if lot.bucket == "overdraft"]
    assert ([repaid - 30] if repaid < 30 else []) == debt
    assert "plan" not in [lot.bucket for lot in account.lots] or repaid == 30
    await check_keys(direct.redis)


async def test_what_a_deadline_gives_back_repays_too(direct):
    await owing(direct, 30, held=40)
    await direct.clock.advance(MINUTE_MS)
    await direct.do(Sweep(shard=SHARD))
    [last] = await entries(direct, 1)
    assert ("expired", 40, 10, 0) == (last.kind, last.amount, last.available, last.held)
    assert [("default", 10, -40), ("overdraft", 30, 0)] == [
        (leg.bucket, leg.available, leg.held) for leg in last.legs
    ]
    await check_keys(direct.redis)


async def test_what_comes_back_into_a_lapsed_lot_repays_and_only_the_rest_lapses(direct):
    await grant(direct, 40, "plan", MINUTE_MS)
    id_ = await reserve(direct, 40, ttl_ms=3 * MINUTE_MS)
    await configure(direct, overdraft_limit=100)
    await deduct(direct, 30)
    await direct.clock.advance(2 * MINUTE_MS)
    applied, account, _ = await direct.do(Cancel(reservation=id_))
    assert [("plan", 10, -40), ("overdraft", 30, 0)] == legs(applied)
    [last] = await entries(direct, 1)
    assert ("lapsed", 10, 0) == (last.kind, last.amount, account.available)
    await check_keys(direct.redis)


async def test_a_grant_that_the_debt_takes_whole_sets_the_priority_of_a_bucket_that_is_there(direct):
    await grant(direct, 10, "plan")
    await grant(direct, 10, "extra")
    await reserve(direct, 15)
    await configure(direct, overdraft_limit=100)
    await deduct(direct, 25)
    applied, account, _ = await direct.do(Grant(account=ANA, amount=5, bucket="extra", priority=7))
    assert ([("overdraft", 5, 0)], 7) == (legs(applied), applied.entry.priority)
    assert [("extra", 7), ("plan", 100), ("overdraft", 1_000_001)] == [
        (lot.bucket, lot.priority) for lot in account.lots
    ]
    _, account, _ = await direct.do(Grant(account=ANA, amount=5, bucket="new", priority=3))
    assert "new" not in [lot.bucket for lot in account.lots]
    await check_keys(direct.redis)


async def test_debt_is_spent_after_everything_that_may_have_the_last_priority(direct):
    await grant(direct, 5, "last", priority=1_000_000)
    await configure(direct, overdraft_limit=100)
    assert [("last", -5, 0), ("overdraft", -1, 0)] == legs(await deduct(direct, 6))
    await grant(direct, 9, "later", priority=1_000_000)
    assert ["last", "later"] == [bucket for bucket, _, _ in await rows(direct)]
    await check_keys(direct.redis)


async def test_debt_takes_no_room_among_the_lots(direct_valkey):
    direct = direct_valkey
    for i in range(64):
        await grant(direct, 1, f"b{i}")
    await configure(direct, overdraft_limit=100)
    await reserve(direct, 64)
    await deduct(direct, 5)
    assert 65 == len(await rows(direct))
    assert [("overdraft", 4, 0)] == legs(await grant(direct, 4, "new"))
    assert "limit_reached" == (await direct.refused(Grant(account=ANA, amount=2, bucket="new"))).word
    assert [("overdraft", 1, 0)] == legs(await grant(direct, 1, "new"))
    assert 64 == len(await rows(direct))
    await check_keys(direct.redis)


async def test_a_charge_that_was_owed_comes_back_to_the_default_bucket_once_it_is_repaid(direct):
    await grant(direct, 30, "plan")
    await configure(direct, overdraft_limit=100)
    spent = await deduct(direct, 50)
    await grant(direct, 60, "plan")
    applied, _, _ = await direct.do(Refund(account=ANA, originals=[original(spent)]))
    assert [("default", 20, 0), ("plan", 30, 0)] == legs(applied)
    assert [("plan", 70, 0), ("default", 20, 0)] == await rows(direct)
    await check_keys(direct.redis)


async def test_a_charge_that_is_still_owed_is_forgiven_by_its_refund(direct):
    await grant(direct, 30, "plan")
    await configure(direct, overdraft_limit=100)
    spent = await deduct(direct, 50)
    applied, _, _ = await direct.do(Refund(account=ANA, originals=[original(spent)], amount=25))
    assert [("plan", 5, 0), ("overdraft", 20, 0)] == legs(applied)
    applied, _, _ = await direct.do(Refund(account=ANA, originals=[original(spent)]))
    assert [("plan", 25, 0)] == legs(applied)
    await check_keys(direct.redis)


async def test_all_that_can_be_owed_can_be_owed_and_repaid_to_the_last_digit(direct):
    await grant(direct, CREDITS_MAX)
    id_ = await reserve(direct, CREDITS_MAX)
    await configure(direct, overdraft_limit=CREDITS_MAX)
    await deduct(direct, CREDITS_MAX - 1)
    await deduct(direct, 1)
    assert (-CREDITS_MAX, CREDITS_MAX) == await balance(direct)
    for amount in (1, CREDITS_MAX):
        refused = await direct.refused(Deduct(account=ANA, amount=amount))
        assert ("credits_held", -CREDITS_MAX) == (refused.word, refused.facts["available"])
    await check_keys(direct.redis)
    await grant(direct, CREDITS_MAX - 1)
    assert "balance_overflow" == (await direct.refused(Grant(account=ANA, amount=CREDITS_MAX))).word
    assert [("default", CREDITS_MAX - 1, -CREDITS_MAX), ("overdraft", 1, 0)] == legs(
        (await direct.do(Cancel(reservation=id_)))[0]
    )
    await grant(direct, 1)
    assert (CREDITS_MAX, 0) == await balance(direct)
    await check_keys(direct.redis)

"""adjust: an operator puts a balance right, and is told what could not be taken."""

import pytest

from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Adjust
from tests.lua.direct import ANA
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import MINUTE_MS, balance, configure, deduct, grant, keyed, legs, reserve, rows


def adjust(amount: int, **more) -> Adjust:
    return Adjust(account=ANA, amount=amount, **more)


async def test_what_is_added_never_lapses_and_goes_where_it_is_told(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    applied, _, _ = await direct.do(adjust(5, **keyed(), by="user:op"))
    entry = applied.entry
    assert ("adjusted", 5, None, None, "user:op", [("default", 5, 0)]) == (
        entry.kind, entry.amount, entry.bucket, entry.shortfall, entry.by, legs(applied),
    )  # fmt: skip
    applied, account, _ = await direct.do(adjust(7, bucket="plan"))
    assert ("plan", [("plan", 7, 0)], 0) == (
        applied.entry.bucket, legs(applied), applied.entry.legs[0].expires_at_ms,
    )  # fmt: skip
    assert (22, direct.now_ms + MINUTE_MS) == (account.available, account.lapses_at_ms)
    again, _, _ = await direct.do(adjust(5, **keyed(), by="user:op"))
    assert (again.replayed, (22, 0)) == (True, await balance(direct))
    await check_keys(direct.redis)


async def test_what_is_taken_is_taken_in_spending_order_and_then_owed(direct):
    await grant(direct, 10, "b", priority=2)
    await grant(direct, 10, "a", priority=1)
    await configure(direct, overdraft_limit=50)
    applied, account, _ = await direct.do(adjust(-35))
    assert (-35, [("a", -10, 0), ("b", -10, 0), ("overdraft", -15, 0)]) == (
        applied.entry.amount, legs(applied),
    )  # fmt: skip
    assert -15 == account.available
    await check_keys(direct.redis)


async def test_what_is_taken_from_a_bucket_is_taken_from_its_lots_alone(direct):
    await grant(direct, 10, "plan", 2 * MINUTE_MS)
    await grant(direct, 10, "plan", MINUTE_MS)
    await grant(direct, 50, "first", priority=1)
    await configure(direct, overdraft_limit=50)
    applied, _, _ = await direct.do(adjust(-15, bucket="plan"))
    assert [("plan", -10, 0), ("plan", -5, 0)] == legs(applied)
    before = without_traces(await dump(direct.redis))
    refused = await direct.refused(adjust(-6, bucket="plan"))
    assert ("insufficient_credits", {"required": 6, "available": 5, "held": 0}) == (
        refused.word, refused.facts,
    )  # fmt: skip
    assert "insufficient_credits" == (await direct.refused(adjust(-1, bucket="nothing"))).word
    assert before == without_traces(await dump(direct.redis))
    await check_keys(direct.redis)


SHORT = [
    # limit, amount, bucket: the word of the refusal; what `take` takes, what is short
    (0, -130, None, "credits_held", 100, 30),
    (0, -160, None, "insufficient_credits", 100, 60),
    (20, -125, None, "credits_held", 120, 5),
    (20, -400, None, "insufficient_credits", 120, 280),
    (20, -101, "default", "insufficient_credits", 100, 1),
    (20, -5, "nothing", "insufficient_credits", 0, 5),
    (20, -CREDITS_MAX, None, "insufficient_credits", 120, CREDITS_MAX - 120),
]


@pytest.mark.parametrize(("limit", "amount", "bucket", "word", "taken", "short"), SHORT)
async def test_what_is_not_there_is_refused_or_told_as_a_shortfall(
    direct, limit, amount, bucket, word, taken, short
):
    await grant(direct, 150)
    await reserve(direct, 50)
    if limit:
        await configure(direct, overdraft_limit=limit)
    assert word == (await direct.refused(adjust(amount, bucket=bucket))).word
    applied, account, _ = await direct.do(adjust(amount, bucket=bucket, short="take"))
    entry = applied.entry
    assert (-taken, short, bucket) == (entry.amount, entry.shortfall, entry.bucket)
    assert (100 - taken, 50) == (account.available, account.held)
    await check_keys(direct.redis)


async def test_take_takes_all_that_is_asked_where_it_is_there(direct):
    await grant(direct, 10)
    applied, _, _ = await direct.do(adjust(-10, short="take"))
    assert (-10, None) == (applied.entry.amount, applied.entry.shortfall)
    applied, _, _ = await direct.do(adjust(-10, short="take"))
    assert (0, 10, []) == (applied.entry.amount, applied.entry.shortfall, legs(applied))
    assert [("default", 0, 0)] == await rows(direct)
    await check_keys(direct.redis)


async def test_at_the_bottom_of_the_deepest_overdraft_nothing_is_left_to_take(direct):
    await grant(direct, 1)
    await configure(direct, overdraft_limit=CREDITS_MAX)
    await deduct(direct, CREDITS_MAX)
    applied, _, _ = await direct.do(adjust(-CREDITS_MAX, short="take"))
    assert (-1, CREDITS_MAX - 1) == (applied.entry.amount, applied.entry.shortfall)
    assert (-CREDITS_MAX, 0) == await balance(direct)
    await check_keys(direct.redis)
    await direct.do(adjust(CREDITS_MAX))
    await direct.do(adjust(CREDITS_MAX))
    refused = await direct.refused(adjust(1))
    assert ("balance_overflow", {"available": CREDITS_MAX, "held": 0}) == (refused.word, refused.facts)
    await check_keys(direct.redis)


async def test_a_frozen_account_is_adjusted_and_a_closed_one_is_not(direct):
    await grant(direct, 100)
    await configure(direct, status="frozen")
    await direct.do(adjust(-60))
    await direct.do(adjust(-40))
    await configure(direct, status="closed")
    for amount in (1, -1):
        assert "account_closed" == (await direct.refused(adjust(amount, short="take"))).word
    await check_keys(direct.redis)


async def test_there_must_be_room_for_the_lot_of_what_is_added(direct_valkey):
    direct = direct_valkey
    for i in range(64):
        await grant(direct, 1, f"b{i}")
    assert "limit_reached" == (await direct.refused(adjust(1))).word
    await direct.do(adjust(1, bucket="b7"))
    await direct.do(adjust(-2, bucket="b7"))
    await direct.do(adjust(1))
    await check_keys(direct.redis)


@pytest.mark.parametrize("amount", [0, 0.5, -0.5, 2**53, -(2**53), 1e300, "5", True], ids=repr)
async def test_an_amount_that_is_none_is_a_bug_that_moves_nothing(direct_valkey, amount):
    direct = direct_valkey
    await grant(direct, 100)
    before = without_traces(await dump(direct.redis))
    for short in ("reject", "take"):
        assert "internal_error" == (await direct.refused(adjust(amount, short=short))).word
    assert before == without_traces(await dump(direct.redis))

"""refund: what was spent comes back once, to where it came from, the last to leave first."""

import pytest

from app.ledger import keys
from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Deduct, Original, Refund
from app.ledger.replies import Applied
from tests.lua.direct import ANA, SHARD
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import (
    DAY_MS,
    MINUTE_MS,
    G,
    balance,
    configure,
    deduct,
    entries,
    grant,
    keyed,
    legs,
    original,
    refund,
    rows,
)


async def given_back(direct, spent: Applied) -> int:
    return int(await direct.redis.get(keys.refunded(SHARD, original(spent).transaction)))


async def test_it_goes_back_in_reverse_to_the_lots_that_it_came_from(direct):
    await grant(direct, 10, "a", priority=1)
    await grant(direct, 10, "b", priority=2, in_ms=MINUTE_MS)
    await grant(direct, 10, "c", priority=3)
    spent = await deduct(direct, 25)
    applied, _, _ = await direct.do(refund(spent, amount=8, **keyed()))
    assert [("c", 5, 0), ("b", 3, 0)] == legs(applied)
    entry = applied.entry
    assert ("refunded", 8, original(spent).transaction, None) == (
        entry.kind, entry.amount, entry.refund_of, entry.lapsed,
    )  # fmt: skip
    await check_keys(direct.redis)
    assert [("b", 7, 0), ("a", 2, 0)] == legs((await direct.do(refund(spent, amount=9)))[0])
    assert [("a", 8, 0)] == legs((await direct.do(refund(spent)))[0])
    assert [("a", 10, 0), ("b", 10, 0), ("c", 10, 0)] == await rows(direct)
    assert 25 == await given_back(direct, spent)
    await check_keys(direct.redis)


async def test_more_than_was_spent_never_comes_back(direct):
    await grant(direct, 100)
    spent = await deduct(direct, 60)
    await direct.do(refund(spent, amount=59))
    before = without_traces(await dump(direct.redis))
    for amount in (2, 60, CREDITS_MAX):
        refused = await direct.refused(refund(spent, amount=amount))
        assert ("exceeds_transaction", {"required": amount, "refunded": 59, "left": 1}) == (
            refused.word, refused.facts,
        )  # fmt: skip
    assert before == without_traces(await dump(direct.redis))
    await direct.do(refund(spent))
    for amount in (None, 1):
        refused = await direct.refused(refund(spent, amount=amount))
        assert {"required": amount or 60, "refunded": 60, "left": 0} == refused.facts
    assert (100, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_the_same_request_gives_back_once(direct):
    await grant(direct, 100)
    spent = await deduct(direct, 60)
    notes = {"notes": '{"salt":"00"}', "notes_hash": "ab" * 32}
    first, _, _ = await direct.do(refund(spent, amount=10, **keyed(), **notes))
    before = await dump(direct.redis)
    again, account, _ = await direct.do(refund(spent, amount=10, **keyed(), **notes))
    assert (first.entry, True, 50, notes["notes"]) == (
        again.entry, again.replayed, account.available, again.notes,
    )  # fmt: skip
    assert not difference(without_traces(before), without_traces(await dump(direct.redis)))
    assert "idempotency_mismatch" == (await direct.refused(refund(spent, **keyed("k", G)))).word
    reply = await direct.send(refund(spent, amount=50), refund(spent, amount=50), refund(spent))
    assert ["ok", "exceeds_transaction", "exceeds_transaction"] == [
        getattr(each, "word", "ok") for each in reply.results
    ]
    await check_keys(direct.redis)


async def test_what_the_journal_knows_counts_until_redis_knows_better(direct):
    await grant(direct, 100)
    spent = await deduct(direct, 60)
    await direct.do(refund(spent, amount=10))
    await direct.redis.delete(keys.refunded(SHARD, original(spent).transaction))
    refused = await direct.refused(Refund(account=ANA, originals=[original(spent, refunded=10)], amount=51))
    assert {"required": 51, "refunded": 10, "left": 50} == refused.facts
    await direct.do(Refund(account=ANA, originals=[original(spent, refunded=10)], amount=20))
    assert 30 == await given_back(direct, spent)
    for stale in (0, 10):
        refused = await direct.refused(
            Refund(account=ANA, originals=[original(spent, refunded=stale)], amount=31)
        )
        assert {"required": 31, "refunded": 30, "left": 30} == refused.facts
    ttl_ms = await direct.redis.pttl(keys.refunded(SHARD, original(spent).transaction))
    assert DAY_MS - 60_000 < ttl_ms <= DAY_MS
    await check_keys(direct.redis)


@pytest.mark.parametrize("text", ["garbage", "", "1e400x", "{}"])
async def test_a_sum_that_cannot_be_read_gives_nothing_back(direct, text):
    await grant(direct, 100)
    spent = await deduct(direct, 60)
    await direct.redis.set(keys.refunded(SHARD, original(spent).transaction), text)
    before = without_traces(await dump(direct.redis))
    assert "internal_error" == (await direct.refused(refund(spent))).word
    assert before == without_traces(await dump(direct.redis))


async def test_a_lot_that_is_gone_is_made_anew_with_the_priority_of_its_bucket(direct):
    await grant(direct, 10, "plan", MINUTE_MS, priority=7)
    await grant(direct, 1, "extra")
    spent = await deduct(direct, 10)
    assert [("plan", 0, 0), ("extra", 1, 0)] == await rows(direct)
    applied, account, _ = await direct.do(refund(spent))
    lot = account.lots[0]
    assert ([("plan", 10, 0)], 7, direct.now_ms + MINUTE_MS) == (
        legs(applied), lot.priority, lot.expires_at_ms,
    )  # fmt: skip
    assert lot.expires_at_ms == account.lapses_at_ms
    await check_keys(direct.redis)


async def test_into_a_lot_that_has_lapsed_it_lapses_at_once_as_its_own_entry(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    await grant(direct, 10, "extra")
    spent = await deduct(direct, 15)
    await direct.clock.advance(MINUTE_MS)
    applied, account, _ = await direct.do(refund(spent))
    last = (await entries(direct, 2))[1]
    assert ([("extra", 5, 0), ("plan", 10, 0)], 10) == (legs(applied), applied.entry.lapsed)
    assert ("lapsed", 10, 10) == (last.kind, last.amount, account.available)
    await check_keys(direct.redis)


async def test_into_a_bucket_that_is_named_it_never_lapses(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    await grant(direct, 10, "extra")
    spent = await deduct(direct, 15)
    await direct.clock.advance(MINUTE_MS)
    applied, account, _ = await direct.do(refund(spent, bucket="sorry"))
    assert ([("sorry", 15, 0)], None, "sorry", 20) == (
        legs(applied), applied.entry.lapsed, applied.entry.bucket, account.available,
    )  # fmt: skip
    await check_keys(direct.redis)


async def test_in_debt_it_repays_and_only_what_is_left_of_it_lapses(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    spent = await deduct(direct, 10)
    await configure(direct, overdraft_limit=100)
    await deduct(direct, 4)
    await direct.clock.advance(MINUTE_MS)
    applied, account, _ = await direct.do(refund(spent))
    assert ([("plan", 6, 0), ("overdraft", 4, 0)], 6, 0) == (
        legs(applied), applied.entry.lapsed, account.available,
    )  # fmt: skip
    await check_keys(direct.redis)


async def test_a_frozen_account_is_given_back_and_a_closed_one_is_not(direct):
    await grant(direct, 100)
    spent = await deduct(direct, 100)
    await configure(direct, status="closed")
    assert "account_closed" == (await direct.refused(refund(spent))).word
    await configure(direct, status="frozen")
    await direct.do(refund(spent))
    assert (100, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_a_balance_that_would_pass_the_bound_is_given_nothing_back(direct):
    await grant(direct, CREDITS_MAX)
    spent = await deduct(direct, CREDITS_MAX)
    await grant(direct, 5)
    refused = await direct.refused(refund(spent))
    assert ("balance_overflow", {"available": 5, "held": 0}) == (refused.word, refused.facts)
    await direct.do(refund(spent, amount=CREDITS_MAX - 5))
    assert (CREDITS_MAX, 0) == await balance(direct)
    await check_keys(direct.redis)


@pytest.mark.parametrize(
    "broken",
    [
        {"amount": 0}, {"amount": -1}, {"amount": 0.5}, {"amount": 2**53}, {"amount": "5"}, {"originals": []},
        {"left": [("default", 0, 0)]}, {"left": [("default", 0, -5), ("default", 0, 65)]},
        {"left": [("default", 0, 1.5)]}, {"refunded": 61}, {"twice": True},
    ],
    ids=str,
)  # fmt: skip
async def test_a_request_that_cannot_be_true_is_a_bug_that_moves_nothing(direct_valkey, broken):
    direct = direct_valkey
    await grant(direct, 100)
    spent = original(await deduct(direct, 60))
    spent = Original(
        transaction=spent.transaction,
        left=broken.get("left", spent.left),
        refunded=broken.get("refunded", 0),
    )
    originals = broken.get("originals", [spent, spent] if "twice" in broken else [spent])
    before = without_traces(await dump(direct.redis))
    refused = await direct.refused(Refund(account=ANA, originals=originals, amount=broken.get("amount")))
    assert refused.word in {"internal_error", "exceeds_transaction"}
    assert ("exceeds_transaction" == refused.word) == (originals == [])
    assert before == without_traces(await dump(direct.redis))


async def test_what_was_just_spent_is_given_back_in_the_same_call(direct):
    await grant(direct, 100)
    sequence = int(await direct.meta("sequence")) + 1
    just = Original(transaction=f"{SHARD}-1-{sequence}", left=[("default", 0, 60)])
    reply = await direct.send(
        Deduct(account=ANA, amount=60),
        Refund(account=ANA, originals=[just], amount=50),
        Deduct(account=ANA, amount=90),
        Refund(account=ANA, originals=[just]),
    )
    assert 4 == sum(isinstance(each, Applied) for each in reply.results)
    assert (10, 0) == await balance(direct)
    await check_keys(direct.redis)

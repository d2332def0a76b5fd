"""Batches whose operations are carried out each by itself: in their order, and each with its own answer."""

import asyncio

import pytest
from msgspec.structs import replace

from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.errors import (
    IdempotencyMismatch,
    InsufficientCredits,
    InternalError,
    LedgerUnavailable,
    Overloaded,
    ReservationConfirmed,
    ReservationNotFound,
)
from app.ledger.operations import Adjust, Cancel, Confirm, Deduct, Extend, Grant, Reserve
from app.ledger.receipts import Receipt
from app.ledger.shards import new_reservation_id, shard_of
from tests.engine import engine
from tests.ledger.scenes import G, K, available, batch, kinds, reserved
from tests.lua.invariants import check_keys


async def test_each_operation_has_its_own_answer_in_order(ledger):
    held, task = await reserved(ledger, 20), await reserved(ledger, 5, task="t")
    spent = await ledger.deduct(Deduct(account="ana", amount=10))
    outcomes = await batch(
        ledger,
        Grant(account="bia", amount=1),
        Deduct(account="bia", amount=9),
        Deduct(account="bia", amount=8),
        Reserve(account="ana", reservation=await ledger.new_reservation_id("ana"), amount=3, task="u"),
        Confirm(reservation=held, amount=2),
        Cancel(reservation=held),
        Extend(reservation=task, ttl_ms=7_200_000),
        await ledger.refunding(spent.transaction),
        Adjust(account="ana", amount=-1),
        Confirm(reservation="not one of ours"),
        Confirm(reservation=new_reservation_id(0, 1)),
    )
    assert [
        "granted", InsufficientCredits, "deducted", "reserved", "confirmed", ReservationConfirmed, "extended",
        "refunded", "adjusted", ReservationNotFound, ReservationNotFound,
    ] == kinds(outcomes)  # fmt: skip
    assert {"required": 9, "available": 8, "held": 0} == outcomes[1].facts


async def test_nothing_at_all_is_answered_with_nothing(ledger):
    for atomic in (False, True):
        assert [] == (await ledger.batch([], atomic=atomic)).results


async def test_the_order_is_kept_over_several_calls_and_beside_others(fake_redis):
    async with engine(fake_redis, limits=Limits(batch_operations_max=16)) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=100))
        await ledger.grant(Grant(account="bia", amount=100))
        outcomes, *alone = await asyncio.gather(
            batch(ledger, *(Deduct(account="ana", amount=1) for _ in range(70))),
            *(ledger.deduct(Deduct(account="bia", amount=1)) for _ in range(20)),
        )
        assert [*range(2, 72)] == [each.entry.version for each in outcomes]
        assert [*range(2, 22)] == [each.entry.version for each in alone]
    await check_keys(fake_redis)


async def test_the_same_key_twice_is_one_operation_and_with_other_content_a_mismatch(ledger):
    first, again, other = await batch(
        ledger,
        Deduct(account="ana", amount=1, **K),
        Deduct(account="ana", amount=1, **K),
        Deduct(account="ana", amount=2, key="k", fingerprint=G),
    )
    assert (first.transaction, True) == (again.transaction, again.replayed)
    assert isinstance(other, IdempotencyMismatch)
    assert 99 == await available(ledger)


async def test_a_bug_costs_the_operation_that_it_concerns(ledger, fake_redis):
    """Nothing is wrong with the others, whether the script fails on one of them or as a whole."""
    bad = next(each for each in (f"b{i}" for i in range(99)) if shard_of(each, 4) != shard_of("ana", 4))
    await ledger.grant(Grant(account=bad, amount=100))
    await fake_redis.set(keys.due(shard_of(bad, 4)), "planted")
    outcomes = await batch(
        ledger, *(Deduct(account=bad if i % 5 == 3 else "ana", amount=i % 7) for i in range(20))
    )
    assert [InternalError if i % 5 == 3 or i % 7 == 0 else Receipt for i in range(20)] == [
        type(each) for each in outcomes
    ]
    versions = [each.entry.version for each in outcomes if isinstance(each, Receipt)]
    assert [*range(2, len(versions) + 2)] == versions


async def test_the_order_is_kept_when_what_is_due_has_to_happen_first(ledger, clock, fake_redis):
    """More of it than happens in one call: the first call of the batch is sent again, before the second."""
    await ledger.grant(Grant(account="ana", amount=400))
    made = [await ledger.new_reservation_id("ana") for _ in range(150)]
    await batch(ledger, *(Reserve(account="ana", reservation=id_, amount=1, ttl_ms=1000) for id_ in made))
    await clock.advance(1000)
    outcomes = await batch(ledger, *(Deduct(account="ana", amount=1) for _ in range(300)))
    first = outcomes[0].entry.version
    assert [*range(first, first + 300)] == [each.entry.version for each in outcomes]
    await check_keys(fake_redis)


async def test_more_operations_than_may_wait_are_turned_away_and_nothing_of_them_is_sent(fake_redis):
    async with engine(fake_redis, limits=Limits(queue_max=20)) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=100))
        deducts = [Deduct(account="ana", amount=1) for _ in range(12)]
        answers = await asyncio.gather(
            ledger.batch(deducts),
            ledger.batch(deducts),
            ledger.batch(deducts, atomic=True),
            *(ledger.deduct(Deduct(account="ana", amount=1)) for _ in range(12)),
            return_exceptions=True,
        )
        assert [Overloaded, Overloaded] == [type(each) for each in answers[1:3]]
        assert 8 == sum(isinstance(each, Receipt) for each in answers[3:])
        assert 100 - 12 - 8 == await available(ledger)


async def test_while_memory_is_short_what_was_begun_is_ended_and_the_rest_is_told_so(ledger):
    id_ = await reserved(ledger)
    ledger.heed_memory(is_short=True)
    operations = [Deduct(account="ana", amount=1), Confirm(reservation=id_), Grant(account="ana", amount=1)]
    with pytest.raises(Overloaded):
        await ledger.batch([replace(each) for each in operations], atomic=True)
    assert "pending" == (await ledger.find(id_)).status
    assert [Overloaded, "confirmed", Overloaded] == kinds(await batch(ledger, *operations))
    ledger.heed_memory(is_short=False)
    assert 90 == await available(ledger)


async def test_those_who_stop_waiting_for_a_batch_do_not_hurt_the_others(ledger):
    tasks = [
        asyncio.create_task(ledger.batch([Deduct(account="ana", amount=1)] * 3, atomic=i % 3 == 0))
        for i in range(9)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [asyncio.CancelledError] * 5 == [type(each) for each in answers[::2]]
    assert [3] * 4 == [len(each.results) for each in answers[1::2]]
    assert 88 == await available(ledger)


async def test_stopping_finishes_batches_that_wait_and_takes_no_more(ledger):
    tasks = [
        asyncio.create_task(ledger.batch([Deduct(account="ana", amount=1)] * 10, atomic=atomic))
        for atomic in (False, True, False)
    ]
    await asyncio.sleep(0)
    await ledger.stop()
    assert [10] * 3 == [len(each.results) for each in await asyncio.gather(*tasks)]
    with pytest.raises(LedgerUnavailable, match="stopping"):
        await ledger.batch([Deduct(account="ana", amount=1)])

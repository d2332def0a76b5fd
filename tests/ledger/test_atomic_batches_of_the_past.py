"""Atomic batches of which Redis does not know everything: it is looked up, and then all or none."""

import asyncio

import pytest
from msgspec.structs import replace

from app.ledger.errors import (
    AccountNotFound,
    IdempotencyMismatch,
    InsufficientCredits,
    LedgerFenced,
    LedgerUnavailable,
    ReservationCancelled,
    ReservationNotFound,
)
from app.ledger.operations import Cancel, Confirm, Deduct, Extend, Grant
from app.ledger.shards import new_reservation_id
from tests.ledger.scenes import F, G, K, available, failed_of, reserved, together
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys


async def test_accounts_are_opened_after_one_question_and_only_if_all_is_well(ledger, journal, fake_redis):
    grants = [Grant(account=f"new{i}", amount=5) for i in range(9)]
    failed = await together(ledger, *grants, Deduct(account="new3", amount=6))
    assert failed_of(failed, 9, InsufficientCredits)
    assert not await fake_redis.keys("*:account:new*")
    journal.asked.clear()
    batched = await together(ledger, *grants, Deduct(account="new3", amount=5))
    assert [each.account.available for each in batched.results[:4]] == [5, 5, 5, 0]
    assert {"accounts_known": 1} == journal.asked
    await check_keys(fake_redis)


async def test_an_account_that_is_spent_from_before_it_is_opened_is_not_found(ledger):
    batched = await together(ledger, Deduct(account="new", amount=1), Grant(account="new", amount=5))
    assert failed_of(batched, 0, AccountNotFound)


async def test_an_account_that_the_journal_knows_and_redis_lacks_is_drift(ledger, journal, fake_redis):
    await journal.catch_up()
    await fake_redis.delete(*await fake_redis.keys("*:account:bia"))
    operations = [
        Grant(account="new", amount=1),
        Grant(account="ana", amount=1),
        Grant(account="bia", amount=1),
    ]
    assert failed_of(await together(ledger, *operations), 2, LedgerFenced)
    assert not await fake_redis.keys("*:account:bia")
    assert not await fake_redis.keys("*:account:new")


async def test_forgotten_reservations_are_answered_from_the_journal_and_the_rest_is_carried_out(
    ledger, journal, clock
):
    confirmed, cancelled = [await reserved(ledger) for _ in range(3)], await reserved(ledger)
    firsts = [await ledger.confirm(Confirm(reservation=id_)) for id_ in confirmed]
    await ledger.cancel(Cancel(reservation=cancelled))
    await journal.a_day_passes(ledger, clock)
    journal.asked.clear()
    batched = await together(
        ledger,
        Deduct(account="ana", amount=1),
        *(Confirm(reservation=id_) for id_ in confirmed),
        Cancel(reservation=cancelled),
        Deduct(account="ana", amount=1),
    )
    assert [each.transaction for each in firsts] == [each.transaction for each in batched.results[1:4]]
    assert [False, True, True, True, True, False] == [each.replayed for each in batched.results]
    assert {"reservations": 1, "recorded": 1} == journal.asked
    assert 68 == await available(ledger)
    failed = await together(
        ledger,
        Deduct(account="ana", amount=1),
        Confirm(reservation=confirmed[0]),
        Confirm(reservation=cancelled),
    )
    assert failed_of(failed, 2, ReservationCancelled)
    assert 68 == await available(ledger)


async def test_a_reservation_that_nobody_knows_fails_it(ledger):
    for id_ in (new_reservation_id(0, 1), new_reservation_id(5, 1), "nonsense"):
        batched = await together(ledger, Deduct(account="ana", amount=1), Confirm(reservation=id_))
        assert failed_of(batched, 1, ReservationNotFound)
    id_ = await reserved(ledger)
    assert failed_of(await together(ledger, Confirm(reservation=id_, account="bia")), 0, ReservationNotFound)
    assert 90 == await available(ledger)


async def test_extensions_of_reservations_with_tasks_are_carried_out_at_once(ledger, fake_redis):
    ids = [await reserved(ledger, 5, task=f"t{i}", provider="fal") for i in range(4)]
    batched = await together(ledger, *(Extend(reservation=id_, ttl_ms=7_200_000) for id_ in ids))
    assert [1] * 4 == [each.reservation.extensions for each in batched.results]
    await ledger.cancel(Cancel(reservation=ids[2]))
    failed = await together(ledger, *(Confirm(reservation=id_) for id_ in ids))
    assert failed_of(failed, 2, ReservationCancelled)
    await check_keys(fake_redis)


async def test_a_task_that_was_bound_after_it_was_looked_for_is_found_again(ledger, monkeypatch):
    id_ = await reserved(ledger, 5, task="t", provider="fal")
    monkeypatch.setattr(ledger._batches, "_tasks_of", lambda *_: asyncio.sleep(0, []))
    batched = await together(
        ledger,
        Deduct(account="ana", amount=1),
        Extend(reservation=id_, ttl_ms=7_200_000),
        Confirm(reservation=id_),
    )
    assert ["deducted", "extended", "confirmed"] == [each.entry.kind for each in batched.results]


async def test_a_day_later_the_whole_batch_is_replayed_where_its_keys_hold_for_ever(ledger, journal, clock):
    operations = [
        Grant(account="ana", amount=1, key="g", fingerprint=F),
        Deduct(account="ana", amount=2, key=new_reservation_id(0, clock.now_ms), fingerprint=F),
    ]
    first = await together(ledger, *operations)
    await journal.a_day_passes(ledger, clock)
    again = await together(ledger, *operations)
    assert [each.transaction for each in first.results] == [each.transaction for each in again.results]
    more = await together(ledger, *operations, Deduct(account="ana", amount=4))
    assert [True, True, False] == [each.replayed for each in more.results]
    other = replace(operations[0], fingerprint=G)
    failed = await together(ledger, Deduct(account="ana", amount=8), other, operations[1], other)
    assert failed_of(failed, 1, IdempotencyMismatch)
    assert 95 == await available(ledger)


@pytest.mark.parametrize(
    "operation",
    [
        Grant(account="ana", amount=1, **K),
        Grant(account="new", amount=1),
        Deduct(account="nobody", amount=1),
        Confirm(reservation=new_reservation_id(0, 1)),
    ],
    ids=["a key that holds for ever", "a new account", "an unknown account", "an unknown reservation"],
)
async def test_while_the_journal_is_away_that_only_it_can_answer_it_is_unavailable_as_a_whole(
    ledger, journal, fake_redis, operation
):
    journal.away = True
    before = await dump(fake_redis)
    with pytest.raises(LedgerUnavailable):
        await together(ledger, Deduct(account="ana", amount=1), operation)
    assert not difference(without_traces(before), without_traces(await dump(fake_redis)))

"""Batches of which Redis does not know everything: accounts, reservations, keys and entries of the past."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.ledger.errors import (
    AccountNotFound,
    IdempotencyMismatch,
    InsufficientCredits,
    LedgerFenced,
    LedgerUnavailable,
    Overloaded,
    ReservationCancelled,
    ReservationNotFound,
)
from app.ledger.operations import Cancel, Confirm, Deduct, Extend, Grant, Operation, Write
from app.ledger.shards import new_reservation_id
from tests.ledger.scenes import F, G, K, available, batch, kinds, reserved
from tests.lua.invariants import check_keys


def once(submit_all: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but only the first group finds room in the queue."""
    sent: list[Operation] = []

    def submit(operations: Sequence[Operation], **more: bool) -> Any:
        if sent:
            raise Overloaded
        sent.extend(operations)
        return submit_all(operations, **more)

    return submit


async def test_an_account_is_opened_by_the_first_grant_and_what_stands_behind_it_follows(ledger, journal):
    outcomes = await batch(
        ledger,
        Deduct(account="new", amount=1),
        Grant(account="new", amount=5),
        Deduct(account="ana", amount=1),
        Deduct(account="new", amount=3),
        Grant(account="new", amount=1),
        Deduct(account="nobody", amount=1),
        Deduct(account="new", amount=4),
    )
    assert [
        AccountNotFound, "granted", "deducted", "deducted", "granted", AccountNotFound, InsufficientCredits
    ] == kinds(outcomes)  # fmt: skip
    assert 3 == await available(ledger, "new")
    assert journal.asked["accounts_known"] == 2, "those that grants may open, then those that nobody does"


async def test_many_accounts_are_opened_after_one_question(ledger, journal):
    outcomes = await batch(ledger, *(Grant(account=f"new{i}", amount=i + 1) for i in range(50)))
    assert [*range(1, 51)] == [each.account.available for each in outcomes]
    assert {"accounts_known": 1} == journal.asked


async def test_a_grant_that_is_refused_does_not_keep_the_next_from_opening_the_account(ledger, clock):
    refused, granted = await batch(
        ledger, Grant(account="new", amount=1, expires_at_ms=clock.now_ms), Grant(account="new", amount=2)
    )
    assert "already_expired" == refused.word
    assert 2 == granted.account.available


async def test_an_account_that_the_journal_knows_and_redis_lacks_is_drift_for_its_operations_alone(
    ledger, journal, fake_redis
):
    await journal.catch_up()
    await fake_redis.delete(*await fake_redis.keys("*:account:bia"))
    outcomes = await batch(
        ledger,
        Grant(account="bia", amount=1),
        Deduct(account="ana", amount=1),
        Deduct(account="bia", amount=1),
    )
    assert [LedgerFenced, "deducted", LedgerFenced] == kinds(outcomes)
    assert not await fake_redis.keys("*:account:bia")


@pytest.mark.parametrize("atomic", [False, True], ids=["each by itself", "all or none"])
async def test_an_account_of_which_redis_says_nothing_when_asked_again_is_never_opened(
    ledger, journal, fake_redis, monkeypatch, atomic
):
    """The journal knows it; whether Redis has it by now must be known before a grant may open it."""
    await journal.catch_up()
    await fake_redis.delete(*await fake_redis.keys("*:account:bia"))

    async def silent(operations):
        return [LedgerUnavailable(why="no answer") for _ in operations]

    monkeypatch.setattr(ledger._present, "ask", silent)
    batch = ledger.batch([Grant(account="bia", amount=1)], atomic=atomic)
    if atomic:
        with pytest.raises(LedgerUnavailable):
            await batch
    else:
        assert [LedgerUnavailable] == kinds((await batch).results)
    assert not await fake_redis.keys("*:account:bia")


async def test_what_cannot_be_sent_again_is_told_so_and_the_rest_has_its_answers(ledger, monkeypatch):
    monkeypatch.setattr(ledger._batcher, "submit_all", once(ledger._batcher.submit_all))
    operations = [Grant(account="new", amount=1), Deduct(account="ana", amount=1)]
    assert [Overloaded, "deducted"] == kinds(await batch(ledger, *operations))


async def test_what_cannot_be_read_afterwards_is_told_so_and_the_rest_has_its_answers(
    ledger, journal, clock, monkeypatch
):
    old = Deduct(account="ana", amount=1, key=new_reservation_id(0, clock.now_ms), fingerprint=F)
    await batch(ledger, old)
    await journal.a_day_passes(ledger, clock)
    monkeypatch.setattr(ledger._batcher, "submit_all", once(ledger._batcher.submit_all))
    assert [Overloaded, "deducted"] == kinds(await batch(ledger, old, Deduct(account="ana", amount=1)))


async def test_without_the_journal_those_are_unavailable_that_need_it(ledger, journal):
    journal.away = True
    made = await ledger.new_reservation_id("ana")
    outcomes = await batch(
        ledger,
        Grant(account="ana", amount=1),
        Grant(account="ana", amount=1, **K),
        Grant(account="new", amount=1),
        Deduct(account="new", amount=1),
        Deduct(account="nobody", amount=1),
        Deduct(account="ana", amount=2, **K),
        Confirm(reservation=made),
        Deduct(account="ana", amount=1, key=new_reservation_id(0, 1), fingerprint=F),
    )
    unavailable = LedgerUnavailable
    assert [
        "granted", unavailable, unavailable, unavailable, unavailable, "deducted", unavailable, unavailable
    ] == kinds(outcomes)  # fmt: skip
    assert 99 == await available(ledger)


async def test_a_day_later_those_with_keys_that_hold_for_ever_are_replayed_and_the_others_done_anew(
    ledger, journal, clock
):
    operations = [
        Grant(account="ana", amount=1, key="g", fingerprint=F),
        Deduct(account="ana", amount=2, key=new_reservation_id(0, clock.now_ms), fingerprint=F),
        Deduct(account="ana", amount=4, key="opaque", fingerprint=F),
        Deduct(account="ana", amount=8),
    ]
    first = await batch(ledger, *operations)
    await journal.a_day_passes(ledger, clock)
    journal.asked.clear()
    again = await batch(ledger, *operations, Grant(account="ana", amount=3, key="g", fingerprint=G))
    assert [True, True, False, False] == [each.replayed for each in again[:4]]
    assert [each.transaction for each in first[:2]] == [each.transaction for each in again[:2]]
    assert isinstance(again[4], IdempotencyMismatch)
    assert {"answered": 1} == journal.asked, "all keys with one question"
    assert 100 + 1 - 2 - 2 * (4 + 8) == await available(ledger)
    assert [(await ledger.balance("ana")).account] * 2 == [each.account for each in again[:2]]


async def test_forgotten_reservations_are_answered_from_the_journal_with_one_question(ledger, journal, clock):
    confirmed, cancelled = [await reserved(ledger) for _ in range(3)], await reserved(ledger)
    firsts = await batch(
        ledger, *(Confirm(reservation=id_) for id_ in confirmed), Cancel(reservation=cancelled)
    )
    await journal.a_day_passes(ledger, clock)
    pending = await reserved(ledger)
    journal.asked.clear()
    outcomes = await batch(
        ledger,
        *(Confirm(reservation=id_) for id_ in confirmed),
        Cancel(reservation=cancelled),
        Confirm(reservation=cancelled),
        Confirm(reservation=pending),
        Confirm(reservation=confirmed[0], account="bia"),
    )
    assert [each.transaction for each in firsts] == [each.transaction for each in outcomes[:4]]
    assert [True] * 4 == [each.replayed for each in outcomes[:4]]
    assert [ReservationCancelled, "confirmed", ReservationNotFound] == kinds(outcomes[4:])
    assert {"reservations": 1, "recorded": 1} == journal.asked


async def test_a_replay_whose_entry_has_left_redis_comes_from_the_journal(ledger, journal):
    operations = [Deduct(account="ana", amount=1, key=f"k{i}", fingerprint=F) for i in range(3)]
    firsts = await batch(ledger, *operations)
    await journal.catch_up()
    again = await batch(ledger, *operations)
    assert [(each.transaction, each.entry) for each in firsts] == [
        (each.transaction, each.entry) for each in again
    ]
    assert {"recorded": 1} == journal.asked
    journal.away = True
    assert [LedgerUnavailable] * 3 == kinds(await batch(ledger, *operations))


async def test_an_extension_of_a_reservation_with_a_task_keeps_its_place(ledger, fake_redis):
    """Where its task is kept must be known before: sent again, it would come after the confirm."""
    ids = [await reserved(ledger, 5, task=f"t{i}", provider="fal") for i in range(4)]
    operations: list[Write] = []
    for id_ in ids:
        operations += [Extend(reservation=id_, ttl_ms=7_200_000), Confirm(reservation=id_)]
    assert ["extended", "confirmed"] * 4 == kinds(await batch(ledger, *operations))
    await check_keys(fake_redis)


async def test_a_single_extension_of_a_reservation_with_a_task_finds_its_shard_by_itself(ledger, fake_redis):
    for i in range(4):
        id_ = await reserved(ledger, 5, task=f"t{i}", provider="fal" if i % 2 else None)
        receipt = await ledger.extend(Extend(reservation=id_, ttl_ms=7_200_000))
        assert ("extended", 1) == (receipt.entry.kind, receipt.reservation.extensions)
    await check_keys(fake_redis)


async def test_what_a_day_ago_was_the_key_of_a_deduct_only_is_a_mismatch_for_a_grant(ledger, journal, clock):
    """Its keys hold for ever: whatever was written under one, the journal finds."""
    await ledger.deduct(Deduct(account="ana", amount=1, **K))
    await journal.a_day_passes(ledger, clock)
    (outcome,) = await batch(ledger, Grant(account="ana", amount=1, key="k", fingerprint=G))
    assert isinstance(outcome, IdempotencyMismatch)

"""Refunds: what was spent is found wherever it is known, and never more of it goes back."""

import asyncio

import pytest
from msgspec.structs import replace

from app.ledger.entries import Entry, Leg
from app.ledger.errors import (
    ExceedsTransaction,
    LedgerFenced,
    LedgerUnavailable,
    NotRefundable,
    ReservationNotFound,
    TransactionNotFound,
)
from app.ledger.ledger import Ledger
from app.ledger.operations import Adjust, Cancel, Configure, Confirm, Deduct, Grant, Refund, Reserve
from app.ledger.receipts import Receipt
from app.ledger.refunds import RefundOf, left_of
from app.ledger.shards import TransactionId, new_reservation_id
from tests.ledger.journal import DAY_MS

F = "f" * 16


async def spent(ledger: Ledger, amount: int = 40, account: str = "ana") -> Receipt:
    return await ledger.deduct(Deduct(account=account, amount=amount))


async def refunded(ledger: Ledger, of: TransactionId | str, amount: int | None = None, **more) -> Receipt:
    named = {"reservation": of} if isinstance(of, str) else {"transaction": of}
    return await ledger.refund(replace(await ledger.refunding(**named), amount=amount, **more))


async def reserved(ledger: Ledger, amount: int = 60, **more) -> str:
    made = await ledger.new_reservation_id("ana")
    await ledger.reserve(Reserve(account="ana", reservation=made, amount=amount, **more))
    return made


async def available(ledger: Ledger, account: str = "ana") -> int:
    return (await ledger.balance(account)).account.available


async def test_what_was_just_spent_is_given_back_while_the_journal_is_away(ledger, journal):
    journal.away = True
    deduct = await spent(ledger)
    first = await refunded(ledger, deduct.transaction, 10)
    assert (str(deduct.transaction), 10, 70) == (
        first.entry.refund_of, first.entry.amount, first.account.available
    )  # fmt: skip
    rest = await refunded(ledger, deduct.transaction)
    assert (30, 100) == (rest.entry.amount, rest.account.available)
    with pytest.raises(ExceedsTransaction) as error:
        await refunded(ledger, deduct.transaction)
    assert {"required": 40, "refunded": 40, "left": 0} == error.value.facts
    assert not journal.asked


@pytest.mark.parametrize("journaled", [False, True], ids=["in the stream", "in the journal"])
async def test_of_refunds_at_the_same_moment_no_more_goes_back_than_was_spent(ledger, journal, journaled):
    deduct = await spent(ledger)
    if journaled:
        await journal.catch_up()
    each = [refunded(ledger, deduct.transaction, 9) for _ in range(10)]
    answers = await asyncio.gather(*each, return_exceptions=True)
    assert 4 == sum(isinstance(each, Receipt) for each in answers)
    assert 6 == sum(isinstance(each, ExceedsTransaction) for each in answers)
    assert 60 + 36 == await available(ledger)


async def test_of_all_that_is_left_one_of_two_refunds_gets_it(ledger):
    deduct = await spent(ledger)
    each = [refunded(ledger, deduct.transaction) for _ in range(2)]
    answers = await asyncio.gather(*each, return_exceptions=True)
    assert {Receipt, ExceedsTransaction} == {type(each) for each in answers}
    assert 100 == await available(ledger)


async def test_a_day_later_what_was_refunded_before_is_known_from_the_journal(ledger, journal, clock):
    deduct = await spent(ledger)
    await refunded(ledger, deduct.transaction, 15)
    await journal.a_day_passes(ledger, clock)
    with pytest.raises(ExceedsTransaction) as error:
        await refunded(ledger, deduct.transaction, 26)
    assert {"required": 26, "refunded": 15, "left": 25} == error.value.facts
    await refunded(ledger, deduct.transaction, 20)
    assert 5 == (await refunded(ledger, deduct.transaction)).entry.amount
    assert 100 == await available(ledger)


async def test_an_old_entry_that_the_stream_still_has_is_asked_of_the_journal_for_what_was_refunded(
    ledger, journal, clock, fake_redis
):
    """The stream may be kept for longer than Redis remembers a refund."""
    deduct = await spent(ledger)
    await refunded(ledger, deduct.transaction, 15)
    await journal.catch_up(trimming=False)
    await fake_redis.delete(*await fake_redis.keys("lastro:*:refunded:*"))
    await clock.advance(DAY_MS)
    with pytest.raises(ExceedsTransaction):
        await refunded(ledger, deduct.transaction, 26)
    assert {"refunded": 1} == journal.asked


async def test_what_only_the_journal_can_know_of_a_refund_is_unavailable_while_it_is_away(
    ledger, journal, clock
):
    deduct, keyed = await spent(ledger), await spent(ledger)
    journal.away = True
    with pytest.raises(LedgerUnavailable):
        await refunded(ledger, keyed.transaction, key="k", fingerprint=F)
    journal.away = False
    await journal.a_day_passes(ledger, clock)
    journal.away = True
    for named in (
        {"transaction": deduct.transaction},
        {"transaction": TransactionId(0, 1, 999)},
        {"reservation": new_reservation_id(0, 1)},
    ):
        with pytest.raises(LedgerUnavailable):
            await ledger.refunding(**named)
    assert 20 == await available(ledger)


async def test_a_refund_names_a_transaction_that_there_is(ledger):
    deduct = await spent(ledger)
    shard, incarnation, sequence = deduct.transaction
    for named in (
        TransactionId(shard, incarnation, sequence + 1),
        TransactionId(shard, incarnation + 1, sequence),
        TransactionId(shard, incarnation - 1, sequence),
        TransactionId(4, incarnation, sequence),
    ):
        with pytest.raises(TransactionNotFound):
            await ledger.refunding(named)
    with pytest.raises(TransactionNotFound):
        await ledger.refunding(deduct.transaction, of="bia")
    assert "ana" == (await ledger.refunding(deduct.transaction, of="ana")).account


@pytest.mark.parametrize("old", [False, True], ids=["now", "a day later"])
async def test_only_what_spent_credits_can_be_given_back(ledger, journal, clock, old):
    granted = await ledger.grant(Grant(account="ana", amount=5))
    adjusted = await ledger.adjust(Adjust(account="ana", amount=-5))
    configured = await ledger.configure(Configure(account="ana", low_balance=3))
    id_ = await reserved(ledger)
    cancelled = await ledger.cancel(Cancel(reservation=id_))
    back = await refunded(ledger, (await spent(ledger)).transaction)
    pending = await reserved(ledger, ttl_ms=86_400_000)
    if old:
        await journal.a_day_passes(ledger, clock)
        pending = await reserved(ledger)
    for receipt in (granted, adjusted, configured.receipt, cancelled, back):
        with pytest.raises(NotRefundable) as error:
            await ledger.refund(await ledger.refunding(receipt.transaction))
        assert {"kind": receipt.entry.kind} == error.value.facts
    for reservation, status in ((id_, "cancelled"), (pending, "pending")):
        with pytest.raises(NotRefundable) as error:
            await ledger.refund(await ledger.refunding(reservation=reservation))
        assert {"status": status} == error.value.facts


@pytest.mark.parametrize("old", [False, True], ids=["now", "a day later"])
async def test_all_that_a_reservation_has_spent_goes_back_the_latest_first(ledger, journal, clock, old):
    id_ = await reserved(ledger)
    parts = [
        await ledger.confirm(
            Confirm(reservation=id_, amount=10 + i, final=False, key=f"part-{i}", fingerprint=F)
        )
        for i in range(2)
    ]
    ending = await ledger.confirm(Confirm(reservation=id_, amount=12))
    if old:
        await journal.a_day_passes(ledger, clock)
    operation = await ledger.refunding(reservation=id_)
    of = [str(each.transaction) for each in (ending, *reversed(parts))]
    assert of == [each.transaction for each in operation.originals]
    assert [id_] * 3 == [each.reservation for each in operation.originals]
    first = await ledger.refund(replace(operation, amount=15))
    assert (of[0], 12) == (first.entry.refund_of, first.entry.amount)
    rest = await refunded(ledger, id_)
    assert (of[1], 8) == (rest.entry.refund_of, rest.entry.amount)
    assert 100 == await available(ledger)


@pytest.mark.parametrize("old", [False, True], ids=["at once", "a day later"])
async def test_a_refund_of_several_is_answered_with_its_first_entry_again_and_the_balance_of_now(
    ledger, journal, clock, old
):
    """The others are found by their reservation: only the first has the key."""
    id_ = await reserved(ledger)
    for i in range(2):
        await ledger.confirm(
            Confirm(reservation=id_, amount=10, final=False, key=f"p{i}", fingerprint="f" * 16)
        )
    ending = await ledger.confirm(Confirm(reservation=id_, amount=10))
    first = await refunded(ledger, id_, 25, key="k", fingerprint="f" * 16)
    assert (str(ending.transaction), 10, 95) == (
        first.entry.refund_of, first.entry.amount, first.account.available
    )  # fmt: skip
    made = [each.entry for each in await journal.entries(first.shard) if each.entry.kind == "refunded"]
    assert [(10, id_), (10, id_), (5, id_)] == [(each.amount, each.reservation) for each in made]
    await ledger.deduct(Deduct(account="ana", amount=7))
    if old:
        await journal.a_day_passes(ledger, clock)
    again = await refunded(ledger, id_, 25, key="k", fingerprint="f" * 16)
    assert (first.transaction, first.entry, True) == (again.transaction, again.entry, again.replayed)
    assert (88, 88) == (again.account.available, await available(ledger))


async def test_parts_go_back_while_the_rest_is_still_held_and_after_it_was_cancelled(ledger):
    id_ = await reserved(ledger)
    await ledger.confirm(Confirm(reservation=id_, amount=10, final=False, key="k", fingerprint=F))
    assert 4 == (await refunded(ledger, id_, 4)).entry.amount
    await ledger.cancel(Cancel(reservation=id_))
    assert 6 == (await refunded(ledger, id_)).entry.amount
    assert 100 == await available(ledger)


async def test_a_refund_names_a_reservation_that_there_is(ledger):
    id_ = await reserved(ledger)
    await ledger.confirm(Confirm(reservation=id_))
    with pytest.raises(ReservationNotFound):
        await ledger.refunding(reservation=id_, of="bia")
    for unknown in (new_reservation_id(0, 1), new_reservation_id(4, 1)):
        with pytest.raises(ReservationNotFound):
            await ledger.refunding(reservation=unknown)


async def test_a_confirm_that_the_journal_lacks_is_drift_and_never_not_found(ledger, journal, clock):
    id_ = await reserved(ledger)
    confirmed = await ledger.confirm(Confirm(reservation=id_))
    await journal.a_day_passes(ledger, clock)
    del journal.known[confirmed.shard, confirmed.sequence]
    with pytest.raises(LedgerFenced):
        await ledger.refunding(reservation=id_)


async def test_many_are_looked_up_with_one_question_each(ledger, journal, clock):
    old = [await spent(ledger, 1) for _ in range(5)]
    id_ = await reserved(ledger)
    await ledger.confirm(Confirm(reservation=id_))
    await journal.a_day_passes(ledger, clock)
    new = [await spent(ledger, 1) for _ in range(5)]
    journal.asked.clear()
    found = await ledger.refunding_all(
        [
            *(RefundOf(transaction=each.transaction) for each in old + new),
            RefundOf(reservation=id_),
            RefundOf(transaction=TransactionId(0, 1, 999)),
        ]
    )
    assert [Refund] * 11 + [TransactionNotFound] == [type(each) for each in found]
    assert [str(each.transaction) for each in old + new] == [
        each.originals[0].transaction for each in found[:10]
    ]
    assert {"reservations": 1, "recorded": 1, "refunded": 1} == journal.asked


def legs(*moved: tuple[str, int, int]) -> list[Leg]:
    return [Leg(bucket, 0, available, held) for bucket, available, held in moved]


@pytest.mark.parametrize(
    ("amount", "moved", "left"),
    [
        (30, [("plan", -10, 0), ("extras", -20, 0)], [("plan", 0, 10), ("extras", 0, 20)]),
        (15, [("plan", 0, -10), ("extras", 5, -10)], [("plan", 0, 10), ("extras", 0, 5)]),
        (12, [("plan", 0, -10), ("extras", -2, 0)], [("plan", 0, 10), ("extras", 0, 2)]),
        (10, [("plan", -4, 0), ("overdraft", -6, 0)], [("plan", 0, 4), ("overdraft", 0, 6)]),
        # Of 20 held 10 were captured and 10 released, 7 of which repaid a debt.
        (10, [("plan", 0, -10), ("extras", 3, -10), ("overdraft", 7, 0)], [("plan", 0, 10)]),
        (4, [("plan", 1, -10), ("overdraft", 5, 0)], [("plan", 0, 4)]),
        (0, [("plan", 10, -10)], []),
    ],
)
def test_what_was_spent_of_which_lot_is_read_from_the_legs(amount, moved, left):
    entry = Entry(
        format=1, kind="confirmed", at_ms=1, account="ana", version=2, amount=amount, available=0, held=0,
        legs=legs(*moved), incarnation=1, nonce="n",
    )  # fmt: skip
    assert left == left_of(entry)

"""I4 and I15 at the ledger: what Redis has forgotten is answered from the journal, and from nowhere else."""

import asyncio
from collections.abc import Sequence

import pytest

from app.ledger.errors import (
    AccountNotFound,
    IdempotencyMismatch,
    LedgerFenced,
    LedgerUnavailable,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationNotFound,
    TaskConflict,
)
from app.ledger.ledger import Ledger
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Extend, Grant, Reserve
from app.ledger.receipts import Receipt
from app.ledger.shards import new_reservation_id
from tests.ledger.journal import Journal

F = "f" * 16


async def reserved(ledger: Ledger, amount: int = 60, **more) -> str:
    made = await ledger.new_reservation_id("ana")
    receipt = await ledger.reserve(Reserve(account="ana", reservation=made, amount=amount, **more))
    return receipt.reservation.id


def same(first: Receipt, again: Receipt) -> bool:
    return (first.transaction, first.entry, first.notes, True) == (
        again.transaction,
        again.entry,
        again.notes,
        again.replayed,
    )


async def test_a_replay_whose_entry_has_left_redis_is_the_first_answer(ledger, journal):
    asked = Deduct(account="ana", amount=5, key="k", fingerprint=F, notes='{"salt":"0"}', notes_hash="a" * 64)
    first = await ledger.deduct(asked)
    await journal.catch_up()
    again = await ledger.deduct(asked)
    assert same(first, again)
    assert 95 == again.account.available


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_confirm_of_a_forgotten_reservation_is_the_first_answer_with_its_own_account(
    ledger, journal, key
):
    """Others who ask in the same call do not lend it their account."""
    id_ = await reserved(ledger)
    first = await ledger.confirm(Confirm(reservation=id_, amount=40))
    keyed = Confirm(reservation=id_, amount=40, key=key, fingerprint=key and F)
    await ledger.confirm(keyed)
    await journal.catch_up()
    await journal.forget(ledger, id_)
    _, again, _ = await asyncio.gather(
        ledger.balance("bia"), ledger.confirm(keyed), ledger.deduct(Deduct(account="bia", amount=1))
    )
    assert same(first, again)
    assert (60, 0, "confirmed") == (again.account.available, again.account.held, again.reservation.status)


async def test_a_keyed_confirm_of_a_forgotten_reservation_whose_entry_is_still_in_the_stream(ledger, journal):
    id_ = await reserved(ledger)
    keyed = Confirm(reservation=id_, key="k", fingerprint=F)
    first = await ledger.confirm(keyed)
    sequence = first.sequence
    journal.known[first.shard, sequence] = (await journal.entries(first.shard))[sequence - 1]
    await journal.forget(ledger, id_)
    _, again = await asyncio.gather(ledger.balance("bia"), ledger.confirm(keyed))
    assert same(first, again)
    assert (40, "confirmed") == (again.account.available, again.reservation.status)


async def test_the_loser_is_told_which_ending_won_also_when_redis_has_forgotten(ledger, journal, clock):
    confirmed, cancelled, expired = [await reserved(ledger, ttl_ms=1000)], [], []
    await ledger.confirm(Confirm(reservation=confirmed[0], amount=1))
    cancelled.append(await reserved(ledger, ttl_ms=1000))
    await ledger.cancel(Cancel(reservation=cancelled[0], cause="failed"))
    expired.append(await reserved(ledger, ttl_ms=1000))
    await clock.advance(1000)
    await ledger.balance("ana")
    await journal.catch_up()
    for id_ in (*confirmed, *cancelled, *expired):
        await journal.forget(ledger, id_)
    with pytest.raises(ReservationConfirmed):
        await ledger.cancel(Cancel(reservation=confirmed[0]))
    with pytest.raises(ReservationCancelled) as told:
        await ledger.confirm(Confirm(reservation=cancelled[0]))
    assert "failed" == told.value.facts["cause"]
    for act in (
        ledger.confirm(Confirm(reservation=expired[0])),
        ledger.cancel(Cancel(reservation=expired[0])),
    ):
        with pytest.raises(ReservationExpired):
            await act
    for id_ in (*confirmed, *cancelled, *expired):
        with pytest.raises(ReservationNotFound):
            await ledger.confirm(Confirm(reservation=id_, account="bia"))


async def test_a_binding_of_a_forgotten_reservation_is_answered_again(ledger, journal):
    id_ = await reserved(ledger)
    first = await ledger.bind(Bind(reservation=id_, task="t", provider="fal"))
    await ledger.confirm(Confirm(reservation=id_))
    await journal.catch_up()
    await journal.forget(ledger, id_)
    assert same(first, await ledger.bind(Bind(reservation=id_, task="t", provider="fal")))
    with pytest.raises(TaskConflict):
        await ledger.bind(Bind(reservation=id_, task="u", provider="fal"))


async def test_an_extension_of_a_forgotten_reservation_is_told_its_ending(ledger, journal, clock):
    confirmed, cancelled, expired = [await reserved(ledger, amount=10) for _ in range(3)]
    await ledger.confirm(Confirm(reservation=confirmed))
    await ledger.cancel(Cancel(reservation=cancelled))
    await journal.a_day_passes(ledger, clock)
    for id_, error in (
        (confirmed, ReservationConfirmed),
        (cancelled, ReservationCancelled),
        (expired, ReservationExpired),
    ):
        with pytest.raises(error):
            await ledger.extend(Extend(reservation=id_, ttl_ms=1000))


async def test_an_extension_that_was_made_is_answered_again_after_its_reservation_is_forgotten(
    ledger, journal, clock
):
    id_ = await reserved(ledger)
    asked = Extend(reservation=id_, ttl_ms=3_600_000, key="k", fingerprint=F)
    first = await ledger.extend(asked)
    await ledger.confirm(Confirm(reservation=id_))
    await journal.a_day_passes(ledger, clock)
    again = await ledger.extend(asked)
    assert same(first, again)
    assert "confirmed" == again.reservation.status


async def test_each_part_of_a_forgotten_reservation_is_answered_by_its_key_and_the_rest_by_the_ending(
    ledger, journal, clock
):
    id_ = await reserved(ledger)
    parts = [
        Confirm(reservation=id_, amount=10 + i, final=False, key=f"part-{i}", fingerprint=F) for i in range(3)
    ]
    firsts = [await ledger.confirm(each) for each in parts]
    ending = await ledger.confirm(Confirm(reservation=id_, amount=1))
    await journal.a_day_passes(ledger, clock)
    for asked, first in zip(parts, firsts, strict=True):
        assert same(first, await ledger.confirm(asked))
    for asked in (Confirm(reservation=id_), Confirm(reservation=id_, final=False, key="new", fingerprint=F)):
        assert same(ending, await ledger.confirm(asked))
    with pytest.raises(IdempotencyMismatch):
        await ledger.confirm(Confirm(reservation=id_, amount=9, key="part-1", fingerprint="g" * 16))
    assert 100 - 10 - 11 - 12 - 1 == (await ledger.balance("ana")).account.available


async def test_a_late_confirm_is_too_late_once_its_reservation_is_forgotten(ledger, journal, clock):
    in_time, too_late = [await reserved(ledger, amount=10, on_expired="charge") for _ in range(2)]
    await clock.advance(3_600_000)
    late = await ledger.confirm(Confirm(reservation=in_time))
    assert late.entry.late
    await journal.a_day_passes(ledger, clock)
    with pytest.raises(ReservationExpired):
        await ledger.confirm(Confirm(reservation=too_late))
    assert same(late, await ledger.confirm(Confirm(reservation=in_time)))
    assert 90 == (await ledger.balance("ana")).account.available


async def test_what_neither_redis_nor_the_journal_knows_is_not_found(ledger):
    with pytest.raises(AccountNotFound):
        await ledger.deduct(Deduct(account="nobody", amount=1))
    with pytest.raises(ReservationNotFound):
        await ledger.confirm(Confirm(reservation=new_reservation_id(0, 1)))
    with pytest.raises(ReservationNotFound):
        await ledger.confirm(Confirm(reservation=new_reservation_id(4, 1)))


async def test_what_only_the_journal_can_know_is_unavailable_while_it_is_away_never_not_found(
    ledger, journal
):
    id_ = await reserved(ledger)
    asked = Deduct(account="ana", amount=5, key="k", fingerprint=F)
    await ledger.deduct(asked)
    await journal.catch_up()
    journal.away = True
    for act in (
        ledger.deduct(Deduct(account="nobody", amount=1)),
        ledger.grant(Grant(account="nobody", amount=1)),
        ledger.balance("nobody"),
        ledger.confirm(Confirm(reservation=new_reservation_id(0, 1))),
        ledger.find(new_reservation_id(0, 1)),
        ledger.deduct(asked),
    ):
        with pytest.raises(LedgerUnavailable):
            await act
    assert 55 == (await ledger.confirm(Confirm(reservation=id_, amount=40))).account.available


async def test_an_account_that_the_journal_knows_and_redis_lacks_is_never_opened_anew(
    ledger, journal, fake_redis
):
    await journal.catch_up()
    await fake_redis.delete(*await fake_redis.keys("*:account:ana"))
    for act in (
        ledger.grant(Grant(account="ana", amount=1)),
        ledger.deduct(Deduct(account="ana", amount=1)),
        ledger.balance("ana"),
    ):
        with pytest.raises(LedgerFenced):
            await act
    assert not await fake_redis.keys("*:account:ana")
    assert 7 == (await ledger.balance("bia")).account.available


async def test_a_pending_reservation_that_redis_lacks_is_drift_and_never_not_found(
    ledger, journal, fake_redis
):
    id_ = await reserved(ledger)
    await journal.forget(ledger, id_)
    for act in (ledger.confirm(Confirm(reservation=id_)), ledger.find(id_)):
        with pytest.raises(LedgerFenced):
            await act


async def test_the_account_of_a_reservation_that_redis_lacks_is_drift_and_never_not_found(ledger, fake_redis):
    id_ = await reserved(ledger)
    await fake_redis.delete(*await fake_redis.keys("*:account:ana"))
    with pytest.raises(LedgerFenced, match="ana has a reservation"):
        await ledger.confirm(Confirm(reservation=id_))
    batched = await ledger.batch([Confirm(reservation=id_)], atomic=True)
    assert [LedgerFenced] == [type(each) for each in batched.results]


async def test_an_account_is_opened_once_by_grants_at_the_same_moment(ledger, journal):
    receipts = await asyncio.gather(*(ledger.grant(Grant(account="new", amount=1)) for _ in range(20)))
    assert [*range(1, 21)] == sorted(receipt.entry.version for receipt in receipts)
    assert 20 == (await ledger.balance("new")).account.available


async def test_an_account_that_somebody_opened_while_the_journal_was_asked_is_no_drift(ledger, journal):
    """The journal is asked after Redis, and may have heard of it by then."""
    asking, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(accounts: Sequence[str]) -> set[str]:
        asking.set()
        await go_on.wait()
        return await Journal.accounts_known(journal, accounts)

    journal.accounts_known = slowly
    grant = asyncio.create_task(ledger.grant(Grant(account="new", amount=1)))
    deduct = asyncio.create_task(ledger.deduct(Deduct(account="new", amount=1)))
    await asking.wait()
    del journal.accounts_known
    await ledger.grant(Grant(account="new", amount=10))
    await journal.catch_up()
    go_on.set()
    assert 11 == (await grant).account.available
    with pytest.raises(AccountNotFound):
        await deduct

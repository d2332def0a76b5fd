"""Batches of which all operations are carried out, or none."""

import asyncio

import pytest
from msgspec.structs import replace

from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.errors import (
    BatchAcrossShards,
    InsufficientCredits,
    InternalError,
    LedgerFenced,
    ReservationConfirmed,
)
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Confirm, Deduct, Grant, Reserve, Write
from app.ledger.receipts import Receipt
from app.ledger.shards import shard_of
from tests.engine import engine
from tests.ledger.scenes import F, available, failed_of, reserved, together
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys


def keyed(*amounts: int, account: str = "ana") -> list[Write]:
    return [
        Deduct(account=account, amount=amount, key=f"k{i}", fingerprint=F) for i, amount in enumerate(amounts)
    ]


async def test_all_are_carried_out_in_one_call_and_in_their_order(fake_redis):
    async with engine(fake_redis, limits=Limits(batch_operations_max=16)) as (ledger, journal):
        await ledger.grant(Grant(account="ana", amount=2000))
        batched = await together(ledger, *(Deduct(account="ana", amount=1) for _ in range(1000)))
        assert [*range(2, 1002)] == [each.entry.version for each in batched.results]
        entries = await journal.entries(shard_of("ana", 4))
        assert 1 == len({each.entry.nonce for each in entries[1:]})
    await check_keys(fake_redis)


async def test_none_is_carried_out_when_one_is_refused(ledger, fake_redis):
    before = await dump(fake_redis)
    batched = await together(ledger, *keyed(40, 50, 11, 1))
    assert failed_of(batched, 2, InsufficientCredits)
    assert {"required": 11, "available": 10, "held": 0} == batched.results[2].facts
    remembered = [each for each in await fake_redis.keys("lastro:*:operation:*") if each.endswith(b":k2")]
    await fake_redis.delete(*remembered)
    assert not difference(without_traces(before), without_traces(await dump(fake_redis)))
    assert 1 == len(remembered), "the refusal is remembered under its key, like any other"


async def test_the_same_batch_again_is_told_the_same(ledger):
    refused = await together(ledger, *keyed(40, 61))
    await ledger.grant(Grant(account="ana", amount=1000))
    again = await together(ledger, *keyed(40, 61))
    assert refused.results[1].facts == again.results[1].facts
    assert (False, True) == (refused.results[1].replayed, again.results[1].replayed)
    assert failed_of(again, 1, InsufficientCredits)
    carried = await together(ledger, *keyed(40), Deduct(account="ana", amount=61, key="new", fingerprint=F))
    replayed = await together(ledger, *keyed(40), Deduct(account="ana", amount=61, key="new", fingerprint=F))
    assert [each.transaction for each in carried.results] == [each.transaction for each in replayed.results]
    assert ([False] * 2, [True] * 2) == tuple(
        [each.replayed for each in batched.results] for batched in (carried, replayed)
    )
    assert 999 == await available(ledger)


async def test_a_script_that_fails_fails_it_as_a_whole(ledger, fake_redis):
    bad = next(each for each in (f"b{i}" for i in range(99)) if shard_of(each, 4) != shard_of("ana", 4))
    await ledger.grant(Grant(account=bad, amount=100))
    await fake_redis.set(keys.due(shard_of(bad, 4)), "planted")
    calls = _counted(ledger)
    with pytest.raises(InternalError):
        await together(ledger, *(Deduct(account=each, amount=1) for each in ["ana"] * 5 + [bad]))
    assert 1 == len(calls), "it is not tried in halves"
    assert 100 == await available(ledger)


async def test_a_bug_in_one_operation_names_it(ledger):
    batched = await together(ledger, Deduct(account="ana", amount=1), Deduct(account="ana", amount=0))
    assert failed_of(batched, 1, InternalError)
    assert 100 == await available(ledger)


async def test_on_a_cluster_it_must_not_span_shards_and_nothing_is_sent(ledger, journal):
    journal.terms = replace(journal.terms, servers=[journal.terms.server] * journal.terms.shards)
    ledger.adopt(journal.terms)
    far = next(each for each in (f"b{i}" for i in range(99)) if shard_of(each, 4) != shard_of("ana", 4))
    calls = _counted(ledger)
    with pytest.raises(BatchAcrossShards):
        await together(ledger, Deduct(account="ana", amount=1), Grant(account=far, amount=1))
    assert not calls
    assert 2 == len((await together(ledger, *keyed(1, 2))).results)
    alone = await ledger.batch([Deduct(account="ana", amount=1), Deduct(account="bia", amount=1)])
    assert [Receipt] * 2 == [type(each) for each in alone.results]


async def test_a_fence_that_postgresql_has_told_of_fails_it_and_names_whom_it_concerns(ledger, journal):
    far = next(each for each in (f"b{i}" for i in range(99)) if shard_of(each, 4) != shard_of("ana", 4))
    await ledger.grant(Grant(account=far, amount=1))
    ledger.adopt(replace(journal.terms, fences={shard_of(far, 4): "forked"}))
    operations = [Deduct(account=each, amount=1) for each in ("ana", far, "ana", far)]
    assert failed_of(await together(ledger, *operations), 1, LedgerFenced)
    alone = await ledger.batch([replace(each) for each in operations])
    assert [Receipt, LedgerFenced, Receipt, LedgerFenced] == [type(each) for each in alone.results]
    assert 98 == await available(ledger)


async def test_it_waits_until_all_that_is_due_has_happened(ledger, clock, fake_redis):
    for _ in range(2):
        made = [await ledger.new_reservation_id("ana") for _ in range(50)]
        await together(
            ledger, *(Reserve(account="ana", reservation=id_, amount=1, ttl_ms=1000) for id_ in made)
        )
    await ledger.grant(Grant(account="ana", amount=5))
    for _ in range(5):
        await reserved(ledger, 1, ttl_ms=1000)
    await clock.advance(1000)
    calls = _counted(ledger)
    batched, alone = await asyncio.gather(
        together(ledger, *(Deduct(account="ana", amount=15) for _ in range(7))), ledger.balance("bia")
    )
    assert [Receipt] * 7 == [type(each) for each in batched.results]
    assert 7 == alone.account.available
    assert [7, 7] == [len(each.tickets) for each in calls if each.atomic]
    await check_keys(fake_redis)


async def test_batches_and_single_operations_of_one_moment_each_get_their_own_answers(fake_redis):
    async with engine(fake_redis, limits=Limits(batch_operations_max=5)) as (ledger, _):
        for i in range(6):
            await ledger.grant(Grant(account=f"a{i}", amount=1_000_000))

        async def ask(i: int) -> list[tuple[str, int]]:
            account, count = f"a{i % 6}", 1 + i % 9
            operations = [Deduct(account=account, amount=100 + i) for _ in range(count)]
            if i % 3 == 2:
                receipts = [await ledger.deduct(operations[0])]
            else:
                receipts = (await ledger.batch(operations, atomic=i % 3 == 0)).results
            assert receipts == [each for each in receipts if each.entry.amount == 100 + i]
            versions = [each.entry.version for each in receipts]
            if i % 3 == 0:
                assert [*range(versions[0], versions[0] + len(versions))] == versions
            return [(account, version) for version in versions]

        got = await asyncio.gather(*(ask(i) for i in range(90)))
        assert not ledger._batcher._only.waiting._atomic, (
            "who comes alone afterwards travels as fast as before"
        )
        flat = [each for one in got for each in one]
        assert len(flat) == len({*flat})
    await check_keys(fake_redis)


async def test_of_the_reservations_of_one_batch_a_lost_race_is_told(ledger):
    id_ = await reserved(ledger)
    batched = await together(ledger, Confirm(reservation=id_), Cancel(reservation=id_))
    assert failed_of(batched, 1, ReservationConfirmed)
    assert 90 == await available(ledger)


def _counted(ledger: Ledger) -> list:
    """The flights that are attempted from now on."""
    flights: list = []
    attempt = ledger._batcher._only._carrier._attempt

    async def counting(flight):
        flights.append(flight)
        return await attempt(flight)

    ledger._batcher._only._carrier._attempt = counting
    return flights

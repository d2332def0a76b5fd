"""Batches on a bad wire: whatever is lost, each of their operations happens once, and an atomic one whole."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import InternalError, LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant, Write
from app.ledger.receipts import Receipt
from app.ledger.shards import shard_of
from tests.chaos.proxy import Proxy
from tests.engine import engine
from tests.lua.invariants import check_keys

BOTH = pytest.mark.parametrize("atomic", [False, True], ids=["each by itself", "all or none"])


def deducts(count: int, *, account: str = "ana") -> list[Write]:
    """With keys, so that they can be asked for again."""
    return [Deduct(account=account, amount=1, key=f"k{i}", fingerprint="f" * 16) for i in range(count)]


async def available(ledger: Ledger, account: str = "ana") -> int:
    return (await ledger.balance(account)).account.available


@asynccontextmanager
async def behind(proxy: Proxy, **limits) -> AsyncIterator[Ledger]:
    """A ledger behind the wire, with 100 credits for ana and as many for bia."""
    async with (
        connect(proxy.url, answer_seconds=0.2) as client,
        engine(client, limits=Limits(**limits)) as (ledger, _),
    ):
        await ledger.grant(Grant(account="ana", amount=100))
        await ledger.grant(Grant(account="bia", amount=100))
        yield ledger


@pytest.mark.parametrize("cut", [True, False], ids=["the connection breaks", "no answer comes"])
@BOTH
async def test_a_lost_answer_is_asked_for_again_in_its_lane(proxy, redis, atomic, cut):
    async with behind(proxy) as ledger:
        before = proxy.calls
        proxy.lose_answers(2, cut=cut)
        batched = await ledger.batch([Deduct(account="ana", amount=1) for _ in range(30)], atomic=atomic)
        assert (2, 3) == (proxy.lost, proxy.calls - before)
        assert [*range(2, 32)] == [each.entry.version for each in batched.results]
        assert not any(each.replayed for each in batched.results)
        assert 70 == await available(ledger)
        assert atomic == (b'"atomic"' in proxy.requests[before]), "ordinary calls do not name it"
    await check_keys(redis)


async def test_each_call_of_a_long_batch_may_lose_its_answer(proxy, redis):
    async with behind(proxy, batch_operations_max=8) as ledger:
        proxy.lose_answers(6)
        batched = await ledger.batch(deducts(40))
        assert 6 == proxy.lost
        assert [*range(2, 42)] == [each.entry.version for each in batched.results]
    await check_keys(redis)


@BOTH
async def test_without_an_answer_in_time_it_is_unavailable_and_its_keys_answer_for_it_later(
    proxy, redis, atomic
):
    async with behind(proxy, request_seconds=0.3) as ledger:
        proxy.lose_answers(1000, cut=False)
        operations = deducts(20)
        if atomic:
            with pytest.raises(LedgerUnavailable):
                await ledger.batch([replace(each) for each in operations], atomic=True)
        else:
            batched = await ledger.batch([replace(each) for each in operations])
            assert [LedgerUnavailable] * 20 == [type(each) for each in batched.results]
        proxy.lose_answers(0)
        again = await ledger.batch(operations, atomic=atomic)
        assert [True] * 20 == [each.replayed for each in again.results]
        assert 80 == await available(ledger)
    await check_keys(redis)


@BOTH
async def test_copies_of_a_batch_that_arrive_late_move_nothing(proxy, redis, atomic):
    async with behind(proxy) as ledger:
        proxy.keep_calls(1)
        batched = await ledger.batch(deducts(20), atomic=atomic)
        assert [Receipt] * 20 == [type(each) for each in batched.results]
        proxy.deliver_kept()
        await proxy.until_calls(proxy.calls)
        assert 80 == await available(ledger)
    await check_keys(redis)


@BOTH
async def test_somebody_who_stops_waiting_for_a_batch_whose_answer_is_lost_changes_nothing_for_others(
    proxy, redis, atomic
):
    async with behind(proxy) as ledger:
        proxy.lose_answers(1, cut=False)
        given_up = asyncio.create_task(ledger.batch(deducts(10), atomic=atomic))
        alone = asyncio.create_task(ledger.deduct(Deduct(account="bia", amount=2)))
        another = asyncio.create_task(ledger.batch(deducts(10, account="bia"), atomic=atomic))
        await proxy.until_lost(1)
        given_up.cancel()
        assert ("bia", 2) == ((entry := (await alone).entry).account, entry.amount)
        assert [("bia", 1)] * 10 == [
            (each.entry.account, each.entry.amount) for each in (await another).results
        ]
        assert (90, 88) == (await available(ledger), await available(ledger, "bia"))
    await check_keys(redis)


@BOTH
async def test_a_server_that_stood_still_has_carried_a_batch_out_at_most_once(own_valkey, atomic):
    async with (
        connect(own_valkey.url, answer_seconds=0.1) as client,
        engine(client, limits=Limits(request_seconds=0.3)) as (ledger, _),
    ):
        await ledger.grant(Grant(account="ana", amount=100))
        operations = deducts(20)
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            (given_up,) = await asyncio.gather(
                ledger.batch([replace(each) for each in operations], atomic=atomic), return_exceptions=True
            )
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)
        errors = [given_up] if atomic else given_up.results
        assert {LedgerUnavailable} == {type(each) for each in errors}
        assert await available(ledger) in {100, 80}
        again = await ledger.batch(operations, atomic=atomic)
        assert [Receipt] * 20 == [type(each) for each in again.results]
        assert 80 == await available(ledger)
        await check_keys(client)


async def test_an_atomic_batch_that_the_script_fails_on_is_sent_once_and_the_lane_goes_on(proxy, redis):
    async with behind(proxy) as ledger:
        before = proxy.calls
        await redis.set(keys.due(shard_of("ana", 4)), "planted")
        with pytest.raises(InternalError):
            await ledger.batch(deducts(10), atomic=True)
        assert 1 == proxy.calls - before
        await redis.delete(keys.due(shard_of("ana", 4)))
        assert [Receipt] * 10 == [
            type(each) for each in (await ledger.batch(deducts(10), atomic=True)).results
        ]
        assert 90 == await available(ledger)
    await check_keys(redis)

"""An answer that is lost on the wire charges once (I4), and nobody gets the answer of somebody else."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Confirm, Deduct, Grant, Reserve
from tests.chaos.proxy import Proxy
from tests.engine import Streams, engine
from tests.lua.invariants import check_keys


@asynccontextmanager
async def behind(
    proxy: Proxy, answer_seconds: float = 0.3, limits: Limits | None = None
) -> AsyncIterator[tuple[Ledger, Streams]]:
    """A ledger behind the wire, with 100 credits for ana and as many for bia."""
    async with (
        connect(proxy.url, answer_seconds=answer_seconds) as redis,
        engine(redis, limits=limits) as (ledger, journal),
    ):
        await ledger.grant(Grant(account="ana", amount=100))
        await ledger.grant(Grant(account="bia", amount=100))
        yield ledger, journal


async def available(ledger: Ledger, account: str) -> int:
    return (await ledger.balance(account)).account.available


@pytest.mark.parametrize("cut", [True, False], ids=["the connection breaks", "no answer comes"])
@pytest.mark.parametrize("key", [None, "order-1"], ids=["no key", "key"])
async def test_an_answer_that_is_lost_charges_once(proxy, redis, cut, key):
    async with behind(proxy) as (ledger, _):
        proxy.lose_answers(1, cut=cut)
        receipt = await ledger.deduct(Deduct(account="ana", amount=5, key=key, fingerprint=key and "f" * 16))
        assert (1, 95, False) == (proxy.lost, receipt.account.available, receipt.replayed)
        assert 95 == await available(ledger, "ana")
    await check_keys(redis)


async def test_an_answer_that_is_lost_many_times_charges_once(proxy):
    async with behind(proxy) as (ledger, _):
        proxy.lose_answers(4)
        assert 95 == (await ledger.deduct(Deduct(account="ana", amount=5))).account.available
        assert 4 == proxy.lost


async def test_a_whole_life_of_a_reservation_survives_the_loss_of_every_first_answer(proxy, redis):
    async with behind(proxy) as (ledger, _):
        proxy.lose_answers(1)
        reserved = await ledger.reserve(
            Reserve(account="ana", reservation=await ledger.new_reservation_id("ana"), amount=60)
        )
        proxy.lose_answers(1)
        confirmed = await ledger.confirm(Confirm(reservation=reserved.reservation.id, amount=40))
        proxy.lose_answers(1)
        again = await ledger.confirm(Confirm(reservation=reserved.reservation.id, amount=40))
        assert (False, True) == (confirmed.replayed, again.replayed)
        assert confirmed.transaction == again.transaction
        assert (60, 0) == (again.account.available, again.account.held)
    await check_keys(redis)


async def test_of_many_in_flight_each_is_charged_once_while_the_wire_loses_answers(proxy, redis):
    async with behind(proxy, limits=Limits(batch_operations_max=8)) as (ledger, _):
        proxy.lose_answers(5)
        receipts = await asyncio.gather(
            *(ledger.deduct(Deduct(account=("ana", "bia")[i % 2], amount=1)) for i in range(80))
        )
        assert 5 == proxy.lost
        assert 80 == len({receipt.transaction for receipt in receipts})
        assert (60, 60) == (await available(ledger, "ana"), await available(ledger, "bia"))
    await check_keys(redis)


async def test_nobody_gets_the_answer_of_somebody_who_has_stopped_waiting(proxy):
    async with behind(proxy) as (ledger, _):
        proxy.lose_answers(1, cut=False)
        first = asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=1)))
        second = asyncio.create_task(ledger.deduct(Deduct(account="bia", amount=2)))
        await proxy.until_lost(1)
        first.cancel()
        receipt = await second
        assert ("bia", 2, 98) == (receipt.entry.account, receipt.entry.amount, receipt.account.available)
        assert (99, 98) == (await available(ledger, "ana"), await available(ledger, "bia"))


async def test_nobody_gets_the_answer_of_somebody_whose_time_ran_out(proxy):
    async with behind(proxy) as (ledger, _):
        proxy.lose_answers(1, cut=False)
        first = asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=1)))
        second = asyncio.create_task(ledger.deduct(Deduct(account="bia", amount=2)))
        await asyncio.sleep(0)
        ticket = ledger._batcher._only.waiting[0]
        await proxy.until_lost(1)
        ticket.deadline = 0.0
        with pytest.raises(LedgerUnavailable):
            await first
        receipt = await second
        assert ("bia", 2, 98) == (receipt.entry.account, receipt.entry.amount, receipt.account.available)
        assert (99, 98) == (await available(ledger, "ana"), await available(ledger, "bia"))


async def test_a_key_answers_for_a_request_that_was_given_up(proxy):
    async with behind(proxy, answer_seconds=0.1, limits=Limits(request_seconds=0.2)) as (ledger, _):
        proxy.lose_answers(1000, cut=False)
        asked = Deduct(account="ana", amount=5, key="k", fingerprint="f" * 16)
        with pytest.raises(LedgerUnavailable):
            await ledger.deduct(asked)
        proxy.lose_answers(0)
        again = await ledger.deduct(asked)
        assert (True, 95) == (again.replayed, again.account.available)


async def test_scripts_that_are_flushed_in_between_are_taught_again(proxy, redis):
    async with behind(proxy) as (ledger, _):
        await redis.script_flush()
        assert 95 == (await ledger.deduct(Deduct(account="ana", amount=5))).account.available
        proxy.lose_answers(1)
        proxy.hold_back()
        asked = asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=5)))
        await asyncio.sleep(0)
        await redis.script_flush()
        proxy.let_through()
        assert 90 == (await asked).account.available


class Warnings(logging.Handler):
    """Hears what the carrier warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._count = 0
        self._heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self._count += 1
        self._heard.set()

    async def until(self, count: int) -> None:
        """Wait until there were so many."""
        while self._count < count:
            self._heard.clear()
            await self._heard.wait()


@pytest.fixture
def warnings():
    warnings = Warnings()
    logging.getLogger("app.ledger.carrier").addHandler(warnings)
    yield warnings
    logging.getLogger("app.ledger.carrier").removeHandler(warnings)


async def test_a_redis_that_refuses_connections_for_a_while_is_waited_for(proxy, warnings):
    async with behind(proxy) as (ledger, _):
        await proxy.go_down()
        asked = asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=5)))
        await warnings.until(3)
        await proxy.come_up()
        assert 95 == (await asked).account.available


async def test_a_redis_that_does_not_come_back_in_time_is_told_so(proxy):
    async with behind(proxy, limits=Limits(request_seconds=0.1)) as (ledger, _):
        await proxy.go_down()
        with pytest.raises(LedgerUnavailable):
            await ledger.deduct(Deduct(account="ana", amount=5))
        await proxy.come_up()
        assert 100 == await available(ledger, "ana")


async def test_a_copy_that_arrives_after_its_sender_has_gone_on_is_refused(proxy, redis):
    """The requests wait until the sender has given up, and one arrives once more later."""
    async with behind(proxy, answer_seconds=0.1, limits=Limits(request_seconds=0.25)) as (ledger, journal):
        proxy.hold_back()
        with pytest.raises(LedgerUnavailable):
            await ledger.deduct(Deduct(account="ana", amount=5))
        before = len(proxy.requests)
        proxy.let_through()
        await proxy.until_calls(before + 1)
        assert await available(ledger, "ana") in {95, 100}
        late = proxy.requests[before]
        async with connect(proxy.url) as stranger:
            await stranger.ping()
            connection = stranger.connection
            await connection.send_packed_command([late])
            answer = await connection.read_response()
        assert b'"stale"' in answer.split(b",")[0]
        entries = [each for shard in range(4) for each in await journal.entries(shard)]
        assert 1 >= sum(each.entry.kind == "deducted" for each in entries)
        assert await available(ledger, "ana") in {95, 100}
    await check_keys(redis)


async def test_cancelling_a_reservation_whose_answer_was_lost_cancels_it_once(proxy, redis):
    async with behind(proxy) as (ledger, journal):
        reserved = await ledger.reserve(
            Reserve(account="ana", reservation=await ledger.new_reservation_id("ana"), amount=60)
        )
        proxy.lose_answers(2)
        receipt = await ledger.cancel(Cancel(reservation=reserved.reservation.id))
        assert (100, 0, False) == (receipt.account.available, receipt.account.held, receipt.replayed)
        shard = ledger.terms and receipt.shard
        assert 1 == sum(each.entry.kind == "cancelled" for each in await journal.entries(shard))
        assert str(receipt.sequence).encode() == await redis.hget(keys.meta(shard), "sequence")
    await check_keys(redis)

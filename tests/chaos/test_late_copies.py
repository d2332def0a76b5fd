"""A copy of a call that arrives late, from a socket that its sender has long closed, moves nothing.

The interleavings are real: the copy has left the batcher, has not reached the server, and gets there later.
"""

import asyncio
import os
import signal

import pytest

from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant
from tests.chaos.proxy import Proxy
from tests.engine import Clock, engine, script_with_clock
from tests.lua.invariants import check_keys

SOON = Limits(request_seconds=0.4)


@pytest.fixture
async def clock(redis) -> Clock:
    clock = Clock(redis)
    await clock.advance(0)
    return clock


@pytest.fixture
async def ledger(proxy, clock):
    """100 credits for ana, behind the wire."""
    async with (
        connect(proxy.url, answer_seconds=0.15) as client,
        engine(client, limits=SOON, script=script_with_clock()) as (ledger, _),
    ):
        await ledger.grant(Grant(account="ana", amount=100))
        yield ledger


async def available(ledger: Ledger) -> int:
    return (await ledger.balance("ana")).account.available


async def status_of_late_copies(proxy: Proxy, count: int) -> list[bytes]:
    """Let the kept calls reach the server, and how it answers them."""
    answered = len(proxy.answers)
    proxy.deliver_kept()
    await proxy.until_answers(answered + count)
    return [answer.split(b'"')[1] for answer in proxy.answers[answered:]]


async def test_a_copy_that_arrives_after_the_repetition_is_answered_with_the_same_reply(proxy, redis, ledger):
    proxy.keep_calls(1)
    assert 95 == (await ledger.deduct(Deduct(account="ana", amount=5))).account.available
    assert 1 == proxy.kept
    assert [b"ok"] == await status_of_late_copies(proxy, 1)
    assert 95 == await available(ledger)
    await check_keys(redis)


async def test_a_copy_that_arrives_after_the_next_call_is_stale(proxy, redis, ledger):
    proxy.keep_calls(1)
    await ledger.deduct(Deduct(account="ana", amount=5))
    await ledger.deduct(Deduct(account="ana", amount=5))
    assert [b"stale"] == await status_of_late_copies(proxy, 1)
    assert 90 == await available(ledger)
    await check_keys(redis)


async def test_a_call_that_was_given_up_and_overtaken_is_stale_and_never_charges(proxy, redis, ledger):
    """All its copies stood still while its sender gave up and went on."""
    proxy.keep_calls(1000)
    with pytest.raises(LedgerUnavailable):
        await ledger.deduct(Deduct(account="ana", amount=5))
    copies = proxy.kept
    proxy._holding = 0
    assert 100 == await available(ledger)
    assert [b"stale"] * copies == await status_of_late_copies(proxy, copies)
    assert 100 == await available(ledger)
    await check_keys(redis)


async def test_a_call_that_was_given_up_and_not_overtaken_charges_once_however_many_copies_there_are(
    proxy, redis, ledger
):
    """Its request was answered 503: it may have been applied. With its key it is answered for."""
    proxy.keep_calls(1000)
    asked = Deduct(account="ana", amount=5, key="k", fingerprint="f" * 16)
    with pytest.raises(LedgerUnavailable):
        await ledger.deduct(asked)
    assert proxy.kept > 1
    assert {b"ok"} == set(await status_of_late_copies(proxy, proxy.kept))
    again = await ledger.deduct(asked)
    assert (True, 95) == (again.replayed, again.account.available)
    await check_keys(redis)


async def test_a_copy_that_outlives_its_lane_is_too_late(proxy, redis, ledger, clock):
    proxy.keep_calls(1000)
    with pytest.raises(LedgerUnavailable):
        await ledger.deduct(Deduct(account="ana", amount=5))
    copies = proxy.kept
    proxy._holding = 0
    await clock.advance(600_001)
    await redis.delete(*await redis.keys("lastro:*:lane:*"))
    assert [b"too_late"] * copies == await status_of_late_copies(proxy, copies)
    assert 100 == await available(ledger)
    await check_keys(redis)


async def test_a_batcher_whose_clock_is_behind_learns_the_time_and_goes_on(ledger, clock):
    await clock.advance(3_600_000)
    assert 95 == (await ledger.deduct(Deduct(account="ana", amount=5))).account.available


async def test_a_batcher_whose_lane_was_taken_says_so_and_takes_another(redis, ledger):
    lane = ledger._batcher._only._carrier._lane
    await redis.hset(lane, mapping={"number": 1_000_000, "reply": '["ok",0,"",[],[],[]]'})
    with pytest.raises(LedgerUnavailable, match="overtaken"):
        await ledger.deduct(Deduct(account="ana", amount=5))
    assert 95 == (await ledger.deduct(Deduct(account="ana", amount=5))).account.available


async def test_a_server_that_stood_still_until_its_callers_gave_up_has_charged_at_most_once(own_valkey):
    async with (
        connect(own_valkey.url, answer_seconds=0.1) as client,
        engine(client, limits=Limits(request_seconds=0.3)) as (ledger, journal),
    ):
        await ledger.grant(Grant(account="ana", amount=100))
        asked = [Deduct(account="ana", amount=1, key=f"k{i}", fingerprint="f" * 16) for i in range(5)]
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            given_up = await asyncio.gather(*map(ledger.deduct, asked), return_exceptions=True)
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)
        assert all(isinstance(each, LedgerUnavailable) for each in given_up)
        assert await available(ledger) in {100, 95}
        await asyncio.gather(*map(ledger.deduct, asked))
        assert 95 == await available(ledger)
        entries = [each.entry for shard in range(4) for each in await journal.entries(shard)]
        assert 5 == sum(each.kind == "deducted" for each in entries)
        await check_keys(client)

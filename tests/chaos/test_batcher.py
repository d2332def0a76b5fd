"""The batcher among many who ask at once: bounded, in order, and with an answer for everybody."""

import asyncio

import pytest

from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import InsufficientCredits, InternalError, LedgerUnavailable, Overloaded
from app.ledger.operations import Deduct, Grant
from app.ledger.receipts import Receipt
from app.ledger.shards import shard_of
from tests.engine import engine
from tests.lua.invariants import check_keys


async def test_more_than_may_wait_are_turned_away_and_nothing_of_theirs_is_sent(fake_redis):
    async with engine(fake_redis, limits=Limits(queue_max=20)) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=100))
        answers = await asyncio.gather(
            *(ledger.deduct(Deduct(account="ana", amount=1)) for _ in range(50)), return_exceptions=True
        )
        assert 20 == sum(isinstance(each, Receipt) for each in answers)
        assert 30 == sum(isinstance(each, Overloaded) for each in answers)
        assert 80 == (await ledger.balance("ana")).account.available


async def test_everybody_who_asks_at_once_gets_an_answer_of_their_own(fake_redis):
    async with engine(fake_redis, limits=Limits(batch_operations_max=7)) as (ledger, _):
        await asyncio.gather(*(ledger.grant(Grant(account=f"a{i}", amount=1000)) for i in range(20)))
        receipts = await asyncio.gather(
            *(ledger.deduct(Deduct(account=f"a{i % 20}", amount=i + 1)) for i in range(100))
        )
        assert [(f"a{i % 20}", i + 1) for i in range(100)] == [
            (each.entry.account, each.entry.amount) for each in receipts
        ]
    await check_keys(fake_redis)


async def test_what_one_account_asks_is_done_in_the_order_in_which_it_was_asked(fake_redis):
    async with engine(fake_redis, limits=Limits(batch_operations_max=3)) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=100))
        receipts = await asyncio.gather(*(ledger.deduct(Deduct(account="ana", amount=1)) for _ in range(20)))
        assert [*range(2, 22)] == [each.entry.version for each in receipts]


async def test_the_order_is_kept_when_a_call_that_fails_is_split(fake_redis):
    async with engine(fake_redis) as (ledger, _):
        bad = next(each for each in (f"b{i}" for i in range(99)) if shard_of(each, 4) != shard_of("ana", 4))
        await ledger.grant(Grant(account="ana", amount=100))
        await ledger.grant(Grant(account=bad, amount=100))
        await fake_redis.set(keys.due(shard_of(bad, 4)), "planted")
        asked = [Deduct(account=bad if i % 7 == 3 else "ana", amount=1) for i in range(30)]
        answers = await asyncio.gather(*map(ledger.deduct, asked), return_exceptions=True)
        assert [type(each) for each in answers] == [
            InternalError if each.account == bad else Receipt for each in asked
        ]
        versions = [each.entry.version for each in answers if isinstance(each, Receipt)]
        assert [*range(2, len(versions) + 2)] == versions


async def test_those_who_stop_waiting_do_not_hurt_the_others(fake_redis):
    async with engine(fake_redis) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=100))
        tasks = [asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=1))) for _ in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [Receipt] * 15 == [type(each) for each in answers[1::2]]
        assert [asyncio.CancelledError] * 15 == [type(each) for each in answers[::2]]
        assert 85 == (await ledger.balance("ana")).account.available


async def test_stopping_finishes_what_is_waiting(fake_redis):
    async with engine(fake_redis, limits=Limits(batch_operations_max=2)) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=100))
        tasks = [asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=1))) for _ in range(30)]
        await asyncio.sleep(0)
        await ledger.stop()
        assert [Receipt] * 30 == [type(each) for each in await asyncio.gather(*tasks)]
        with pytest.raises(LedgerUnavailable, match="stopping"):
            await ledger.deduct(Deduct(account="ana", amount=1))


async def test_stopping_answers_everybody_also_when_redis_does_not(proxy):
    limits = Limits(request_seconds=0.3, batch_operations_max=3)
    async with connect(proxy.url, answer_seconds=5.0) as client, engine(client, limits=limits) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=100))
        proxy.lose_answers(1000, cut=False)
        tasks = [asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=1))) for _ in range(9)]
        await proxy.until_lost(1)
        async with asyncio.timeout(5):
            await ledger.stop()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [LedgerUnavailable] * 9 == [type(each) for each in answers]


async def test_reads_and_writes_of_one_moment_travel_together(proxy):
    async with connect(proxy.url) as client, engine(client) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=10))
        before = proxy.calls
        answers = await asyncio.gather(
            ledger.deduct(Deduct(account="ana", amount=3)),
            ledger.balance("ana"),
            ledger.deduct(Deduct(account="ana", amount=8)),
            ledger.grant(Grant(account="ana", amount=1)),
            return_exceptions=True,
        )
        assert 1 == proxy.calls - before
        assert isinstance(answers[2], InsufficientCredits)
        assert [8, 8, 8] == [answers[i].account.available for i in (0, 1, 3)]


async def test_a_batcher_that_met_an_error_of_its_own_says_so_and_goes_on(fake_redis, monkeypatch):
    async with engine(fake_redis) as (ledger, _):
        await ledger.grant(Grant(account="ana", amount=10))
        with monkeypatch.context() as broken:
            broken.setattr("app.ledger.carrier.replies.decode", lambda _: 1 / 0)
            with pytest.raises(LedgerUnavailable):
                await ledger.balance("ana")
        assert 10 == (await ledger.balance("ana")).account.available

"""What the project began with (seeds 000 and 004): jobs at the same instant, and frontend against webhook."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis

from app.ledger.connection import connect
from app.ledger.errors import (
    InsufficientCredits,
    LedgerError,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
)
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Confirm, Deduct, Grant, Reserve
from app.ledger.receipts import Receipt
from app.ledger.shards import shard_of
from tests.engine import Clock, Streams, engine, script_with_clock
from tests.lua.invariants import check_keys

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def clock(any_redis) -> Clock:
    clock = Clock(any_redis)
    await clock.advance(0)
    return clock


@pytest.fixture
async def running(any_redis, clock) -> AsyncIterator[tuple[Ledger, Streams]]:
    async with engine(any_redis, script=script_with_clock()) as (ledger, journal):
        await ledger.grant(Grant(account="ana", amount=100))
        yield ledger, journal


@pytest.fixture
def ledger(running) -> Ledger:
    return running[0]


@pytest.fixture
async def two_ledgers(running, any_redis) -> AsyncIterator[list[Ledger]]:
    """Two processes' worth of ledgers on one Redis, each with a connection and a lane of its own."""
    _, journal = running
    ledgers = []
    async with AsyncExitStack() as stack:
        for _ in range(2):
            if isinstance(any_redis, FakeAsyncRedis):
                client = FakeAsyncRedis(connection_pool=any_redis.connection_pool)
            else:
                settings = any_redis.connection_pool.connection_kwargs
                url = f"redis://:{settings['password']}@127.0.0.1:{settings['port']}/0"
                client = await stack.enter_async_context(connect(url))
            each = Ledger(client, journal, None, script_with_clock())
            await each.start()
            stack.push_async_callback(each.stop)
            ledgers.append(each)
        yield ledgers


async def at_once(*acts) -> list[Receipt | BaseException]:
    return await asyncio.gather(*acts, return_exceptions=True)


async def available(ledger: Ledger) -> int:
    return (await ledger.balance("ana")).account.available


async def reserved(ledger: Ledger, amount: int = 60, ttl_ms: int = 60_000) -> str:
    id_ = await ledger.new_reservation_id("ana")
    await ledger.reserve(Reserve(account="ana", reservation=id_, amount=amount, ttl_ms=ttl_ms))
    return id_


async def test_three_jobs_at_the_same_instant_leave_23_of_100(ledger, any_redis):
    await at_once(*(ledger.deduct(Deduct(account="ana", amount=amount)) for amount in (51, 13, 13)))
    assert 23 == await available(ledger)
    await check_keys(any_redis)


async def test_three_jobs_from_several_ledgers_leave_23_of_100(two_ledgers, any_redis):
    first, second = two_ledgers
    await at_once(
        first.deduct(Deduct(account="ana", amount=51)),
        second.deduct(Deduct(account="ana", amount=13)),
        first.deduct(Deduct(account="ana", amount=13)),
    )
    assert [23, 23] == [await available(each) for each in two_ledgers]
    await check_keys(any_redis)


async def test_of_twenty_jobs_of_13_exactly_seven_pass(two_ledgers, any_redis):
    answers = await at_once(*(two_ledgers[i % 2].deduct(Deduct(account="ana", amount=13)) for i in range(20)))
    assert 7 == sum(isinstance(each, Receipt) for each in answers)
    assert 13 == sum(isinstance(each, InsufficientCredits) for each in answers)
    assert 9 == await available(two_ledgers[0])
    await check_keys(any_redis)


async def test_of_twenty_reservations_of_13_exactly_seven_are_made(two_ledgers, any_redis):
    ids = [await two_ledgers[0].new_reservation_id("ana") for _ in range(20)]
    answers = await at_once(
        *(
            two_ledgers[i % 2].reserve(Reserve(account="ana", reservation=id_, amount=13))
            for i, id_ in enumerate(ids)
        )
    )
    assert 7 == sum(isinstance(each, Receipt) for each in answers)
    assert (9, 91) == ((account := (await two_ledgers[0].balance("ana")).account).available, account.held)
    await check_keys(any_redis)


async def test_ten_confirms_at_once_charge_once_and_get_the_same_transaction(two_ledgers, any_redis):
    """From the frontend and from the webhook, five each."""
    id_ = await reserved(two_ledgers[0])
    answers = await at_once(*(two_ledgers[i % 2].confirm(Confirm(reservation=id_)) for i in range(10)))
    assert {("confirmed", 60)} == {(each.reservation.status, each.reservation.captured) for each in answers}
    assert 1 == len({each.transaction for each in answers})
    assert 9 == sum(each.replayed for each in answers)
    assert 40 == await available(two_ledgers[0])
    await check_keys(any_redis)


async def test_a_confirm_against_a_cancel_has_one_winner_and_the_loser_is_told(two_ledgers, any_redis):
    spent = 0
    for _ in range(10):
        id_ = await reserved(two_ledgers[0], 5)
        confirm, cancel = (
            two_ledgers[0].confirm(Confirm(reservation=id_)),
            two_ledgers[1].cancel(Cancel(reservation=id_)),
        )
        confirmed, cancelled = await at_once(confirm, cancel)
        if isinstance(confirmed, Receipt):
            spent += 5
            assert isinstance(cancelled, ReservationConfirmed)
            assert confirmed.reservation.settled_at_ms == cancelled.facts["at_ms"]
        else:
            assert isinstance(confirmed, ReservationCancelled)
            assert "requested" == confirmed.facts["cause"]
            assert isinstance(cancelled, Receipt)
    assert 100 - spent == await available(two_ledgers[0])
    await check_keys(any_redis)


async def test_a_clean_up_that_runs_against_confirms_never_cancels_one_that_is_in_time(
    two_ledgers, any_redis, clock
):
    ids = [await reserved(two_ledgers[0], 1, 1000 + i) for i in range(30)]
    await clock.advance(1009)  # ten are late, twenty are in time
    shard = shard_of("ana", 4)
    answers = await at_once(
        *(
            act
            for i, id_ in enumerate(ids)
            for act in (
                two_ledgers[0].pass_time(shard),
                two_ledgers[(i + 1) % 2].confirm(Confirm(reservation=id_)),
                two_ledgers[1].pass_time(shard),
            )
        )
    )
    confirms = answers[1::3]
    assert [ReservationExpired] * 10 == [type(each) for each in confirms[:10]]
    assert [Receipt] * 20 == [type(each) for each in confirms[10:]]
    assert 80 == await available(two_ledgers[0])
    await check_keys(any_redis)


async def test_an_expired_reservation_is_released_without_a_sweeper_and_reads_as_cancelled_and_expired(
    ledger, any_redis, clock
):
    id_ = await reserved(ledger, 60, 1000)
    await clock.advance(1000)
    shown = await ledger.find(id_)
    assert ("cancelled", "expired", 0, 60) == (shown.status, shown.cancel_cause, shown.held, shown.released)
    holdings = await ledger.balance("ana", reservations=True)
    assert (100, 0, []) == (holdings.account.available, holdings.account.held, holdings.reservations)
    await check_keys(any_redis)


async def test_a_job_is_confirmed_by_the_task_that_the_webhook_knows(ledger, any_redis):
    id_ = await ledger.new_reservation_id("ana")
    await ledger.reserve(Reserve(account="ana", reservation=id_, amount=60, task="task-1", provider="fal"))
    receipt = await ledger.confirm(Confirm(reservation=await ledger.locate("fal", "task-1")))
    assert (id_, "task-1", "fal") == (receipt.reservation.id, receipt.entry.task, receipt.entry.provider)
    await check_keys(any_redis)


async def test_a_thousand_holds_that_are_due_end_before_the_first_operation_is_answered(ledger, clock):
    ids = [await ledger.new_reservation_id("ana") for _ in range(100)]
    await ledger.grant(Grant(account="ana", amount=900))
    for _ in range(3):
        ids = [await ledger.new_reservation_id("ana") for _ in range(100)]
        await at_once(
            *(ledger.reserve(Reserve(account="ana", reservation=id_, amount=1, ttl_ms=1000)) for id_ in ids)
        )
    await clock.advance(1000)
    assert 0 == (await ledger.deduct(Deduct(account="ana", amount=1000))).account.available


async def test_the_open_reservations_of_an_account_come_by_deadline_with_its_balance(ledger):
    ids = [await reserved(ledger, 1, ttl_ms) for ttl_ms in (3000, 1000, 2000)]
    holdings = await ledger.balance("ana", reservations=True)
    assert [ids[1], ids[2], ids[0]] == [each.id for each in holdings.reservations]
    assert (97, 3, 3) == (holdings.account.available, holdings.account.held, holdings.account.open_holds)


async def test_jobs_of_several_processes_spend_what_there_is_and_no_more(real_redis, redis_url):
    async with engine(real_redis) as (ledger, journal):
        await ledger.grant(Grant(account="ana", amount=100))
        asked = {
            "url": redis_url,
            "ledger": journal.terms.ledger,
            "server": journal.terms.server,
            "shards": 4,
            "account": "ana",
            "amounts": [13] * 10,
        }
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.lua.spender", cwd=ROOT,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(3)
        ]  # fmt: skip
        for process in processes:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
        for process in processes:
            assert b"ready\n" == await process.stdout.readline()
        for process in processes:
            process.stdin.write(b"go\n")
        words = [word for process in processes for word in json.loads(await process.stdout.readline())]
        for process in processes:
            process.stdin.close()
            assert 0 == await process.wait()
        assert (7, 23) == (words.count("ok"), words.count("insufficient_credits"))
        assert 9 == await available(ledger)
        await check_keys(real_redis)


async def test_a_refusal_is_an_error_of_its_word_with_its_facts(ledger):
    with pytest.raises(InsufficientCredits) as told:
        await ledger.deduct(Deduct(account="ana", amount=101))
    assert {"required": 101, "available": 100, "held": 0} == told.value.facts
    assert isinstance(told.value, LedgerError)

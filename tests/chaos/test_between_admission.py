"""Several processes, two stores, and what changes under them: what is damaged refuses, the rest goes on."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.errors import LedgerFenced, LedgerUnavailable, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant, Reserve
from app.ledger.shards import shard_of
from persistence.birth import give_birth
from persistence.drain import drain
from tests.integration.books import assert_equal
from tests.integration.ledgers import ACCOUNTS, SHARDS, deduct, process
from tests.integration.streams import replace_server


@pytest.fixture
async def ledger(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        for name in ACCOUNTS.values():
            await ledger.grant(Grant(account=name, amount=100))
        yield ledger


def task_of(shard: int) -> str:
    return next(f"task-{n}" for n in range(100) if shard_of(f":task-{n}", SHARDS) == shard)


async def test_a_shard_without_meta_refuses_alone_though_everybody_keeps_asking_it(ledger, redis):
    await redis.delete(keys.meta(1))
    with pytest.raises(LedgerFenced, match="nothing of shard 1"):
        await deduct(ledger, 1)
    for _ in range(3):
        answers = await asyncio.gather(
            *(deduct(ledger, shard) for shard in [1, 0, 1, 2, 1, 3]), return_exceptions=True
        )
        assert [type(each) for each in answers] == [LedgerFenced, int] * 3


async def test_a_task_kept_in_a_shard_without_meta_takes_nobody_along(ledger, redis):
    await redis.delete(keys.meta(1))
    with pytest.raises(LedgerFenced):
        await deduct(ledger, 1)

    async def reserve():
        made = await ledger.new_reservation_id(ACCOUNTS[0])
        return await ledger.reserve(Reserve(account=ACCOUNTS[0], reservation=made, amount=1, task=task_of(1)))

    answers = await asyncio.gather(deduct(ledger, 0), reserve(), deduct(ledger, 2), return_exceptions=True)
    assert [type(each) for each in answers] == [int, LedgerFenced, int]


@pytest.mark.parametrize("trouble", ["memory", "replicas", "key"])
async def test_a_redis_that_cannot_be_admitted_because_it_takes_no_writes_is_unavailable(
    database, database_url, own_valkey, trouble
):
    """To the first request ever, and to one that meets another server: never a bug, always 503."""
    await give_birth(database_url, own_valkey.url, SHARDS)
    troubles = {
        "memory": lambda redis: redis.config_set("maxmemory", "1"),
        "replicas": lambda redis: redis.config_set("min-replicas-to-write", "1"),
        "key": lambda redis: redis.set(keys.LEDGER, "overwritten"),
    }
    async with connect(own_valkey.url) as redis, process(database, own_valkey.url) as ledger:
        await troubles[trouble](redis)
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                await ledger.grant(Grant(account="ana", amount=1))
    async with process(database, own_valkey.url) as ledger:
        ledger._count = SHARDS  # as if it had served before
        with pytest.raises(LedgerUnavailable):
            await ledger.grant(Grant(account="ana", amount=1))


async def test_what_was_never_sent_because_redis_was_away_is_carried_out_when_it_is_back(
    database, database_url, own_valkey, caplog
):
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with process(database, own_valkey.url, seconds=10.0) as ledger:
        await ledger.grant(Grant(account="ana", amount=100))
        own_valkey.kill()
        ledger.dismiss("it went away")
        asked = asyncio.create_task(ledger.deduct(Deduct(account="ana", amount=1)))
        async with asyncio.timeout(5):
            await _said(caplog, "redis did not answer")
        own_valkey.start()
        assert (await asked).account.available == 99


async def test_many_processes_meet_a_server_that_keeps_becoming_another_and_nothing_moves_twice(
    database, database_url, ledger, redis, redis_url
):
    applied, refused, stop = [0], [0], asyncio.Event()

    async def customer(of: Ledger, shard: int) -> None:
        while not stop.is_set():
            try:
                await of.grant(Grant(account=ACCOUNTS[shard], amount=1))
                applied[0] += 1
            except Unavailable:
                refused[0] += 1

    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(process(database, redis_url)) for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            for each in (ledger, *others):
                for shard in range(SHARDS):
                    group.create_task(customer(each, shard))
            for _ in range(10):
                await _more(applied)
                await replace_server(redis)
            await _more(applied)
            stop.set()
        balances = [await _available(ledger, name) for name in ACCOUNTS.values()]
    assert sum(balances) == 100 * SHARDS + applied[0]
    while (drained := await drain(database_url, redis_url, 0.5, keep=None)).rows:
        assert drained.condemned == []
    assert await assert_equal(database, redis) == SHARDS + applied[0]


async def _available(ledger: Ledger, account: str) -> int:
    """What it has, asked until the ledger has found out that the server is no replica any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                return (await ledger.balance(account)).account.available
            except Unavailable:
                await asyncio.sleep(0.05)


async def _more(applied: list[int]) -> None:
    before = applied[0]
    async with asyncio.timeout(10):
        while True:
            if applied[0] > before + 20:
                return
            await asyncio.sleep(0.005)


async def _said(caplog, what: str) -> None:
    while True:
        if what in caplog.text:
            return
        await asyncio.sleep(0.01)


async def test_a_task_is_not_bound_by_what_a_fenced_shard_says_about_it(ledger, redis):
    """The shard of the task may have gone back, and know nothing of a reservation that has the task."""
    await redis.hset(keys.meta(1), "fence", "it went back")
    for number in (0, 2):
        made = await ledger.new_reservation_id(ACCOUNTS[number])
        with pytest.raises(LedgerFenced, match="went back"):
            await ledger.reserve(
                Reserve(account=ACCOUNTS[number], reservation=made, amount=1, task=task_of(1))
            )
    assert (await ledger.balance(ACCOUNTS[0])).account.held == 0

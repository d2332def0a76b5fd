"""Stores and workers are killed under load: what was acknowledged is journaled once, in one history."""

import asyncio
import os
import random
import signal
from functools import partial

import asyncpg
import pytest

from app.ledger import keys
from app.ledger.backing import BackingUnavailable, Terms
from app.ledger.connection import connect
from app.ledger.errors import Refused, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Confirm, Deduct, Grant, Reserve
from app.ledger.receipts import Receipt
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.pool import open_pool
from persistence.told import Work
from tests.chaos.test_workers_killed import ACCOUNTS
from tests.integration.books import assert_equal
from tests.integration.streams import Caller, replace_server
from tests.processes import CRON, WORKER, argument, children

SHARDS = 4


class Customers:
    """Ask for whatever a shop would, through every outage, and keep each receipt."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.stop = asyncio.Event()
        self.receipts: list[Receipt] = []
        self.unavailable = 0

    async def shop(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self.stop.is_set():
            account = chance.choice(ACCOUNTS)
            try:
                await self._buy(account, chance)
            except Unavailable:
                self.unavailable += 1
                await asyncio.sleep(0.01)
            except Refused:
                await self._refill(account)

    async def _refill(self, account: str) -> None:
        try:
            self.receipts.append(await self.ledger.grant(Grant(account=account, amount=1000)))
        except Unavailable:
            self.unavailable += 1

    async def _buy(self, account: str, chance: random.Random) -> None:
        ledger, amount = self.ledger, chance.randint(1, 60)
        if chance.random() < 0.3:
            self.receipts.append(await ledger.deduct(Deduct(account=account, amount=amount)))
            return
        made = await ledger.new_reservation_id(account)
        ttl_ms = chance.choice((20, 600_000))
        self.receipts.append(
            await ledger.reserve(Reserve(account=account, amount=amount, reservation=made, ttl_ms=ttl_ms))
        )
        settle = chance.choice((Confirm, Cancel, None))
        if settle is Confirm:
            self.receipts.append(await ledger.confirm(Confirm(reservation=made)))
        elif settle is Cancel:
            self.receipts.append(await ledger.cancel(Cancel(reservation=made)))


def kill_postgres(valkey, postgres, workers) -> None:
    postgres.restart()


def kill_valkey(valkey, postgres, workers) -> None:
    valkey.restart()


def kill_both(valkey, postgres, workers) -> None:
    valkey.kill()
    postgres.kill()
    valkey.start()
    postgres.start()


async def _stop_a_worker_for_longer_than_its_lock(database, worker) -> None:
    """It is stopped, its sessions end, others take over, and it goes on where it was."""
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        await database.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE application_name = 'lastro journal'"
        )
        await _grown(database)
    finally:
        os.kill(worker.pid, signal.SIGCONT)


async def _grown(database) -> None:
    async with asyncio.timeout(30):
        before = None
        while True:
            try:
                now = await database.fetchval("SELECT sum(cursor) FROM shards")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                now = None
            before = now if before is None else before
            if now is not None and now > before:
                return
            await asyncio.sleep(0.05)


async def _drained(redis) -> None:
    async with asyncio.timeout(30):
        while True:
            metas = [await redis.hmget(keys.meta(shard), "sequence", "journaled") for shard in range(SHARDS)]
            if all(sequence == journaled for sequence, journaled in metas):
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("trouble", [kill_postgres, kill_valkey, kill_both, None])
async def test_stores_killed_under_load_lose_nothing_acknowledged_and_keep_one_history(
    own_valkey, own_postgres, nightly, trouble
):
    await give_birth(own_postgres.url, own_valkey.url, SHARDS)
    work = Work(redis_url=own_valkey.url, queue_url=own_valkey.url, database_url=own_postgres.url)
    database = await open_pool(own_postgres.url)
    with children() as start:
        start(CRON, own_valkey.url)
        workers = [start(WORKER, argument(work)) for _ in range(2)]
        async with connect(own_valkey.url) as redis, connect(own_valkey.url) as aside:
            ledger = Ledger(redis, PostgresBacking(database, partial(admission.admit, database, aside)))
            await ledger.start()
            customers = Customers(ledger)
            async with asyncio.TaskGroup() as group:
                for seed in range(8):
                    group.create_task(customers.shop(seed))
                for turn in range(10 if nightly else 3):
                    await _grown(database)
                    if trouble is None:
                        await _stop_a_worker_for_longer_than_its_lock(database, workers[turn % 2])
                    else:
                        trouble(own_valkey, own_postgres, workers)
                await _grown(database)
                customers.stop.set()
            await asyncio.sleep(0.02)  # nothing that was not settled in time is due later than that
            for shard in range(SHARDS):
                await ledger.pass_time(shard)
            await _drained(aside)
            await ledger.stop()
            rows = await assert_equal(database, aside)
        assert rows >= len(customers.receipts) > 100
        fences = await database.fetch("SELECT fence FROM shards WHERE fence IS NOT NULL")
        assert fences == []
        journal = await database.fetch("SELECT shard, seq, entry FROM journal")
        journaled = {(shard, sequence): entry for shard, sequence, entry in journal}
        for receipt in customers.receipts:
            entry = journaled[receipt.shard, receipt.sequence]
            assert f'"nonce":"{receipt.entry.nonce}"' in entry
            assert f'"incarnation":{receipt.entry.incarnation},' in entry
    await database.close()


DRAIN = """
import asyncio, sys
from persistence.drain import drain
asyncio.run(drain(*sys.argv[1].split(), 60, keep=None))
"""


async def test_a_worker_stopped_in_the_middle_of_a_commit_keeps_neither_admission_nor_others_waiting(
    database, database_url, redis, redis_url
):
    await give_birth(database_url, redis_url, SHARDS)
    caller = Caller(redis, await admission.admit(database, redis))
    with children() as start:
        worker = start(DRAIN, f"{database_url} {redis_url}")
        for _ in range(2):
            await caller.grant(0)
            await _drained(redis)
        async with database.acquire() as other, other.transaction():
            await other.execute("LOCK TABLE lots")
            await caller.grant(0)
            await _waits_for_a_lock(database)
            os.kill(worker.pid, signal.SIGSTOP)
        await replace_server(redis)
        async with asyncio.timeout(20):
            terms = await _admitted(database, redis)
            assert terms.incarnations == [2] * SHARDS
            while (await drain(database_url, redis_url, 0.5, keep=None)).rows == 0:
                assert await database.fetchval("SELECT cursor FROM shards WHERE shard = 0") == 2
    assert await assert_equal(database, redis) == 3


async def _waits_for_a_lock(database) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while True:
            if await database.fetchval(waiting):
                return
            await asyncio.sleep(0.02)


async def _admitted(database, redis) -> Terms:
    while True:
        try:
            return await admission.admit(database, redis)
        except BackingUnavailable:
            continue

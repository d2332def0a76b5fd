"""Workers are killed while credits move. Afterwards the journal has every entry, in order, once."""

import asyncio
import os
import random
import signal
from functools import partial

from app.ledger.errors import Refused
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Confirm, Deduct, Grant, Reserve
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.told import Work
from tests.integration.books import assert_equal
from tests.processes import CRON, WORKER, argument, children

ACCOUNTS = [f"customer-{number}" for number in range(20)]
SHARDS = 4


async def move_credits(ledger: Ledger, seed: int, stop: asyncio.Event) -> int:
    """One customer after another, as a shop would; returns how many operations were applied."""
    chance = random.Random(seed)
    applied = 0
    while not stop.is_set():
        account = chance.choice(ACCOUNTS)
        try:
            if chance.random() < 0.3:
                await ledger.deduct(Deduct(account=account, amount=chance.randint(1, 60)))
                applied += 1
                continue
            reservation = await ledger.new_reservation_id(account)
            ttl_ms = chance.choice((1000, 60_000))
            await ledger.reserve(
                Reserve(account=account, amount=chance.randint(1, 60), reservation=reservation, ttl_ms=ttl_ms)
            )
            applied += 1
            if chance.random() < 0.7:
                await ledger.confirm(Confirm(reservation=reservation))
                applied += 1
            elif chance.random() < 0.7:
                await ledger.cancel(Cancel(reservation=reservation))
                applied += 1
        except Refused:
            await ledger.grant(Grant(account=account, amount=1000))
            applied += 1
    return applied


async def test_workers_killed_under_load_leave_a_journal_that_has_every_entry_once(
    redis, redis_url, database, database_url, nightly
):
    await give_birth(database_url, redis_url, SHARDS)
    ledger = Ledger(redis, PostgresBacking(database, partial(admission.admit, database, redis)))
    work = Work(redis_url=redis_url, queue_url=redis_url, database_url=database_url)
    stop = asyncio.Event()
    await ledger.start()
    try:
        with children() as start:
            start(CRON, redis_url)
            workers = [start(WORKER, argument(work)) for _ in range(2)]
            async with asyncio.TaskGroup() as customers:
                moves = [customers.create_task(move_credits(ledger, seed, stop)) for seed in range(8)]
                for _ in range(25 if nightly else 5):
                    before = await database.fetchval("SELECT sum(cursor) FROM shards")
                    await _grown(database, before)
                    victim = random.randrange(2)
                    os.kill(workers[victim].pid, signal.SIGKILL)
                    workers[victim].wait()
                    workers[victim] = start(WORKER, argument(work))
                stop.set()
            for shard in range(SHARDS):
                await ledger.pass_time(shard)
            await _drained(database, redis)
    finally:
        await ledger.stop()
    assert await assert_equal(database, redis) >= sum(move.result() for move in moves)


async def _grown(database, before: int) -> None:
    async with asyncio.timeout(15):
        while True:
            if await database.fetchval("SELECT sum(cursor) FROM shards") > before:
                return
            await asyncio.sleep(0.05)


async def _drained(database, redis) -> None:
    """Until the journal has what the streams have."""
    async with asyncio.timeout(15):
        while True:
            counted = [
                int(await redis.hget(f"lastro:{{{shard}}}:meta", "sequence")) for shard in range(SHARDS)
            ]
            rows = await database.fetch("SELECT cursor FROM shards ORDER BY shard")
            if counted == [row["cursor"] for row in rows]:
                return
            await asyncio.sleep(0.05)

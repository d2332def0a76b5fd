"""Ledgers as processes of the API have them, an account in each shard, and a worker that journals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg

from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct
from app.ledger.shards import shard_of
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.drain import drain

SHARDS = 4
ACCOUNTS = {shard_of(name, SHARDS): name for name in (f"account-{number}" for number in range(50))}
"""One account for each shard."""


@asynccontextmanager
async def process(database: asyncpg.Pool, redis_url: str, seconds: float = 2.0) -> AsyncIterator[Ledger]:
    """A ledger with two connections, and PostgreSQL's admission."""
    async with connect(redis_url) as redis, connect(redis_url) as aside:
        backing = PostgresBacking(database, partial(admission.admit, database, aside))
        ledger = Ledger(redis, backing, Limits(request_seconds=seconds))
        await ledger.start()
        try:
            yield ledger
        finally:
            await ledger.stop()


@asynccontextmanager
async def watching(database: asyncpg.Pool, ledger: Ledger) -> AsyncIterator[None]:
    """What brings a process new terms, as the API does it but more often."""
    watcher = asyncio.create_task(
        admission.watch(database, lambda: ledger.terms, ledger.adopt, interval_seconds=0.05)
    )
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


@asynccontextmanager
async def watchful_process(database: asyncpg.Pool, redis_url: str) -> AsyncIterator[Ledger]:
    """A process that looks at PostgreSQL all the time."""
    async with process(database, redis_url) as ledger, watching(database, ledger):
        yield ledger


async def deduct(ledger: Ledger, shard: int) -> int:
    """Spend one credit in a shard; what is available afterwards."""
    return (await ledger.deduct(Deduct(account=ACCOUNTS[shard], amount=1))).account.available


CURSORS = "SELECT shard, cursor FROM shards WHERE fence IS NULL"


async def journal_all(database_url: str, redis_url: str) -> None:
    """Until PostgreSQL has everything of the shards that are not fenced, however slow the machine is."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connect(redis_url) as redis:
            while (await drain(database_url, redis_url, 0.15, keep=None)).rows or [
                shard
                for shard, cursor in await connection.fetch(CURSORS)
                if int(await redis.hget(keys.meta(shard), "sequence") or 0) > cursor
            ]:
                pass
    finally:
        await connection.close()

"""Brings what the streams of a ledger have into PostgreSQL, as a worker does, and takes the time."""

import asyncio
import contextlib
import time

from persistence.drain import drain
from tests.bench.bed import fetch

PATIENCE_SECONDS = 120.0

JOURNALED = "SELECT sum(cursor)::bigint FROM shards"


async def drained(database_url: str, redis_url: str, total: int) -> float:
    """How many seconds it took until the last row was committed."""
    committed = 0.0

    async def barrier(step: str) -> None:
        nonlocal committed
        if step == "after commit":
            committed = time.perf_counter()

    begun = time.perf_counter()
    draining = asyncio.create_task(
        drain(database_url, redis_url, PATIENCE_SECONDS, keep=None, barrier=barrier), name="drain"
    )
    while not draining.done():
        await asyncio.sleep(0.2)
        if (await fetch(database_url, JOURNALED))[0][0] == total:
            break
    draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining
    return committed - begun

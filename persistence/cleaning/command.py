"""A clean-up by hand: all that it needs, for as long as it takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from app.ledger.connection import connect
from app.ledger.ledger import Ledger
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.cleaning.cleaning import PostgresCleaning
from persistence.pool import open_pool

RUN_SECONDS = 3600.0
"""Somebody waits for it, and may end it at any moment: what it has done by then stays done."""


@asynccontextmanager
async def cleaning(database_url: str, redis_url: str, *, days: int) -> AsyncIterator[PostgresCleaning]:
    """Clean-up over a ledger of one's own, until the block ends. `days`: after which what is settled is
    old.
    """
    pool = await open_pool(database_url, connections_max=3, name="lastro cleanup")
    try:
        async with connect(redis_url) as redis, connect(redis_url) as aside:
            ledger = Ledger(redis, PostgresBacking(pool, partial(admission.admit, pool, aside)))
            await ledger.start()
            try:
                yield PostgresCleaning(
                    pool, ledger, aside, days=days, interval_seconds=0, run_seconds=RUN_SECONDS
                )
            finally:
                await ledger.stop()
    finally:
        pool.terminate()

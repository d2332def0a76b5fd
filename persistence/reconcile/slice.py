"""A slice of reconciliation, as a worker's job makes it: some seconds of whatever run there is.

While it compares, the worker that it occupies keeps the journal beside it, if nobody else does: what was
seen in Redis has to reach PostgreSQL before it can be compared, and this may be the only worker there is.
"""

import asyncio
from functools import partial

from app.ledger.connection import connect as connect_redis
from app.ledger.stream import Keep
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.drain import drain
from persistence.pool import open_pool
from persistence.reconcile.hands import hands
from persistence.reconcile.work import EVERY_SECONDS, SLICE_SECONDS, next_run, work_on, working


async def reconcile_slice(
    database_url: str,
    redis_url: str,
    *,
    keep: Keep | None,
    seconds: float = SLICE_SECONDS,
    every_seconds: float = EVERY_SECONDS,
) -> str | None:
    """Go on with a run that somebody asked for, or with a new one when it is time. Returns its id, `None`
    when there was nothing to do, or another process does it.

    Args:
        database_url: Of a born ledger.
        redis_url: The ledger's.
        keep: What stays in the streams, as for the journal.
        seconds: About how long; a page that is under way then is finished.
        every_seconds: How long after the start of a run the next one begins by itself.
    """
    async with working(database_url) as connection:
        if connection is None:
            return None
        name = await next_run(connection, every_seconds=every_seconds)
        if name is None:
            return None
        journaling = asyncio.create_task(drain(database_url, redis_url, 10 * seconds, keep=keep))
        try:
            async with (
                await open_pool(database_url, connections_max=2, name="lastro reconcile") as pool,
                connect_redis(redis_url) as redis,
                connect_redis(redis_url) as own,
                hands(own, PostgresBacking(pool, partial(admission.admit, pool, redis))) as its_hands,
            ):
                await work_on(connection, redis, name, its_hands, seconds)
        finally:
            journaling.cancel()
            await asyncio.wait({journaling})
        return name

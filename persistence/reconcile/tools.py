"""What comparing and repairing needs, opened together; and a worker beside it.

What was seen in Redis has to reach PostgreSQL before it can be compared. So whoever reconciles keeps the
journal meanwhile, where nobody else does: he may be the only worker there is, or may have been started by
hand.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from redis.asyncio import Redis

from app.ledger.connection import connect as connect_redis
from app.ledger.stream import Keep
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.drain import drain
from persistence.pool import Connection, Pool, open_pool
from persistence.reconcile.hands import Hands, hands

FOR_EVER_SECONDS = 86_400.0


class Tools(NamedTuple):
    """`connection` has the lock of those who reconcile; `hands` change Redis."""

    connection: Connection
    redis: Redis
    hands: Hands
    pool: Pool


@asynccontextmanager
async def tools(
    database_url: str, redis_url: str, connection: Connection, *, keep: Keep | None
) -> AsyncIterator[Tools]:
    """Everything, until the block ends. `keep`: what stays in the streams, as for the journal."""
    journaling = asyncio.create_task(drain(database_url, redis_url, FOR_EVER_SECONDS, keep=keep))
    try:
        async with (
            await open_pool(database_url, connections_max=3, name="lastro reconcile") as pool,
            connect_redis(redis_url) as redis,
            connect_redis(redis_url) as own,
            hands(own, PostgresBacking(pool, partial(admission.admit, pool, redis))) as its_hands,
        ):
            yield Tools(connection, redis, its_hands, pool)
    finally:
        journaling.cancel()
        await asyncio.wait({journaling})

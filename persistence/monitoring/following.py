"""Counts what the journal has got, as a worker does it beside its jobs."""

import time
from datetime import UTC, datetime

from redis.asyncio import Redis

from persistence.monitoring.counting import count
from persistence.monitoring.reach import look, note_reach
from persistence.monitoring.snapshots import Snapshots
from persistence.pool import Pool, answering

QUIET_SECONDS = 1.0
"""How long something new may go uncounted."""

RESTS = 2.0
"""For so many times as long as it has worked: however much there is to count, the machine is the ledger's."""

ANSWER_SECONDS = 60.0

SHARDS = "SELECT count(*) FROM shards"


class Following:
    """One for each process, which may be many.

    Args:
        pool: At least 1 connection.
        redis: Of the ledger; it may be away.
    """

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis
        self._snapshots = Snapshots()

    async def turn(self) -> float:
        """Count a piece of what there is. Returns for how many seconds nothing need be done.

        Raises:
            BackingUnavailable
        """
        began = time.monotonic()
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            seen = await look(self._redis, await connection.fetchval(SHARDS))
            counted = await count(connection)
            await note_reach(connection, seen)
            await self._snapshots.renew(connection, datetime.now(UTC) if seen is None else seen.at)
        worked = time.monotonic() - began
        return RESTS * worked if counted else max(QUIET_SECONDS, RESTS * worked)

    async def stop(self) -> None:
        """Nothing is held between two turns."""

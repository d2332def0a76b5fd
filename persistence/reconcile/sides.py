"""The two sides that are held against each other. PostgreSQL comes behind, and is waited for."""

import asyncio
import time
from typing import NamedTuple

from redis.asyncio import Redis

from persistence.pool import Connection
from persistence.reconcile.sighting import NotExaminable, Place

WAIT_SECONDS = 10.0
POLL_SECONDS = 0.02


class Behind(Exception):
    """PostgreSQL does not get what Redis has; nothing can be told. The text says how far it is."""


class Sides(NamedTuple):
    """PostgreSQL and Redis, as they are held against each other for a shard.

    Args:
        connection: Outside any transaction.
        redis: Its retries are off.
        place: The shard, and under which number PostgreSQL has it admitted.
        wait_seconds: How long PostgreSQL may need to have what was seen in Redis.
    """

    connection: Connection
    redis: Redis
    place: Place
    wait_seconds: float = WAIT_SECONDS


CURSOR = "SELECT cursor, fence, incarnation FROM shards WHERE shard = $1"


async def wait(sides: Sides, sequence: int) -> None:
    """Until PostgreSQL has `sequence`.

    Raises:
        Behind: It has not, in the time that it is given, or because the shard was fenced.
        NotExaminable: What was seen may be lost since, and the journal have other entries in its place.
    """
    place, shard = sides.place, sides.place.shard
    ends = time.monotonic() + sides.wait_seconds
    while True:
        row = await sides.connection.fetchrow(CURSOR, shard)
        assert row is not None, "a shard without a row"
        if place.incarnation not in (None, row["incarnation"]):
            raise NotExaminable(f"Shard {shard} cannot be looked at: it was admitted anew meanwhile.")
        if row["cursor"] >= sequence:
            return
        if row["fence"] is not None:
            raise Behind(f"Shard {shard} is fenced: {row['fence']}")
        if time.monotonic() >= ends:
            raise Behind(
                f"The journal of shard {shard} ends at {row['cursor']} and Redis has counted to {sequence}; "
                f"it did not come closer in {sides.wait_seconds:g} s. Are the workers at work?"
            )
        await asyncio.sleep(POLL_SECONDS)

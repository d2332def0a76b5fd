"""Planned work: every shard refuses and the journal gets everything, so that Redis can be moved."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from redis.asyncio import Redis

from app.ledger.admission import fence as fence_in_redis
from app.ledger.admission import survey
from persistence.drain import drain
from persistence.fences import FenceRefused, fence, fences, ledger_of
from persistence.pool import Pool, answering
from persistence.standings import read_standings

SLICE_SECONDS = 1.0


class Left(NamedTuple):
    """What the journal lacks. `stuck`: shards that were fenced for another reason, which nobody drains."""

    entries: int
    stuck: dict[int, str]


async def draining(
    database_url: str,
    redis_url: str,
    pool: Pool,
    redis: Redis,
    reason: str,
    *,
    slice_seconds: float = SLICE_SECONDS,
) -> AsyncIterator[Left]:
    """Fence all shards, then drain them beside whatever workers there are; yields what is left after each
    slice, last of all 0. Cut off anywhere it may be begun again; the fences stay.

    Raises:
        FenceRefused: A shard cannot be told to refuse in this Redis.
    """
    await fence(pool, redis, None, reason)
    ledger, _ = await ledger_of(pool)
    while True:
        left = await _left(pool, redis, ledger)
        yield left
        if left.entries == 0:
            return
        await drain(database_url, redis_url, slice_seconds, keep=None)


async def _left(pool: Pool, redis: Redis, ledger: str) -> Left:
    stuck = {each.shard: each.why for each in await fences(pool) if each.by != "operator"}
    async with answering(pool) as connection:
        standings = [each for each in await read_standings(connection) if each.shard not in stuck]
    entries = 0
    for standing, sighting in zip(standings, await survey(redis, ledger, standings), strict=True):
        if not sighting.sequence.isdecimal():
            raise FenceRefused(
                f"Redis has no readable meta of shard {standing.shard}. `lastro doctor` says what there is."
            )
        if standing.fence is None:
            raise FenceRefused(f"Shard {standing.shard} was opened while it was drained. Begin again.")
        if not sighting.fence:  # an admission that was under way has written over it; more may have come
            await fence_in_redis(redis, ledger, standing.shard, standing.fence)
            entries += 1
        entries += max(0, int(sighting.sequence) - standing.cursor)
    return Left(entries, stuck)

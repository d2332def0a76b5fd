"""Tasks that a server of a cluster has lost before it took over from another one.

A task is kept in a shard of its own, which has no entry of it: that is in its reservation's shard, and may
be with another server, which has lost nothing. So what a replica lacks of tasks is in no gap of its shards,
and is brought back from the journal, whoever's entry it is, before the server is admitted.
"""

from collections.abc import Collection, Sequence

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.admission import CLOCKS_APART_MS_HEALTHY
from app.ledger.clock import time_ms
from app.ledger.connection import LOST, is_cluster
from app.ledger.judgement import Sighting, Standing, unreadable
from app.ledger.loading import bind
from persistence import rebuild
from persistence.pool import Pool, answering

ANSWER_SECONDS = 60.0


async def rebind_tasks(
    pool: Pool,
    redis: Redis,
    standings: Sequence[Standing],
    sightings: Sequence[Sighting],
    refused: Collection[int],
) -> None:
    """Bind anew what was bound after the last call that a new server of some shards knows of. Repeating is
    harmless. Where one server has all shards there is nothing to do: what it lacks is in their gaps.

    Raises:
        BackingUnavailable: PostgreSQL is away.
    """
    pairs = zip(standings, sightings, strict=True) if is_cluster(redis) else ()
    shards = {each.shard for each, seen in pairs if each.shard not in refused and _is_new(each, seen)}
    if not shards:
        return
    try:
        known_ms = [int(await redis.hget(keys.meta(shard), "now_ms") or 0) for shard in shards]
        now_ms = await time_ms(redis, min(shards))
        since_ms = min(known_ms) - CLOCKS_APART_MS_HEALTHY
        async with answering(pool, ANSWER_SECONDS) as connection:
            async for bindings in rebuild.pages_of_bindings(
                connection, len(standings), now_ms, since_ms=since_ms
            ):
                for binding in bindings:
                    if binding.shard in shards:
                        await bind(redis, binding)
    except LOST:
        return  # it is away again, and is not admitted


def _is_new(standing: Standing, sighting: Sighting) -> bool:
    """Whether somebody else was admitted before, and this one may be now."""
    is_another = bool(standing.server) and sighting.server not in ("", standing.server)
    return is_another and standing.fence is None and unreadable(standing, sighting) is None

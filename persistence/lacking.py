"""What PostgreSQL lacks of each shard: entries, bytes and their age, for whoever watches the journal."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.apart import Part, node_ms, of_shards
from persistence.pool import Pool, answering


class Lacking(NamedTuple):
    """Of one shard. `age_seconds`: of the oldest entry that is lacking."""

    shard: int
    entries: int
    bytes: int
    age_seconds: float

    def fullness(self, entries_max: int, bytes_max: int) -> float:
        """As a share of the bound that is nearer; 1.0: new work is refused."""
        return max(self.entries / entries_max, self.bytes / bytes_max)


CURSORS = "SELECT cursor, bytes FROM shards ORDER BY shard"


async def lacking(redis: Redis, pool: Pool) -> list[Lacking]:
    """Of every shard, in order.

    Raises:
        BackingUnavailable, redis.exceptions.RedisError
    """
    async with answering(pool) as connection:
        cursors = [(row["cursor"], row["bytes"]) for row in await connection.fetch(CURSORS)]
    return await _since(redis, cursors)


async def lacking_by_redis(redis: Redis, shards: int) -> list[Lacking]:
    """The same as Redis was told last, which may be more than there is; for when PostgreSQL is away."""
    return await _since(redis, [(0, 0)] * shards)


async def _since(redis: Redis, cursors: Sequence[tuple[int, int]]) -> list[Lacking]:
    """What Redis has beyond the cursors, or beyond what it was told of them: the later counts. Of a shard
    whose node of a cluster does not answer, nothing is known to be lacking.
    """
    fields = ["sequence", "bytes", "journaled", "journaled_bytes", "oldest_ms"]

    async def of(part: Part) -> list[tuple[int, Any]]:
        now_ms = await node_ms(redis, part.node)
        async with redis.pipeline(transaction=False) as looks:
            for shard in part.shards:
                looks.hmget(keys.meta(shard), fields)
            metas = await looks.execute(raise_on_error=False)
        return [(now_ms, meta) for meta in metas]

    answers = await of_shards(redis, range(len(cursors)), of)
    found = []
    for shard, (cursor, size) in enumerate(cursors):
        now_ms, meta = answers.get(shard, (0, None))
        sequence, bytes_, journaled, journaled_bytes, oldest_ms = _numbers(meta)
        entries = max(0, sequence - max(cursor, journaled))
        left = max(0, bytes_ - max(size, journaled_bytes))
        age_s = max(0, now_ms - oldest_ms) / 1000 if entries and oldest_ms else 0.0
        found.append(Lacking(shard, entries, left, age_s))
    return found


def _numbers(meta: Any) -> list[int]:
    if not isinstance(meta, list):
        return [0, 0, 0, 0, 0]
    return [int(each) if each and each.isdigit() else 0 for each in meta]

"""How far the journal is behind each stream: `app.journaling.Journaling` over a pool and a client."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.journaling import ShardJournaled, Stream
from app.ledger import keys
from app.ledger.apart import Part, node_ms, of_shards
from persistence.pool import Pool, answering

LOOK_SECONDS = 1.0


class StreamsAndJournal:
    """PostgreSQL must answer; what Redis does not say is left open."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis

    SHARDS = """
    SELECT shard, cursor, journaled_at, verified_seq AS verified, verified_at, fence
    FROM shards ORDER BY shard
    """

    async def shards(self) -> list[ShardJournaled]:
        async with answering(self._pool) as connection:
            rows = await connection.fetch(self.SHARDS)
        # Read after the cursors, so that no stream seems to be behind the journal.
        streams = await self._streams([row["shard"] for row in rows])
        return [ShardJournaled(**row, stream=streams.get(row["shard"])) for row in rows]

    async def _streams(self, shards: list[int]) -> dict[int, Stream]:
        redis = self._redis

        async def of(part: Part) -> list[Stream | None]:
            now_ms = await node_ms(redis, part.node)
            async with redis.pipeline(transaction=False) as looks:
                for shard in part.shards:
                    looks.hmget(keys.meta(shard), ["sequence", "oldest_ms"])
                    looks.xlen(keys.journal(shard))
                found = await looks.execute()
            return [_stream(now_ms, *pair) for pair in zip(found[::2], found[1::2], strict=True)]

        try:
            async with asyncio.timeout(LOOK_SECONDS):
                streams = await of_shards(redis, shards, of)
        except (RedisError, OSError, TimeoutError):
            return {}
        return {shard: stream for shard, stream in streams.items() if stream is not None}


def _stream(now_ms: int, meta: list[Any], kept: int) -> Stream | None:
    """`None`: the shard has no meta."""
    if meta[0] is None:
        return None
    sequence, oldest_ms = (int(each) if each and each.isdigit() else 0 for each in meta)
    return Stream(sequence, kept, max(0, now_ms - oldest_ms) / 1000 if oldest_ms else 0.0)

"""How far the journal is behind each stream: `app.journaling.Journaling` over a pool and a client."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.journaling import ShardJournaled, Stream
from app.ledger import keys
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
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._redis.pipeline(transaction=False) as looks:
                looks.time()
                for shard in shards:
                    looks.hmget(keys.meta(shard), ["sequence", "oldest_ms"])
                    looks.xlen(keys.journal(shard))
                (seconds, micros), *found = await looks.execute()
        except (RedisError, OSError, TimeoutError):
            return {}
        now_ms = seconds * 1000 + micros // 1000
        pairs = zip(shards, found[::2], found[1::2], strict=True)
        return {shard: _stream(now_ms, meta, kept) for shard, meta, kept in pairs if meta[0] is not None}


def _stream(now_ms: int, meta: list[Any], kept: int) -> Stream:
    sequence, oldest_ms = (int(each) if each and each.isdigit() else 0 for each in meta)
    return Stream(sequence, kept, max(0, now_ms - oldest_ms) / 1000 if oldest_ms else 0.0)

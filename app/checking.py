"""What this process stands on, for `/health/ready`."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.http.parts import Standing
from app.ledger.admission import CLOCKS_APART_MS_HEALTHY, clock_apart_ms
from app.ledger.apart import Part, of_shards
from app.ledger.backing import BackingUnavailable
from app.ledger.ledger import Ledger
from persistence import admission
from persistence.pool import Pool, answering

CHECK_SECONDS = 1.0
LOST_SHOWN_SECONDS = 3600.0


class Checks:
    """`Checking` over what this process uses."""

    def __init__(self, ledger: Ledger, redis: Redis, pool: Pool) -> None:
        self._ledger = ledger
        self._redis = redis
        self._pool = pool

    async def standing(self) -> Standing:
        terms = self._ledger.terms
        shards = range(terms.shards if terms else 1)
        apart_ms, postgres = await asyncio.gather(self._clocks_apart_ms(shards), self._postgres_answers())
        redis = bool(apart_ms)
        failing = [name for name, answers in (("redis", redis), ("postgres", postgres)) if not answers]
        if any(abs(each) > CLOCKS_APART_MS_HEALTHY for each in apart_ms.values()):
            failing.append("clock")
        if self._ledger.acknowledged.has_lost(LOST_SHOWN_SECONDS):
            failing.append("acknowledged_lost")
        if terms is None:
            return Standing(serves=False, failing=[*failing, "admission"])
        away = set(shards) - apart_ms.keys() if redis else set()
        closed = [f"shard:{shard}" for shard in sorted(terms.fences.keys() | away)]
        return Standing(serves=redis and len(closed) < terms.shards, failing=failing + closed)

    async def _clocks_apart_ms(self, shards: Sequence[int]) -> dict[int, int]:
        """By how much the clock of each shard's server differs; of one that does not answer nothing."""
        clock_ms = admission.this_machines_clock_ms()

        async def of(part: Part) -> list[int]:
            return [await clock_apart_ms(self._redis, part.node, clock_ms)] * len(part.shards)

        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await of_shards(self._redis, shards, of)
        except (RedisError, OSError, TimeoutError):
            return {}

    async def _postgres_answers(self) -> bool:
        try:
            async with answering(self._pool, CHECK_SECONDS) as connection:
                await connection.execute("SELECT 1")
        except BackingUnavailable:
            return False
        return True

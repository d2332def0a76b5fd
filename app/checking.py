"""What this process stands on, for `/health/ready`."""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.http.parts import Standing
from app.ledger.admission import CLOCKS_APART_MS_HEALTHY, clocks_apart_ms
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
        apart_ms, postgres = await asyncio.gather(self._clocks_apart_ms(), self._postgres_answers())
        redis = apart_ms is not None
        terms = self._ledger.terms
        failing = [name for name, answers in (("redis", redis), ("postgres", postgres)) if not answers]
        if abs(apart_ms or 0) > CLOCKS_APART_MS_HEALTHY:
            failing.append("clock")
        if self._ledger.acknowledged.has_lost(LOST_SHOWN_SECONDS):
            failing.append("acknowledged_lost")
        if terms is None:
            return Standing(serves=False, failing=[*failing, "admission"])
        fenced = [f"shard:{shard}" for shard in sorted(terms.fences)]
        return Standing(serves=redis and len(fenced) < terms.shards, failing=failing + fenced)

    async def _clocks_apart_ms(self) -> int | None:
        """`None`: Redis does not answer."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await clocks_apart_ms(self._redis, admission.this_machines_clock_ms())
        except (RedisError, OSError, TimeoutError):
            return None

    async def _postgres_answers(self) -> bool:
        try:
            async with answering(self._pool, CHECK_SECONDS) as connection:
                await connection.execute("SELECT 1")
        except BackingUnavailable:
            return False
        return True

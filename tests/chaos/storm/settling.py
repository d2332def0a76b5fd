"""After the faults of a round: everything runs, says that it is well, and the journal has what Redis has."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys
from tests.chaos.storm.records import Findings
from tests.chaos.storm.stage import SHARDS, Stage

SETTLE_SECONDS = 60.0
BROKEN_SECONDS = 3.0
_LOOK_SECONDS = 0.05
_AWAY = (OSError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Settling:
    """Waits, and says what did not come."""

    def __init__(self, stage: Stage, redis: Redis, database: asyncpg.Pool, findings: Findings) -> None:
        self._stage = stage
        self._redis = redis
        self._database = database
        self._findings = findings

    async def well(self) -> None:
        """Until every process runs and every API says that it is ready."""
        await self._stage.revive_all()
        await self._until(self._all_ready, "an API does not become ready")

    async def drained(self) -> None:
        """Until the journal has everything, and has told Redis so."""
        await self._until(self._all_journaled, "the journal is not drained")

    async def _until(self, condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
        began, why = time.monotonic(), ""
        while time.monotonic() - began < self._patience:
            try:
                if await condition():
                    return
            except _AWAY as error:
                why = f" ({type(error).__name__}: {error})"
            await asyncio.sleep(_LOOK_SECONDS)
        self._findings.add(f"{otherwise} within {self._patience:g} s{why}\n{self._stage.logs(8)}")

    @property
    def _patience(self) -> float:
        """Where something is broken already, what is not well soon may never be."""
        return BROKEN_SECONDS if self._findings.count else SETTLE_SECONDS

    async def _all_ready(self) -> bool:
        return all([await api.is_ready() for api in self._stage.apis])

    async def _all_journaled(self) -> bool:
        cursors = await self._database.fetch("SELECT cursor, fence FROM shards ORDER BY shard")
        for shard, (cursor, fence) in enumerate(cursors):
            if fence is not None:
                self._findings.add(f"shard {shard} is fenced: {fence}")
                return True
            told = await self._redis.hmget(keys.meta(shard), "sequence", "journaled")
            if [int(each) for each in told] != [cursor, cursor]:
                return False
        return len(cursors) == SHARDS

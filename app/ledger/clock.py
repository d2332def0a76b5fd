"""Redis' time, as far as a process knows it between two answers."""

import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.connection import is_cluster
from app.ledger.errors import LedgerUnavailable

_TIME = "return redis.call('TIME')"


async def time_ms(redis: Redis, shard: int = 0) -> int:
    """The time of the server that has a shard, in milliseconds since 1970. Raises what the client raises."""
    told: Any
    if is_cluster(redis):  # TIME has no key by which it would be sent to that one
        told = await redis.eval(_TIME, 1, keys.meta(shard))
    else:
        told = await redis.time()
    seconds, microseconds = told
    return int(seconds) * 1000 + int(microseconds) // 1000


class Clock:
    """Set by every answer that tells the time; in between it goes on by this machine's monotonic clock.

    Args:
        redis: Whom to ask first.
        shard: Of the servers of a cluster, that of this shard.
        latest: Of several clocks it is set to the one that is ahead.
    """

    def __init__(self, redis: Redis, shard: int = 0, latest: "Clock | None" = None) -> None:
        self._redis = redis
        self._shard = shard
        self._latest = latest
        self._at_ms = 0
        self._heard = 0.0

    def now_ms(self) -> int:
        """Long ago, while the time has not been told."""
        return self._at_ms + int((time.monotonic() - self._heard) * 1000)

    def set(self, now_ms: int) -> int:
        """Redis has told the time. Returns how far this was behind it, in milliseconds."""
        behind_ms = now_ms - self.now_ms()
        self._at_ms, self._heard = now_ms, time.monotonic()
        if self._latest is not None and now_ms > self._latest.now_ms():
            self._latest.set(now_ms)
        return behind_ms

    async def know(self) -> None:
        """Ask for the time, if it has not been told yet. Raises what the client raises."""
        if self._heard == 0.0:
            now_ms = await time_ms(self._redis, self._shard)
            if self._heard == 0.0:  # still: what was told meanwhile is later, and time never goes back
                self.set(now_ms)

    async def learn(self) -> None:
        """The same for whoever asks on a caller's behalf.

        Raises:
            LedgerUnavailable: Redis is away.
        """
        try:
            await self.know()
        except (RedisError, OSError) as error:
            raise LedgerUnavailable(why=str(error)) from error

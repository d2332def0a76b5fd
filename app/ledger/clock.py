"""Redis' time, as far as a process knows it between two answers."""

import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger.errors import LedgerUnavailable


async def time_ms(redis: Redis) -> int:
    """Redis' time in milliseconds since 1970. Raises what the client raises."""
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


class Clock:
    """Set by every answer that tells the time; in between it goes on by this machine's monotonic clock."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._at_ms = 0
        self._heard = 0.0

    def now_ms(self) -> int:
        """Long ago, while the time has not been told."""
        return self._at_ms + int((time.monotonic() - self._heard) * 1000)

    def set(self, now_ms: int) -> int:
        """Redis has told the time. Returns how far this was behind it, in milliseconds."""
        behind_ms = now_ms - self.now_ms()
        self._at_ms, self._heard = now_ms, time.monotonic()
        return behind_ms

    async def know(self) -> None:
        """Ask for the time, if it has not been told yet. Raises what the client raises."""
        if self._heard == 0.0:
            now_ms = await time_ms(self._redis)
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

"""How many requests a second a key, a user or an account may make, over all API processes together.

Redis counts, by one script (`lua/limit.lua`) that is asked for all requests that wait in this process: one
call in flight, and what arrives meanwhile is the next one. Off, there is none of this. A limit that cannot be
asked about lets nothing pass: the ledger does not answer then either.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys, scripts
from app.ledger.errors import QUEUE, LedgerUnavailable, Overloaded
from app.ledger.running import run

Of = Literal["key", "account"]

SECOND = 1_000_000
COUNTS_MAX = 1_000
WAITING_MAX = 10_000


class Quota(NamedTuple):
    """So many requests a second, and as many at once after a silence. `interval_us`: what each takes."""

    of: Of
    per_second: int

    @property
    def interval_us(self) -> int:
        return -(-SECOND // self.per_second)


class Left(NamedTuple):
    """How a request was counted. `wait_us`: 0 for one that goes on. `owed_us`: until the quota is whole."""

    quota: Quota
    wait_us: int
    owed_us: int

    @property
    def requests(self) -> int:
        """How many may follow at once."""
        interval_us = self.quota.interval_us
        return max(0, interval_us * self.quota.per_second - self.owed_us) // interval_us

    @property
    def wait_seconds(self) -> int:
        """When to come again, in whole seconds."""
        return -(-self.wait_us // SECOND)

    @property
    def whole_in_seconds(self) -> int:
        """When the quota is whole again: in a second at the latest, for that is its window."""
        return 1 if self.owed_us else 0


class _Asked(NamedTuple):
    quota: Quota
    names: Sequence[str]
    answer: "asyncio.Future[list[Left]]"


class Limiter:
    """One for each process. `redis`: a client that nobody else waits on; closed by whoever made it."""

    def __init__(self, redis: Redis, *, key_per_second: int = 0, account_per_second: int = 0) -> None:
        self.key = Quota("key", key_per_second) if key_per_second else None
        self.account = Quota("account", account_per_second) if account_per_second else None
        self._redis = redis
        self._script = scripts.load("limit")
        self._waiting: list[_Asked] = []
        self._counts = 0
        self._calls: asyncio.Task[None] | None = None

    async def count(self, quota: Quota, names: Sequence[str]) -> list[Left]:
        """Count one request on each of the names in turn, at most `COUNTS_MAX`; a name may come again.

        Raises:
            LedgerUnavailable: Redis does not answer.
            Overloaded: Too many wait for it.
        """
        assert len(names) <= COUNTS_MAX, "more than one call can count"
        if self._counts + len(names) > WAITING_MAX:
            raise Overloaded(cause=QUEUE)
        answer: asyncio.Future[list[Left]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(quota, names, answer))
        self._counts += len(names)
        if self._calls is None or self._calls.done():
            self._calls = asyncio.create_task(self._call_until_nobody_waits(), name="limits")
        return await answer

    async def stop(self) -> None:
        """Let go of those who wait."""
        if self._calls is not None:
            self._calls.cancel()
            await asyncio.wait({self._calls})
        _fail(self._waiting)

    async def _call_until_nobody_waits(self) -> None:
        while self._waiting:
            asked = self._next()
            try:
                await self._call(asked)
            except (RedisError, OSError):
                pass
            finally:
                _fail(asked)  # those who have no answer

    def _next(self) -> list[_Asked]:
        """Those who came first, as many as one call can count."""
        counts = many = 0
        for each in self._waiting:
            if counts + len(each.names) > COUNTS_MAX:
                break
            counts += len(each.names)
            many += 1
        asked, self._waiting = self._waiting[:many], self._waiting[many:]
        self._counts -= counts
        return asked

    async def _call(self, asked: Sequence[_Asked]) -> None:
        places: dict[str, int] = {}
        words: list[int] = []
        for quota, names, _ in asked:
            interval_us = quota.interval_us
            for name in names:
                place = places.setdefault(keys.limit(quota.of, name), len(places) + 1)
                words += (place, interval_us, interval_us * quota.per_second)
        replies = iter(await run(self._redis, self._script, list(places), words))
        for quota, names, answer in asked:
            lefts = [Left(quota, next(replies), next(replies)) for _ in names]
            if not answer.done():
                answer.set_result(lefts)


def _fail(asked: Sequence[_Asked]) -> None:
    for each in asked:
        if not each.answer.done():
            each.answer.set_exception(LedgerUnavailable())

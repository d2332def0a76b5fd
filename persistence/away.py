"""Shards of a journal whose node of a cluster does not answer, or has lost them to another one."""

import asyncio
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import AskError, ClusterDownError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.ledger.alike import named
from app.ledger.apart import Part, node_ms, of_shards, parts
from app.ledger.connection import look_anew

log = logging.getLogger(__name__)

MOVING = (AskError, TryAgainError)
"""What is met where a slot is on its way from one node to another, or has been; MOVED is an `AskError`."""

AWAY = (RedisConnectionError, RedisTimeoutError, ClusterDownError, *MOVING)


class Away:
    """Set aside together, so that one that hangs costs the others one answer's time and no more, and looked
    for beside the work.

    Args:
        redis: Of the work.
        scout: A client of its own, because whoever looks for what hangs does so too.
    """

    def __init__(self, redis: Redis, scout: Redis) -> None:
        self._redis = redis
        self._scout = scout
        self._shards: set[int] = set()
        self._looking: asyncio.Task[Collection[int]] | None = None

    async def set_aside(self, shard: int, own: Iterable[int], why: RedisError) -> set[int]:
        """A shard, and those of `own` that are its neighbours. Returns all that are new."""
        found = {shard}
        if not isinstance(why, MOVING):
            with suppress(RedisError):
                for part in await parts(self._redis, [*own, shard]):
                    found.update(part.shards if shard in part.shards else ())
        found -= self._shards
        self._shards |= found
        if found:
            log.warning("the journal of %s waits: %s", named(sorted(found)), why)
        return found

    async def back(self) -> set[int]:
        """Those that were found since this was asked last; nobody waits for them."""
        found: set[int] = set()
        looking, self._looking = self._looking, None
        if looking is not None and not looking.done():
            self._looking = looking
        elif looking is not None:
            found = set(looking.result()) & self._shards
            self._shards -= found
        if found:
            look_anew(self._redis)
            log.warning("the journal of %s goes on", named(sorted(found)))
        if self._shards and self._looking is None:
            self._looking = asyncio.create_task(self._look(sorted(self._shards)), name="looking for nodes")
        return found

    async def _look(self, shards: list[int]) -> Collection[int]:
        async def there(part: Part) -> list[int]:
            return [await node_ms(self._scout, part.node)] * len(part.shards)

        try:
            return (await of_shards(self._scout, shards, there)).keys()
        except (RedisError, OSError):
            return ()

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

"""What a process of the API keeps open: clients of Redis and pools of PostgreSQL, each for one purpose, so
that slow pages delay no credits, and nothing delays a revocation or a fence.
"""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import NamedTuple, Self

from redis.asyncio import Redis

from app.ledger.connection import connect
from app.settings import Settings
from persistence.pool import Pool, pooled

CLOSE_SECONDS = 0.7


class Stores(NamedTuple):
    """`redis` has the ledger's calls, `waiting` those that wait for replicas, `aside` all others."""

    redis: Redis
    aside: Redis
    waiting: Redis
    credits: Pool
    pages: Pool
    exports: Pool
    guards: Pool
    inbox: Pool
    alerts: Pool

    @classmethod
    async def opened(cls, settings: Settings, stack: AsyncExitStack) -> Self:
        """All of them, none connected yet; `stack` closes them."""
        redis, aside, waiting = (connect(settings.redis_url) for _ in range(3))
        for client in (redis, aside, waiting):
            stack.push_async_callback(client.aclose)

        async def pool(of: str, connections: int, *, plans_once: bool = False) -> Pool:
            return await stack.enter_async_context(_pool(settings, of, connections, plans_once=plans_once))

        return cls(
            redis,
            aside,
            waiting,
            credits=await pool("ledger", 8, plans_once=True),
            pages=await pool("pages", 4),
            exports=await pool("exports", 2),
            guards=await pool("guards", 3),
            inbox=await pool("inbox", 4),
            alerts=await pool("alerts", 3),
        )


def _pool(
    settings: Settings, of: str, connections: int, *, plans_once: bool
) -> AbstractAsyncContextManager[Pool]:
    return pooled(
        settings.database_url,
        connections_max=connections,
        name=f"lastro api {of}",
        close_seconds=CLOSE_SECONDS,
        plans_once=plans_once,
    )

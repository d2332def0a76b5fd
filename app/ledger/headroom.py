"""How full a Redis is. A full one refuses all; new work stops before, so that what was begun can end."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.ledger.apart import of_nodes
from app.ledger.connection import Node

MEMORY_PERCENT_MAX = 90


async def is_memory_short(redis: Redis) -> bool:
    """Whether a Redis that has a bound (`maxmemory`) has used 90% of it, counted as it counts itself; of a
    cluster, whether any of those that answer has.
    """
    return any((await of_nodes(redis, lambda node: _is_short(redis, node))).values())


async def _is_short(redis: Redis, node: Node) -> bool:
    try:
        memory: dict[str, Any] = await redis.info("memory", **node.only)
    except ResponseError:  # not allowed to ask, or a stand-in
        return False
    bound: int = memory.get("maxmemory", 0)
    used: int = memory.get("used_memory", 0) - memory.get("mem_not_counted_for_evict", 0)
    return bound > 0 and used * 100 >= bound * MEMORY_PERCENT_MAX

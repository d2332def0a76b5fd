"""Who is first: Redis, or the others of a process."""

import asyncio
import time

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.cluster import RedisCluster

WAIT_SECONDS = 2.0


async def seen_by_others(ours: Redis, theirs: BlockingRedis | RedisCluster) -> bytes | None:
    """What Redis has under a name when those who are ready have run, of whom the first has set it to 1.

    The second keeps the loop to itself until it sees that, or long enough.
    """
    seen: list[bytes | None] = []

    def look() -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while (found := theirs.get("prompt")) is None and time.monotonic() < ends:
            time.sleep(0.01)
        seen.append(found)

    assert await ours.get("prompt") is None
    setting = asyncio.create_task(ours.set("prompt", "1"))
    asyncio.get_running_loop().call_soon(look)
    assert await setting
    return seen[0]

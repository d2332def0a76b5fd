"""All that a Redis holds of a ledger, to compare what was before with what is after."""

from typing import Any

from redis.asyncio import Redis

Dump = dict[str, Any]


async def dump(redis: Redis, *, whole: bool = False) -> Dump:
    """Every key by name: its value and whether it expires.

    A call that ran may leave traces that move no credits: its lane, the shard's clock, remembered answers. They
    are left out unless `whole`.
    """
    found: Dump = {}
    for key in sorted([key async for key in redis.scan_iter("lastro:*", count=1000)]):
        name = key.decode()
        if not whole and (":lane:" in name or ":operation:" in name):
            continue
        found[name] = (await _value(redis, key), await redis.pttl(key) >= 0)
        if not whole and name.endswith(":meta") and isinstance(found[name][0], dict):
            found[name][0].pop(b"now_ms", None)
    return found


async def _value(redis: Redis, key: bytes) -> object:
    match await redis.type(key):
        case b"string":
            return await redis.get(key)
        case b"hash":
            return await redis.hgetall(key)
        case b"zset":
            return await redis.zrange(key, 0, -1, withscores=True)
        case b"stream":
            return (await redis.xinfo_stream(key))["last-generated-id"], await redis.xrange(key)
        case other:
            raise AssertionError(f"{key!r} is a {other!r}")


def difference(before: Dump, after: Dump) -> set[str]:
    """The names of the keys that are not as they were."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}

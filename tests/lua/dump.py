"""All that a Redis holds of a ledger, to compare what was before with what is after."""

from typing import Any

from redis.asyncio import Redis

Dump = dict[str, Any]

_READ: dict[bytes, tuple[Any, ...]] = {
    b"string": ("GET",),
    b"hash": ("HGETALL",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"stream": ("XRANGE", "-", "+"),
}


async def dump(redis: Redis) -> Dump:
    """Every key by name: its value, whether it expires, and the last id of a stream."""
    names = sorted(await redis.keys("lastro:*"))
    asked = redis.pipeline(transaction=False)
    for name in names:
        asked.type(name)
    types = await asked.execute()
    for name, kind in zip(names, types, strict=True):
        command, *rest = _READ[kind]
        asked.execute_command(command, name, *rest)
        asked.pttl(name)
        asked.execute_command("XINFO", "STREAM", name) if kind == b"stream" else asked.exists(name)
    found = await asked.execute()
    return {
        name.decode(): (
            found[3 * i],
            found[3 * i + 1] >= 0,
            found[3 * i + 2][found[3 * i + 2].index(b"last-generated-id") + 1]
            if types[i] == b"stream"
            else None,
        )
        for i, name in enumerate(names)
    }


def without_traces(dumped: Dump) -> Dump:
    """Without what a call leaves behind that moves no credits: lane, shard's clock, remembered answers."""
    kept: Dump = {}
    for name, value in dumped.items():
        if ":lane:" in name or ":operation:" in name:
            continue
        kept[name] = value
        if name.endswith(":meta") and isinstance(value[0], dict):
            kept[name] = {field: text for field, text in value[0].items() if field != b"now_ms"}
    return kept


def difference(before: Dump, after: Dump) -> set[str]:
    """The names of the keys that are not as they were."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


class Beginning:
    """What a Redis holds now, to begin from again and again."""

    def __init__(self, values: list[tuple[bytes, bytes, int]]) -> None:
        self._values = values

    @classmethod
    async def here(cls, redis: Redis) -> "Beginning":
        names = await redis.keys("*")
        asked = redis.pipeline(transaction=False)
        for name in names:
            asked.dump(name)
            asked.pttl(name)
        found = await asked.execute()
        return cls([(name, found[2 * i], max(found[2 * i + 1], 0)) for i, name in enumerate(names)])

    async def again(self, redis: Redis) -> None:
        """Put back what was then, and nothing else."""
        asked = redis.pipeline(transaction=False)
        asked.flushall()
        for name, value, ttl in self._values:
            asked.restore(name, ttl, value)
        await asked.execute()

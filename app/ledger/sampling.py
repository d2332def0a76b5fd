"""A sample of the keys that a Redis has: are they the ledger's, and as it writes them? Writes nothing."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.apart import of_nodes, scan_node
from app.ledger.connection import Node, nodes
from app.ledger.findings import Finding

SAMPLE_MAX = 10_000
"""Keys that are looked at."""

_NAMED_MAX = 3

_TYPES = {
    "meta": "hash",
    "journal": "stream",
    "account": "string",
    "reservation": "string",
    "holds": "zset",
    "due": "zset",
    "aside": "zset",
    "task": "string",
    "claim": "string",
    "operation": "string",
    "refunded": "string",
    "lane": None,
}
"""The types of a shard's keys. A lane's is the script's own affair."""

_NEVER_EXPIRES = frozenset({"meta", "journal", "account", "holds", "due", "aside"})

_OF_A_SHARD = re.compile(
    re.escape(keys.meta(7)).replace("7", r"(\d+)").replace("meta", r"(\w+)") + "(?::.*)?", re.DOTALL
)
"""The names of `keys`: shard and kind."""


async def sampled_keys(redis: Redis, shards: int, sample_max: int) -> Finding:
    """A sample, of each server its part."""
    its_max = sample_max // len(await nodes(redis))
    sampled = (await of_nodes(redis, lambda node: _sampled(redis, node, shards, its_max))).values()
    seen, is_all = sum(each.seen for each in sampled), all(each.is_all for each in sampled)
    strange = [each for sample in sampled for each in sample.strange]
    looked = f"{seen:,} keys looked at{'' if is_all else ', as many as are sampled'}"
    if not strange:
        return Finding("redis_keys", "ok", looked)
    shown = "; ".join(sorted(strange)[:_NAMED_MAX])
    return Finding(
        "redis_keys",
        "critical",
        f"{len(strange)} of {looked} are wrong: {shown}",
        "Find out who writes here. `lastro reconcile` tells which accounts are affected.",
    )


class _Sample(NamedTuple):
    seen: int
    is_all: bool
    strange: list[str]


async def _sampled(redis: Redis, node: Node, shards: int, sample_max: int) -> _Sample:
    """SCAN goes on only until enough were seen."""
    strange: list[str] = []
    seen, place = 0, 0
    while True:
        place, names = await scan_node(redis, node, place, keys.SCAN_ALL, 1000)
        strange += await _strange(redis, names, shards)
        seen += len(names)
        if place == 0 or seen >= sample_max:
            return _Sample(seen, place == 0, strange)


async def _strange(redis: Redis, names: Sequence[bytes], shards: int) -> list[str]:
    async with redis.pipeline(transaction=False) as looks:
        for name in names:
            looks.type(name)
            looks.pttl(name)
        answers: list[Any] = await looks.execute() if names else []
    found = []
    for name, type_, ttl_ms in zip(names, answers[::2], answers[1::2], strict=True):
        why = _why_strange(name.decode(errors="replace"), type_.decode(), int(ttl_ms), shards)
        if why:
            found.append(f"{name.decode(errors='replace')} {why}")
    return found


def _why_strange(name: str, type_: str, ttl_ms: int, shards: int) -> str | None:
    if type_ == "none":  # gone since
        return None
    if name == keys.LEDGER:
        return None if type_ == "hash" and ttl_ms < 0 else "is not what it was made as"
    shape = _OF_A_SHARD.fullmatch(name)
    if shape is None or shape[2] not in _TYPES:
        return "is nobody's"
    if shards and int(shape[1]) >= shards:
        return "is of a shard that does not exist"
    wanted = _TYPES[shape[2]]
    if wanted is not None and type_ != wanted:
        return f"is a {type_}, not a {wanted}"
    if ttl_ms >= 0 and shape[2] in _NEVER_EXPIRES:
        return "will expire"
    return None

"""Redis' half of the admission: look at a server, and write into it what the `judgement` is.

A server is admitted, not checked: whether the history that it shows is the one that the journal has a part of
is decided once, under PostgreSQL's lock, and then carried by a number (the incarnation) that every call
compares. The lock and the number are `persistence.admission`'s.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import structs
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.ledger import keys, scripts
from app.ledger.backing import NotAdmitted
from app.ledger.clock import time_ms
from app.ledger.judgement import Sighting, Standing
from app.ledger.running import run

CLOCKS_APART_MS_MAX = 600_000
"""A forward jump of Redis' clock ends holds for good, so a clock this far off is not let in."""

CLOCKS_APART_MS_HEALTHY = 60_000
"""From here on somebody should look at the two clocks."""

_COUNT_MAX = 2**53 - 1

_PLAIN = re.compile(r"[\w-]+", re.ASCII)


async def survey(redis: Redis, ledger: str, standings: Sequence[Standing]) -> list[Sighting]:
    """Look at every shard, each in a moment of its own.

    Raises:
        NotAdmitted: Two shards were answered by different servers, or one belongs to another ledger.
    """
    script = scripts.load("survey")
    async with redis.pipeline(transaction=False) as looks:
        for each in standings:
            shard = each.shard
            looks.eval(script.text, 2, keys.meta(shard), keys.journal(shard), each.cursor + 1)
        replies: list[list[bytes]] = await looks.execute()
    sightings = [_plain(reply) for reply in replies]
    if len({each.server for each in sightings}) > 1:
        raise NotAdmitted("Redis was replaced by another server while it was looked at.")
    for stranger in {each.ledger for each in sightings} - {"", ledger}:
        raise _inhabited(stranger, ledger)
    return sightings


def _plain(reply: Sequence[bytes]) -> Sighting:
    """PostgreSQL takes no broken UTF-8 and no NUL, and nobody could lift a fence that cannot be spelt."""
    texts = [each.decode(errors="replace").replace("\0", "?") for each in reply]
    seen: Sighting = msgspec.convert(texts, Sighting, strict=False)
    changes = {name: _count(getattr(seen, name)) for name in ("incarnation", "sequence", "goal")}
    changes["link"] = seen.link if _PLAIN.fullmatch(seen.link) else ""
    if seen.fence.encode() not in reply:
        changes |= {"fence": "", "sequence": ""}
    return structs.replace(seen, **changes)


def _count(text: str) -> str:
    is_count = text.isascii() and text.isdecimal() and len(text) <= len(str(_COUNT_MAX))
    return text if is_count and int(text) <= _COUNT_MAX else ""


async def demand_fit_server(redis: Redis, ledger: str, shards: int, clock_ms: int) -> str:
    """Demand what holds for a server as a whole. Nothing is fenced for it: mending it is enough.

    Returns who has answered (its `master_replid`), empty where that is not told.

    Args:
        redis: Whom to ask.
        ledger: The id of the ledger that must live there, if any does.
        shards: How many it must have.
        clock_ms: This machine's clock.

    Raises:
        NotAdmitted: A replica, a server that evicts, a clock too far off, or another ledger's server.
    """
    replication, memory = await _info(redis, "replication"), await _info(redis, "memory")
    if replication.get("role", "master") != "master":
        raise NotAdmitted("This Redis is a replica. Name the primary in LASTRO_REDIS_URL.")
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory", 0) > 0 and policy != "noeviction":
        raise NotAdmitted(
            f"This Redis evicts keys when memory is short (maxmemory-policy {policy}), and keys are credits. "
            "Set it to noeviction."
        )
    apart_ms = await clocks_apart_ms(redis, clock_ms)
    if abs(apart_ms) > CLOCKS_APART_MS_MAX:
        raise NotAdmitted(
            f"Redis' clock is {abs(apart_ms) // 1000} s {'ahead of' if apart_ms > 0 else 'behind'} this "
            "machine's. Deadlines are judged by it, so it is not let in before one of the two is set right."
        )
    try:
        owner = await redis.hmget(keys.LEDGER, ["id", "shards"])
    except ResponseError as error:
        raise NotAdmitted(f"{keys.LEDGER} in this Redis is not what a ledger has written: {error}") from error
    if owner not in ([None, None], [ledger.encode(), str(shards).encode()]):
        raise _inhabited(f"{owner[0]!r} with {owner[1]!r} shards", f"{ledger} with {shards}")
    server: str = replication.get("master_replid", "")
    return server


async def clocks_apart_ms(redis: Redis, clock_ms: int) -> int:
    """How far Redis' clock is ahead of this machine's; negative: behind."""
    return await time_ms(redis) - clock_ms


def _inhabited(stranger: str, ledger: str) -> NotAdmitted:
    return NotAdmitted(
        f"Another ledger lives in this Redis: {stranger}; the database has {ledger}. "
        "Name the right one in LASTRO_REDIS_URL or LASTRO_DATABASE_URL."
    )


async def _info(redis: Redis, section: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = await redis.info(section)
    except ResponseError:  # a stand-in that has no INFO
        return {}
    return answer


async def write(redis: Redis, ledger: str, standing: Standing, sighting: Sighting) -> bool:
    """Tell a shard under which number it was admitted. `False`: it is no longer as it was seen."""
    arguments: list[str | int] = [ledger, sighting.server, sighting.sequence, sighting.link]
    lifted = sighting.fence if standing.fence is None else ""
    arguments += [standing.incarnation, standing.fence or "", lifted]
    return bool(
        await run(redis, scripts.load("admit"), [keys.meta(standing.shard)], arguments) == b"admitted"
    )


async def fence(redis: Redis, ledger: str, shard: int, why: str) -> None:
    """Make a shard refuse. One that refuses already keeps its reason; one that is not ours is left alone."""
    await run(redis, scripts.load("fence"), [keys.meta(shard)], [ledger, why])

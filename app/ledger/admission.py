"""Redis' half of the admission: look at a server, and write into it what the `judgement` is.

A server is admitted, not checked: whether the history that it shows is the one that the journal has a part of
is decided once, under PostgreSQL's lock, and then carried by a number (the incarnation) that every call
compares. The lock and the number are `persistence.admission`'s.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import structs
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from app.ledger import keys, scripts
from app.ledger.apart import Part, node_ms, of_nodes, of_shards, parts, this
from app.ledger.backing import NotAdmitted
from app.ledger.connection import LOST, Node, is_cluster, look_anew, nodes
from app.ledger.judgement import AWAY, Sighting, Standing
from app.ledger.running import run

CLOCKS_APART_MS_MAX = 600_000
"""A forward jump of Redis' clock ends holds for good, so a clock this far off is not let in."""

CLOCKS_APART_MS_HEALTHY = 60_000
"""From here on somebody should look at the two clocks."""

OF_A_CLUSTER = (
    "This Redis is a node of a cluster (cluster-enabled yes). Write redis+cluster:// instead of redis:// in "
    "LASTRO_REDIS_URL (rediss+cluster:// instead of rediss://), and name another Redis in LASTRO_QUEUE_URL."
)

NO_CLUSTER = (
    "This Redis is no cluster (cluster-enabled no). Write redis:// instead of redis+cluster:// in "
    "LASTRO_REDIS_URL (rediss:// instead of rediss+cluster://)."
)

_COUNT_MAX = 2**53 - 1

_PLAIN = re.compile(r"[\w-]+", re.ASCII)


async def survey(
    redis: Redis,
    ledger: str,
    standings: Sequence[Standing],
    *,
    apart: bool = False,
    away: Collection[int] = (),
) -> list[Sighting]:
    """Look at every shard, each in a moment of its own.

    Args:
        redis: Whom to look at.
        ledger: The id of the ledger that must live there, if any does.
        standings: Of the shards to look at.
        apart: Those whose server does not answer are `AWAY`, as long as any does.
        away: Those of which that is known; nobody is asked for them again.

    Raises:
        NotAdmitted: Two shards of one server were answered by different ones, or one is another ledger's.
        redis.exceptions.RedisError: A server does not answer.
    """
    following = {each.shard: each.cursor + 1 for each in standings if each.shard not in away}

    async def look(part: Part) -> list[Sighting]:
        script = scripts.load("survey")
        async with redis.pipeline(transaction=False) as looks:
            for shard in part.shards:
                looks.eval(script.text, 2, keys.meta(shard), keys.journal(shard), following[shard])
            replies: list[list[bytes]] = await looks.execute()
        return [_plain(reply) for reply in replies]

    seen = await of_shards(redis, list(following), look)
    if len(seen) < len(following) and not apart:
        raise RedisConnectionError(says_away(min(following.keys() - seen.keys())))
    sightings = [seen.get(each.shard, AWAY) for each in standings]
    if not is_cluster(redis) and len({each.server for each in sightings}) > 1:
        raise NotAdmitted("Redis was replaced by another server while it was looked at.")
    for stranger in {each.ledger for each in sightings} - {"", ledger}:
        raise _inhabited(stranger, ledger)
    return sightings


def says_away(shard: int) -> str:
    """That a shard is looked for in vain."""
    return f"The Redis node of shard {shard} does not answer."


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


async def demand_fit_server(redis: Redis, ledger: str, shards: int, clock_ms: int) -> list[str]:
    """Demand what holds for each server as a whole. Nothing is fenced for it: mending it is enough.

    Returns who has answered for each shard (its `master_replid`); empty where that is not told, or where one
    of several does not answer.

    Args:
        redis: Whom to ask.
        ledger: The id of the ledger that must live there, if any does.
        shards: How many it must have.
        clock_ms: This machine's clock.

    Raises:
        NotAdmitted: A replica, a server that evicts, a clock too far off, another ledger's server, or an
            address of a cluster that is none, and the other way round.
        redis.exceptions.RedisError: Nobody answers.
    """
    await demand_kind(redis)
    replids = await of_nodes(redis, lambda node: _demand_fit(redis, node, clock_ms))
    if "" in replids.values() and is_cluster(redis):  # somebody else has taken over there
        look_anew(redis)
        replids = await of_nodes(redis, lambda node: _demand_fit(redis, node, clock_ms))
    try:
        owner = await redis.hmget(keys.LEDGER, ["id", "shards"])
    except LOST:
        if not is_cluster(redis):
            raise
    except ResponseError as error:
        raise NotAdmitted(f"{keys.LEDGER} in this Redis is not what a ledger has written: {error}") from error
    else:
        if owner not in ([None, None], [ledger.encode(), str(shards).encode()]):
            raise _inhabited(f"{owner[0]!r} with {owner[1]!r} shards", f"{ledger} with {shards}")
    found = [""] * shards
    for part in await parts(redis, range(shards)):
        for shard in part.shards:
            found[shard] = replids.get(part.node.name, "")
    return found


async def demand_all(redis: Redis, shards: Sequence[int]) -> None:
    """Demand that the server of every shard answers.

    Raises:
        redis.exceptions.RedisError: One does not.
    """

    async def ping(part: Part) -> list[int]:
        return [await node_ms(redis, part.node)] * len(part.shards)

    there = await of_shards(redis, shards, ping)
    if silent := sorted(set(shards) - there.keys()):
        raise RedisConnectionError(says_away(silent[0]))


async def demand_kind(redis: Redis) -> None:
    """Demand that the address names what is there: a server, or a cluster.

    Raises:
        NotAdmitted: It is the other one.
        redis.exceptions.RedisError: Nobody answers.
    """
    if not is_cluster(redis):
        if (await _info(redis, Node("", {}), "cluster")).get("cluster_enabled"):
            raise NotAdmitted(OF_A_CLUSTER)
        return
    try:
        await nodes(redis)
    except RedisConnectionError as error:
        if not is_no_cluster(error):
            raise
        raise NotAdmitted(NO_CLUSTER) from error


def is_no_cluster(error: RedisConnectionError) -> bool:
    """Whether that is why the client of a cluster cannot connect; redis-py tells it in words only."""
    return "Cluster mode is not enabled" in str(error)


async def _demand_fit(redis: Redis, node: Node, clock_ms: int) -> str:
    """Its `master_replid`; empty also of a node that has become a replica."""
    replication, memory = await _info(redis, node, "replication"), await _info(redis, node, "memory")
    this_one = this(node)
    if replication.get("role", "master") != "master":
        if node.name:
            return ""
        raise NotAdmitted(f"{_begun(this_one)} is a replica. Name the primary in LASTRO_REDIS_URL.")
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory", 0) > 0 and policy != "noeviction":
        raise NotAdmitted(
            f"{_begun(this_one)} evicts keys when memory is short (maxmemory-policy {policy}), and keys are "
            "credits. Set it to noeviction."
        )
    apart_ms = await clock_apart_ms(redis, node, clock_ms)
    if abs(apart_ms) > CLOCKS_APART_MS_MAX:
        whose = f"The clock of {this_one}" if node.name else "Redis' clock"
        raise NotAdmitted(
            f"{whose} is {abs(apart_ms) // 1000} s {'ahead of' if apart_ms > 0 else 'behind'} this "
            "machine's. Deadlines are judged by it, so it is not let in before one of the two is set right."
        )
    server: str = replication.get("master_replid", "")
    return server


def _begun(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


async def clock_apart_ms(redis: Redis, node: Node, clock_ms: int) -> int:
    """How far a server's clock is ahead of this machine's; negative: behind."""
    return await node_ms(redis, node) - clock_ms


def _inhabited(stranger: str, ledger: str) -> NotAdmitted:
    return NotAdmitted(
        f"Another ledger lives in this Redis: {stranger}; the database has {ledger}. "
        "Name the right one in LASTRO_REDIS_URL or LASTRO_DATABASE_URL."
    )


async def _info(redis: Redis, node: Node, section: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = await redis.info(section, **node.only)
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

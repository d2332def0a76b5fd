"""How the two stores stand to each other: who is served, and what PostgreSQL lacks."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from app.ledger.acknowledgement import Acknowledgement
from app.ledger.admission import says_away, survey
from app.ledger.apart import of_nodes
from app.ledger.backing import NotAdmitted
from app.ledger.connection import Node
from app.ledger.findings import Finding
from app.ledger.judgement import Standing, is_numbered, strangeness
from persistence.doctor.words import listed
from persistence.lacking import Lacking, lacking
from persistence.pool import Pool, answering
from persistence.served import intrusions
from persistence.standings import LEDGER, read_strangers

OLD_SECONDS = 60.0
HALF_FULL, FULL = 0.5, 1.0
NAMED_MAX = 5


class Bounds(Struct, frozen=True, kw_only=True):
    """As set: what an answer waits for, from where on a shard takes on nothing new, and how long it is from
    one backup to the next.
    """

    acknowledgement: Acknowledgement = Acknowledgement()
    backlog_max: int = 1_000_000
    backlog_bytes_max: int = 268_435_456
    backup_seconds: int = 86_400


async def acknowledged(redis: Redis, level: Acknowledgement) -> Finding:
    """Whether this Redis can keep what an answer promises."""
    name = "acknowledgement"
    try:
        await level.demand(redis)
    except NotAdmitted as error:
        return Finding(name, "critical", str(error), "Until then nothing is served (docs/acknowledging.md).")
    if level.replicas:
        there = min((await of_nodes(redis, lambda node: _replicas(redis, node))).values())
        says = f"LASTRO_ACK=replicated={level.replicas}, and there are {there} replicas"
        if there < level.replicas:
            do = "Every movement is answered 503: start replicas, or choose another LASTRO_ACK."
            return Finding(name, "critical", says, do)
        return Finding(name, "ok", says)
    return Finding(name, "ok", f"LASTRO_ACK={'fsync' if level.fsync else 'memory'}")


async def _replicas(redis: Redis, node: Node) -> int:
    info: dict[str, Any] = await redis.info("replication", **node.only)
    return int(info.get("connected_slaves", 0))


async def admission(pool: Pool, redis: Redis, standings: Sequence[Standing]) -> Finding:
    """Whether this Redis is the one that is served; what is said of a fence is said there."""
    async with answering(pool) as connection:
        ledger, strangers = await connection.fetchval(LEDGER), await read_strangers(connection)
    try:
        sightings = await survey(redis, ledger, standings, apart=True)
    except NotAdmitted as error:
        return Finding("admission", "critical", str(error), "See there.")
    async with answering(pool) as connection:
        wrong = await intrusions(connection, standings, sightings, insisting=True)
    pairs = [each for each in zip(standings, sightings, strict=True) if each[0].fence is None]
    if not pairs:
        return Finding("admission", "ok", "every shard is fenced, so that nothing is served")
    for standing, sighting in pairs:
        if sighting.is_away:
            return Finding("admission", "critical", says_away(standing.shard), "See redis_cluster.")
        if why := strangeness(standing, sighting, strangers) or wrong.get(standing.shard):
            return Finding("admission", "critical", why, "See there.")
    other = [standing.shard for standing, sighting in pairs if not is_numbered(standing, sighting)]
    if other:
        says = f"Shards {listed(other)} are not admitted under PostgreSQL's number."
        do = "The next request admits them; if not, `lastro up`'s or the API's log says why."
        return Finding("admission", "warning", says, do)
    servers = ", ".join(dict.fromkeys(each.server[:12] for each in sightings))
    return Finding("admission", "ok", f"this Redis is the one that is served ({servers})")


async def backlog(redis: Redis, pool: Pool, bounds: Bounds) -> Finding:
    """What PostgreSQL lacks, by the fullest shards: entries, bytes, age."""
    found = [each for each in await lacking(redis, pool) if each.entries]
    worst = max((_full(each, bounds) for each in found), default=0.0)
    shown = "; ".join(
        f"shard {each.shard}: {each.entries:,} entries, {each.bytes:,} bytes, {each.age_seconds:.0f} s"
        for each in sorted(found, key=lambda each: (each.entries, each.shard), reverse=True)[:NAMED_MAX]
    )
    total = sum(each.entries for each in found)
    says = f"{total:,} entries that PostgreSQL lacks" + (f" ({shown})" if shown else "")
    if worst < HALF_FULL:
        return Finding("backlog", "ok", says)
    do = "Are workers at work, and is PostgreSQL fast enough? At the bound new work is refused."
    return Finding("backlog", "critical" if worst >= FULL else "warning", says, do)


def _full(shard: Lacking, bounds: Bounds) -> float:
    old = HALF_FULL if shard.age_seconds > OLD_SECONDS else 0.0
    return max(old, shard.fullness(bounds.backlog_max, bounds.backlog_bytes_max))

"""Until when all that happened is counted: what is counted is held against what Redis has.

The moment is written down by who counts, so that it stands still when nobody counts, and is told also while
Redis is away.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from asyncpg import Record
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.apart import Part, of_shards
from persistence.pool import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Seen(NamedTuple):
    """What a shard's meta says: under which number it was admitted, and its last entry."""

    ledger: str
    incarnation: int
    sequence: int
    oldest_ms: int
    """When the first entry happened that it believes not to be in PostgreSQL; 0: there is none."""
    at: datetime
    """The moment in which it said so, by its server's own clock."""


class Look(NamedTuple):
    """Redis at a moment of its own clock; of several, at the earliest of their moments. `shards`: those whose
    meta can be read.
    """

    at: datetime
    shards: dict[int, Seen]


async def look(redis: Redis, shards: int) -> Look | None:
    """What Redis has now; `None`: it does not answer."""

    async def of(part: Part) -> list[tuple[datetime, list[Any]]]:
        seconds, micros = await redis.time(**part.node.only)  # before the metas: they have all until then
        async with redis.pipeline(transaction=False) as looks:
            for shard in part.shards:
                looks.hmget(keys.meta(shard), ["ledger", "incarnation", "sequence", "oldest_ms"])
            metas = await looks.execute()
        at = _EPOCH + timedelta(seconds=seconds, microseconds=micros)
        return [(at, meta) for meta in metas]

    try:
        found = await of_shards(redis, range(shards), of)
    except (RedisError, OSError, TimeoutError):
        return None
    seen = {shard: its for shard, (at, meta) in found.items() if (its := _seen(at, meta)) is not None}
    return Look(min(at for at, _ in found.values()), seen) if found else None


def _seen(at: datetime, meta: list[Any]) -> Seen | None:
    ledger, *numbers = (each.decode() if each is not None else "" for each in meta)
    incarnation, sequence, oldest_ms = (int(each) if each.isdecimal() else None for each in numbers)
    if incarnation is None or sequence is None:
        return None
    return Seen(ledger, incarnation, sequence, oldest_ms or 0, at)


# `at`: of the first entry that is in the journal and not counted.
STANDINGS = """
SELECT shards.shard, ledger.id::text AS ledger, shards.incarnation, coalesce(counted.seq, 0) AS seq,
  journal.at
FROM ledger, shards LEFT JOIN usage_cursors AS counted USING (shard)
LEFT JOIN journal ON journal.shard = shards.shard AND journal.seq = coalesce(counted.seq, 0) + 1
"""

# It never goes back.
NOTE = "UPDATE usage_state SET as_of = $1 WHERE as_of IS NULL OR as_of < $1"


async def note_reach(connection: Connection, seen: Look | None) -> None:
    """Write down until when all that happened is counted, as far as that can be told.

    Args:
        connection: After what could be counted was.
        seen: From before that.
    """
    moments = []
    for row in await connection.fetch(STANDINGS):
        moment = row["at"] or _complete_until(seen, row)
        if moment is None:
            return
        moments.append(moment)
    if moments:
        await connection.execute(NOTE, min(moments))


def _complete_until(seen: Look | None, row: Record) -> datetime | None:
    """Until when Redis has nothing of a shard that is not counted; `None`: that is not known."""
    its = None if seen is None else seen.shards.get(row["shard"])
    if seen is None or its is None or (its.ledger, its.incarnation) != (row["ledger"], row["incarnation"]):
        return None
    if its.sequence <= row["seq"]:
        return its.at
    return _EPOCH + timedelta(milliseconds=its.oldest_ms) if its.oldest_ms else None

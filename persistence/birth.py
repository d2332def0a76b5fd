"""How a ledger comes into being: once, on purpose, and only where there is nothing.

First PostgreSQL has the ledger's row, not yet born, and a row for each shard; then Redis gets the ledger's id
and an empty meta for each shard; last of all the ledger is born. A birth that was cut off anywhere is
finished by the next attempt. A ledger that has been born is never born again: a Redis without it has lost
data, and that is a matter of restoring, not of founding. One that is fenced and not born is being imported.
"""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

from redis.asyncio import Redis

from app.ledger import keys, scripts
from app.ledger.admission import demand_kind
from app.ledger.apart import each_key
from app.ledger.backing import NotAdmitted
from app.ledger.connection import connect as connect_redis
from app.ledger.entries import genesis
from app.ledger.running import run
from app.ledger.shards import SHARDS_MAX
from persistence.pool import Connection
from persistence.session import connect

ADVISORY_LOCK = 0x6C617374726F02  # "lastro", 2; of whoever founds a ledger, or imports one

Barrier = Callable[[str], Awaitable[None]]
"""Called by name between the steps; tests stop a process there."""


class BirthRefused(Exception):
    """One of the stores is not empty, or they disagree. Nothing was overwritten; the text says what to do."""


async def past(_step: str) -> None:
    """The barrier of everyday."""
    await asyncio.sleep(0)


class RedisLost(BirthRefused):
    """A born ledger's Redis has nothing of it, or is another ledger's: no birth is due, and none is made."""

    def __init__(self, ledger: UUID, why: str) -> None:
        super().__init__(why)
        self.ledger = ledger


async def give_birth(database_url: str, redis_url: str, shards: int, *, barrier: Barrier = past) -> UUID:
    """Found the ledger in both stores and return its id; one that stands in both already is left as it is.

    Args:
        database_url: A migrated database.
        redis_url: Other keys than ours may live there.
        shards: 1 .. 4096, for ever.
        barrier: `after ledger row`, `after ledger key`, `after meta <shard>`.

    Raises:
        BirthRefused: See there.
    """
    if not 1 <= shards <= SHARDS_MAX:
        raise BirthRefused(f"LASTRO_SHARDS is {shards}; a ledger has 1 to {SHARDS_MAX} shards.")
    redis = connect_redis(redis_url)
    connection = await connect(database_url, name="lastro birth")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
        await _demand_kind(redis)
        return await _give_birth(connection, redis, shards, barrier)
    finally:
        await connection.close()
        await redis.aclose()


async def _demand_kind(redis: Redis) -> None:
    try:
        await demand_kind(redis)
    except NotAdmitted as error:
        raise BirthRefused(str(error)) from error


LEDGER = "SELECT id, shards, born FROM ledger"

FENCE = "SELECT fence FROM shards WHERE fence IS NOT NULL LIMIT 1"

BORN = "UPDATE ledger SET born = true"


async def _give_birth(connection: Connection, redis: Redis, shards: int, barrier: Barrier) -> UUID:
    row = await connection.fetchrow(LEDGER)
    if row is None:
        await _demand_redis_without(redis, but_for=set())
        ledger = await _found(connection, shards)
    else:
        ledger = UUID(bytes=row["id"].bytes)
        if row["shards"] != shards:
            raise BirthRefused(
                f"This ledger has {row['shards']} shards, fixed at its birth; LASTRO_SHARDS says {shards}. "
                f"Set it to {row['shards']}."
            )
        if not row["born"] and (fence := await connection.fetchval(FENCE)):
            raise BirthRefused(fence)
        if row["born"]:
            await _demand_this_ledger(redis, ledger, shards)
            return ledger
    await barrier("after ledger row")
    await _demand_redis_without(redis, but_for={keys.LEDGER, *map(keys.meta, range(shards))})
    await _place(redis, ledger, shards, barrier)
    await connection.execute(BORN)
    return ledger


UNTOUCHED = "SELECT NOT EXISTS (SELECT FROM journal) AND NOT EXISTS (SELECT FROM shards)"

FOUND = "INSERT INTO ledger (id, shards) VALUES ($1, $2)"

FOUND_SHARDS = "INSERT INTO shards (shard, head) SELECT * FROM unnest($1::integer[], $2::bytea[])"


async def _found(connection: Connection, shards: int) -> UUID:
    ledger = uuid4()
    async with connection.transaction():
        if not await connection.fetchval(UNTOUCHED):
            raise BirthRefused(
                "This database has a journal but no ledger. It is a part of some other ledger's: "
                "name an empty database in LASTRO_DATABASE_URL."
            )
        await connection.execute(FOUND, ledger, shards)
        numbers = list(range(shards))
        await connection.execute(FOUND_SHARDS, numbers, [genesis(ledger.bytes, shard) for shard in numbers])
    return ledger


async def _place(redis: Redis, ledger: UUID, shards: int, barrier: Barrier) -> None:
    """Write the ledger into Redis. What an earlier attempt at this birth has written is left as it is."""
    for field, value in {"id": str(ledger), "shards": str(shards)}.items():
        await redis.hsetnx(keys.LEDGER, field, value)
        if await redis.hget(keys.LEDGER, field) != value.encode():
            raise _taken()
    await barrier("after ledger key")
    script = scripts.load("birth")
    for shard in range(shards):
        if await run(redis, script, [keys.meta(shard), keys.journal(shard)], [str(ledger)]) != b"born":
            raise _taken()
        await barrier(f"after meta {shard}")


async def _demand_redis_without(redis: Redis, *, but_for: set[str]) -> None:
    """Demand that Redis has no key of any ledger, but for those that an earlier attempt may have made."""
    async for key in each_key(redis, keys.SCAN_ALL):
        if key.decode() not in but_for:
            raise _taken()


async def _demand_this_ledger(redis: Redis, ledger: UUID, shards: int) -> None:
    """A born ledger's Redis is looked at only to tell the operator early; the admission judges it."""
    async with redis.pipeline(transaction=False) as looks:
        looks.hget(keys.LEDGER, "id")
        for shard in range(shards):
            looks.hget(keys.meta(shard), "ledger")
        found = [each.decode() if each else None for each in await looks.execute()]
    if not any(found):
        raise RedisLost(
            ledger,
            f"Ledger {ledger} was born before, and this Redis has nothing of it: it has lost its data, or "
            "LASTRO_REDIS_URL names another one. A ledger is not born twice: bring its own Redis back, or "
            "run `lastro restore`, which fills this one from the journal.",
        )
    if any(each not in (None, str(ledger)) for each in found):
        raise RedisLost(
            ledger,
            f"This Redis holds another ledger than {ledger} of this database. Name the right one in "
            "LASTRO_REDIS_URL or LASTRO_DATABASE_URL.",
        )


def _taken() -> BirthRefused:
    return BirthRefused(
        "This Redis has keys under lastro: that do not belong to this database. Name an empty Redis in "
        "LASTRO_REDIS_URL, or the database of the ledger that lives there in LASTRO_DATABASE_URL."
    )

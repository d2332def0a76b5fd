"""Rolls forward what is merely behind the journal: one shard a transaction, so that others need not wait."""

import logging
import time
from collections.abc import Collection

from msgspec import structs
from redis.asyncio import Redis

from app.ledger.admission import survey
from app.ledger.connection import LOST, is_cluster
from app.ledger.judgement import UNTIL, lags, strangeness
from app.ledger.loading import Moved
from persistence.admission_steps import Barrier, past
from persistence.pool import Connection, Pool
from persistence.rolling import CannotRoll, is_prefix, roll_forward
from persistence.standings import locking, put_up, read_standings, read_strangers

log = logging.getLogger(__name__)

SECONDS_MAX = 600.0
"""Of one shard; whoever meets its lock goes on with the other shards."""

_ADVISORY_CLASS = 0x6C617372  # "lasr"; the second number is the shard


async def catch_up(
    pool: Pool,
    redis: Redis,
    ledger: str,
    shards: Collection[int],
    *,
    though_fenced: bool = False,
    barrier: Barrier = past,
) -> bool:
    """Roll forward those of `shards` that are merely behind. Returns whether anything has changed.

    What another process is rolling forward already is left to it.

    Args:
        pool: Of a born ledger.
        redis: Whose shards.
        ledger: Its id.
        shards: Those that seem to be behind.
        though_fenced: Also what PostgreSQL has fenced, but for a restore that was begun.
        barrier: `after rolling lock`, those of `roll_forward`, `after rolling`.
    """
    changed = False
    for shard in shards:
        try:
            async with locking(pool, SECONDS_MAX) as connection:
                changed |= await _catch_up(
                    connection, redis, ledger, shard, though_fenced=though_fenced, barrier=barrier
                )
        except Moved as error:
            log.warning("rolling forward begins again: %s", error)
            changed = True
        except LOST as error:
            if not is_cluster(redis):
                raise
            log.warning("shard %d is not rolled forward: %s", shard, error)
    return changed


ALONE = "SELECT pg_try_advisory_xact_lock($1::integer, $2::integer)"

LOCK_ONE = "SELECT FROM shards WHERE shard = $1 FOR UPDATE"


async def _catch_up(
    connection: Connection, redis: Redis, ledger: str, shard: int, *, though_fenced: bool, barrier: Barrier
) -> bool:
    if not await connection.fetchval(ALONE, _ADVISORY_CLASS, shard):
        return False
    await connection.execute(LOCK_ONE, shard)
    (standing,) = [each for each in await read_standings(connection) if each.shard == shard]
    await barrier("after rolling lock")
    (sighting,) = await survey(redis, ledger, [standing])
    if though_fenced:
        if standing.fenced_by == "restore":
            return False
        sighting = structs.replace(sighting, fence="")
    elif standing.fence is not None or strangeness(standing, sighting, await read_strangers(connection)):
        return True
    if not lags(standing, sighting) or not await is_prefix(connection, standing, sighting):
        return True
    entries, began = standing.cursor - int(sighting.sequence), time.monotonic()
    log.warning("shard %d is %d entries behind the journal and is rolled forward", shard, entries)
    try:
        await roll_forward(connection, redis, ledger, standing, sighting, barrier=barrier)
    except CannotRoll as error:
        await put_up(connection, shard, f"{error} {UNTIL}", sighting.server)
        log.error("shard %d is fenced: %s", shard, error)  # noqa: TRY400 - it is a finding, not a bug
    else:
        seconds = time.monotonic() - began
        log.warning("shard %d was rolled forward: %d entries in %.2f s", shard, entries, seconds)
    await barrier("after rolling")
    return True

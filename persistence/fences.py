"""The operator's fences: put up by hand for planned work, and taken down only where Redis is found whole.

A fence is put up in PostgreSQL first, so that it outlives every Redis, then in Redis, so that no call is let
in from that moment on; processes follow within a second. Taking it down never just clears it: under the lock
each shard is judged again as if its Redis had never been seen. What the judgement leaves behind is one
number (`lifted`), below which a fence in Redis means nothing any more; the admission that follows lifts the
fence there, whoever makes it, so that an unfence may be cut off anywhere.
"""

import logging
from collections.abc import Callable, Collection
from typing import NamedTuple

from msgspec import structs
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger.admission import demand_fit_server, says_away, survey
from app.ledger.admission import fence as fence_in_redis
from app.ledger.alike import named
from app.ledger.judgement import Sighting, Standing, fault, strangeness
from persistence.admission import admit, this_machines_clock_ms
from persistence.admission_steps import Barrier, past
from persistence.catching_up import catch_up
from persistence.operators import BY_OPERATOR, MEANWHILE
from persistence.pool import Connection, Pool, answering
from persistence.standings import ledger_id, lock_shards, locking, read_standings, read_strangers, record

log = logging.getLogger(__name__)


class FenceRefused(Exception):
    """What was asked for is not done; the text says why and what to do."""


class Fenced(NamedTuple):
    """A shard that refuses. `by`: admission, journal, operator, restore or reconciliation."""

    shard: int
    why: str
    by: str


class Opening(NamedTuple):
    """What an unfence has come to. `stays`: shards that still refuse, and why."""

    opened: list[int]
    stays: dict[int, str]


FENCES = (
    "SELECT shard, fence, coalesce(fenced_by, 'admission') FROM shards WHERE fence IS NOT NULL ORDER BY shard"
)


async def fences(pool: Pool) -> list[Fenced]:
    """The shards that PostgreSQL has fenced."""
    async with answering(pool) as connection:
        return [Fenced(*row) for row in await connection.fetch(FENCES)]


FENCE = """
UPDATE shards SET fence = $2, fenced_at = now(), fenced_by = 'operator'
WHERE shard = ANY ($1::integer[]) AND fence IS NULL
RETURNING shard
"""

# A restore's own fence goes when it is done; what the operator wants then is kept with it.
REMEMBER = """
UPDATE shards SET fence = fence || $2 || $3
WHERE shard = ANY ($1::integer[]) AND fenced_by = 'restore' AND position($2 IN fence) = 0
"""


async def fence(
    pool: Pool, redis: Redis, shards: Collection[int] | None, reason: str, *, barrier: Barrier = past
) -> list[int]:
    """Make shards refuse, in both stores. Returns those that did not before; the others keep their reason.
    One that is being restored stays fenced by the operator when that is done.

    Args:
        pool: Of a born ledger.
        redis: May be away: PostgreSQL's fence is enough, and reaches every process within a second or two.
        shards: `None`: all of them.
        reason: In words, for whoever is refused.
        barrier: `after fence`: PostgreSQL has it, Redis not yet.

    Raises:
        FenceRefused: There is no such shard.
    """
    why = f"{BY_OPERATOR}{reason.strip().rstrip('.')}. `lastro unfence` opens it again."
    ledger, all_shards = await ledger_of(pool)
    wanted = _wanted(shards, all_shards)
    async with locking(pool) as connection:
        new = sorted(row["shard"] for row in await connection.fetch(FENCE, wanted, why))
        await connection.execute(REMEMBER, wanted, MEANWHILE, why)
    await barrier("after fence")
    try:
        for each in await fences(pool):
            if each.shard in wanted:
                await fence_in_redis(redis, ledger, each.shard, each.why)
    except (RedisError, OSError) as error:
        log.warning("Redis is away and learns of the fence when it is admitted again: %s", error)
    return new


async def unfence(
    pool: Pool,
    redis: Redis,
    shards: Collection[int] | None,
    reason: str,
    *,
    clock_ms: Callable[[], int] = this_machines_clock_ms,
    barrier: Barrier = past,
) -> Opening:
    """Open the shards that this Redis can be served from, and no others.

    Args:
        pool: Of a born ledger.
        redis: The one that shall be served from now on, whoever was before.
        shards: `None`: all of them. Those that are open stay as they are.
        reason: For the log.
        clock_ms: This machine's clock.
        barrier: `after lock`, `after lifting`, and the admission's own.

    Raises:
        FenceRefused: There is no such shard.
        NotAdmitted: This Redis is not fit, or another ledger's.
    """
    ledger, all_shards = await ledger_of(pool)
    wanted = _wanted(shards, all_shards)
    await demand_fit_server(redis, ledger, len(all_shards), clock_ms())
    fenced = [each.shard for each in await fences(pool) if each.shard in wanted]
    await catch_up(pool, redis, ledger, fenced, though_fenced=True, barrier=barrier)
    stays: dict[int, str] = {}
    lifted: list[int] = []
    async with locking(pool) as connection:
        await lock_shards(connection)
        standings = await read_standings(connection)
        strangers = await read_strangers(connection)
        await barrier("after lock")
        sightings = await survey(redis, ledger, standings, apart=True)
        for standing, sighting in zip(standings, sightings, strict=True):
            if standing.shard not in wanted or not (standing.fence or sighting.fence):
                continue
            why = _why_it_stays(standing, sighting, strangers)
            if why is None:
                await lift(connection, standing, sighting)
                lifted.append(standing.shard)
            else:
                stays[standing.shard] = why
    await barrier("after lifting")
    if lifted:
        log.warning("the fences of %s are lifted: %s", named(lifted), reason)
    # The second look brings to Redis what somebody may have fenced anew while the first one was lifting.
    await admit(pool, redis, clock_ms=clock_ms, barrier=barrier)
    terms = await admit(pool, redis, clock_ms=clock_ms, barrier=barrier)
    stays |= {shard: terms.fences[shard] for shard in lifted if shard in terms.fences}
    return Opening([shard for shard in lifted if shard not in terms.fences], stays)


def _why_it_stays(standing: Standing, sighting: Sighting, strangers: Collection[str]) -> str | None:
    if sighting.is_away:
        return says_away(standing.shard)
    if standing.fence is None and (why := strangeness(standing, sighting, strangers)):
        return why
    if standing.fenced_by == "restore":
        return f"{standing.fence} A restore of shard {standing.shard} was begun: run `lastro restore`."
    return fault(standing, structs.replace(sighting, fence=""))


LIFT = """
UPDATE shards
SET fence = NULL, fenced_at = NULL, fenced_by = NULL, fenced_server = NULL, incarnation = $2, lifted = $2
WHERE shard = $1
"""

REFUSE = """
INSERT INTO refused_servers (server, why)
SELECT fenced_server, fence FROM shards WHERE shard = $1 AND fenced_server NOT IN ('', $2)
ON CONFLICT (server) DO NOTHING
"""

GO_ON = "DELETE FROM refused_servers WHERE server = $1"

IS_NO_INTRUDER = "DELETE FROM intruders WHERE server = $1"


async def lift(connection: Connection, standing: Standing, sighting: Sighting) -> None:
    """Give this server the next number, so that it is nobody's old side, and refuse who was at fault."""
    shard, server = standing.shard, sighting.server
    number = max(standing.incarnation, int(sighting.incarnation)) + 1
    await connection.execute(REFUSE, shard, server)
    await connection.execute(GO_ON, server)
    await connection.execute(IS_NO_INTRUDER, server)
    await connection.execute(LIFT, shard, number)
    await record(connection, [(shard, number, server, int(sighting.sequence), sighting.link)])


SHARDS = "SELECT shard FROM shards ORDER BY shard"


async def ledger_of(pool: Pool) -> tuple[str, list[int]]:
    """The id of the born ledger, and its shards."""
    async with answering(pool) as connection:
        ledger = await ledger_id(connection)
        return ledger, [row["shard"] for row in await connection.fetch(SHARDS)]


def _wanted(shards: Collection[int] | None, all_shards: Collection[int]) -> list[int]:
    if shards is None:
        return list(all_shards)
    if missing := sorted(set(shards) - set(all_shards)):
        raise FenceRefused(f"There is no shard {missing[0]}; this ledger has 0 to {len(all_shards) - 1}.")
    return sorted(set(shards))

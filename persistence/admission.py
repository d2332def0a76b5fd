"""PostgreSQL's half of the admission: the lock, the number, the fences.

One transaction holds the rows of `shards` while Redis is looked at and judged, so that of two processes that
admit two servers one is later, and the later one's number is higher. The number is committed before Redis
learns of it: whoever dies in between leaves a number that nobody serves under, and the next admission takes a
higher one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import asyncpg
from msgspec import structs
from redis.asyncio import Redis

from app.ledger.admission import (
    Sighting,
    Standing,
    demand_fit_server,
    fault,
    fence,
    is_numbered,
    survey,
    unreadable,
    write,
)
from app.ledger.backing import BackingUnavailable, NotAdmitted, Terms
from persistence.pool import Connection, Pool, answering

ATTEMPTS_MAX = 8
SECONDS_MAX = 10.0

Barrier = Callable[[str], Awaitable[None]]
"""Called with the name of the step that was just done; tests stop a process there."""


async def past(_step: str) -> None:
    """The barrier of everyday."""


def this_machines_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class _Judged(NamedTuple):
    """What both stores show, in the order of the shards, and which shards get a new number."""

    ledger: str
    standings: list[Standing]
    sightings: list[Sighting]
    raised: set[int]

    @property
    def terms(self) -> Terms:
        return Terms(
            ledger=self.ledger,
            server=self.sightings[0].server,
            incarnations=[each.incarnation for each in self.standings],
            fences={each.shard: each.fence for each in self.standings if each.fence is not None},
        )


async def admit(
    pool: Pool,
    redis: Redis,
    *,
    clock_ms: Callable[[], int] = this_machines_clock_ms,
    barrier: Barrier = past,
) -> Terms:
    """The terms under which this Redis is served, after admitting it where nobody has.

    A shard that cannot be served is fenced in both stores and named in `Terms.fences`; the others go on. To
    be called at any time and from anywhere: shards that are admitted are left as they are.

    Args:
        pool: Of a database with a born ledger.
        redis: The primary; its retries are off.
        clock_ms: This machine's clock.
        barrier: `after lock`, `after commit`.

    Raises:
        NotAdmitted: The server as a whole is not fit, or is not this ledger's. Nothing was written.
        BackingUnavailable: PostgreSQL is away.
        redis.exceptions.RedisError: Redis is away.
    """
    for _ in range(ATTEMPTS_MAX):
        ledger, standings = await _standings(pool)
        await demand_fit_server(redis, ledger, len(standings), clock_ms())
        sightings = await survey(redis, ledger, standings)
        judged = _Judged(ledger, standings, sightings, set())
        if any(map(_is_open, standings, sightings)):
            judged = await _judge(pool, redis, ledger, barrier)
            await barrier("after commit")
        if await _tell(redis, judged):
            return judged.terms
    raise NotAdmitted("Other processes keep admitting this Redis at the same moment; this one tries again.")


def _is_open(standing: Standing, sighting: Sighting) -> bool:
    """Whether the shard has to be judged, because its terms cannot be adopted as they are."""
    if is_numbered(standing, sighting):
        return standing.fence is None and sighting.fence != ""
    return standing.fence is None or unreadable(standing, sighting) is None


LEDGER = "SELECT id::text AS id, shards FROM ledger WHERE born"

STANDINGS = "SELECT shard, cursor, link, incarnation, fence FROM shards ORDER BY shard"

LOCKED_STANDINGS = STANDINGS + " FOR UPDATE"

# A process that is stopped while it holds the lock must not stop the ledger.
PATIENCE = "SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'"

RAISE = """
UPDATE shards SET incarnation = new.incarnation
FROM unnest($1::integer[], $2::bigint[]) AS new (shard, incarnation)
WHERE shards.shard = new.shard
"""

FENCE = "UPDATE shards SET fence = $2, fenced_at = now() WHERE shard = $1 AND fence IS NULL"


async def _standings(pool: Pool) -> tuple[str, list[Standing]]:
    async with answering(pool) as connection:
        ledger = await connection.fetchrow(LEDGER)
        if ledger is None:
            raise NotAdmitted("This database has no ledger yet. Run `lastro migrate`.")
        return ledger["id"], await _read(connection, STANDINGS)


async def _read(connection: Connection, query: str) -> list[Standing]:
    return [Standing(*row) for row in await connection.fetch(query)]


async def _judge(pool: Pool, redis: Redis, ledger: str, barrier: Barrier) -> _Judged:
    """Under the lock look again, and fence or number whatever cannot be adopted."""
    try:
        async with answering(pool, SECONDS_MAX) as connection, connection.transaction():
            await connection.execute(PATIENCE)
            standings = await _read(connection, LOCKED_STANDINGS)
            await barrier("after lock")
            sightings = await survey(redis, ledger, standings)
            verdicts = list(map(_verdict, standings, sightings))
            for before, after in zip(standings, verdicts, strict=True):
                if after.fence != before.fence:
                    await connection.execute(FENCE, after.shard, after.fence)
            raised = [
                after
                for before, after in zip(standings, verdicts, strict=True)
                if after.incarnation != before.incarnation
            ]
            numbers = [each.incarnation for each in raised]
            await connection.execute(RAISE, [each.shard for each in raised], numbers)
    except (asyncpg.LockNotAvailableError, asyncpg.IdleInTransactionSessionTimeoutError) as error:
        raise BackingUnavailable(f"PostgreSQL kept the shards locked for another process: {error}") from error
    return _Judged(ledger, verdicts, sightings, {each.shard for each in raised})


def _verdict(standing: Standing, sighting: Sighting) -> Standing:
    if not _is_open(standing, sighting):
        return standing
    why = standing.fence or fault(standing, sighting)
    number = standing.incarnation
    if not is_numbered(standing, sighting) and unreadable(standing, sighting) is None:
        number = max(number, int(sighting.incarnation)) + 1
    return structs.replace(standing, incarnation=number, fence=why)


async def _tell(redis: Redis, judged: _Judged) -> bool:
    """Bring to Redis what PostgreSQL has. `False`: Redis has moved on since, and everything begins again."""
    told = True
    for standing, sighting in zip(judged.standings, judged.sightings, strict=True):
        if standing.shard in judged.raised:
            told &= await write(redis, judged.ledger, standing, sighting)
        elif standing.fence is not None and not sighting.fence:
            await fence(redis, judged.ledger, standing.shard, standing.fence)
    return told


def amended(terms: Terms, standings: Sequence[Standing]) -> Terms | None:
    """The terms with what PostgreSQL says now: higher numbers, and its fences. `None`: nothing is new."""
    numbers = [max(own, each.incarnation) for own, each in zip(terms.incarnations, standings, strict=True)]
    fences = {each.shard: each.fence for each in standings if each.fence is not None}
    if numbers == terms.incarnations and fences == terms.fences:
        return None
    return Terms(ledger=terms.ledger, server=terms.server, incarnations=numbers, fences=fences)


async def watch(
    pool: Pool,
    current: Callable[[], Terms | None],
    adopt: Callable[[Terms], None],
    *,
    interval_seconds: float = 1.0,
) -> None:
    """Until cancelled, bring what other processes have admitted or fenced into this one.

    A process on the wrong side of a split keeps reaching its old Redis, and learns only here that another one
    has been admitted: from then on its calls name a number that the old Redis does not have. While PostgreSQL
    is away the process goes on under the terms that it has.
    """
    while True:
        await asyncio.sleep(interval_seconds)
        terms = current()
        if terms is None:
            continue
        try:
            async with answering(pool) as connection:
                changed = amended(terms, await _read(connection, STANDINGS))
        except BackingUnavailable:
            continue
        if changed is not None:
            adopt(changed)

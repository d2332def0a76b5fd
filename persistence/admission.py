"""PostgreSQL's half of the admission: the lock, the number, the fences.

One transaction holds the rows of `shards` while Redis is looked at and judged, so that of two processes that
admit two servers one is later, and the later one's number is higher. The number is committed before Redis
learns of it: whoever dies in between leaves a number that nobody serves under, and the next admission takes a
higher one.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
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
    strangeness,
    survey,
    unreadable,
    write,
)
from app.ledger.backing import BackingUnavailable, NotAdmitted, Terms
from persistence.admission_steps import Barrier, past
from persistence.pool import Connection, Pool, answering

log = logging.getLogger(__name__)

__all__ = ["Barrier", "admit", "amended", "locking", "past", "watch"]

ATTEMPTS_MAX = 8
SECONDS_MAX = 10.0


def this_machines_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class _Judged(NamedTuple):
    """What both stores show, in the order of the shards.

    `raised` are the shards that get a new number, `refused` those for which this server is the wrong one,
    with why: they are refused here, and fenced nowhere.
    """

    ledger: str
    standings: list[Standing]
    sightings: list[Sighting]
    raised: Collection[int]
    refused: dict[int, str]

    @property
    def terms(self) -> Terms:
        fences = {each.shard: each.fence for each in self.standings if each.fence is not None}
        return Terms(
            ledger=self.ledger,
            server=self.sightings[0].server,
            incarnations=[each.incarnation for each in self.standings],
            fences=self.refused | fences,
            refused=frozenset(self.refused.keys() - fences.keys()),
        )


async def admit(
    pool: Pool,
    redis: Redis,
    *,
    clock_ms: Callable[[], int] = this_machines_clock_ms,
    barrier: Barrier = past,
) -> Terms:
    """The terms under which this Redis is served, after admitting it where nobody has.

    A shard that cannot be served is fenced in both stores and named in `Terms.fences`; the others go on. A
    shard for which another Redis has been admitted is named there too, and fenced nowhere. To be called at
    any time and from anywhere: shards that are admitted are left as they are.

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
        ledger, standings, strangers = await _standings(pool)
        await demand_fit_server(redis, ledger, len(standings), clock_ms())
        sightings = await survey(redis, ledger, standings)
        judged = _Judged(ledger, standings, sightings, (), _refused(standings, sightings, strangers))
        if any(_is_open(*each, judged.refused) for each in zip(standings, sightings, strict=True)):
            judged = await _judge(pool, redis, ledger, strangers, barrier)
            await barrier("after commit")
        if await _tell(redis, judged):
            return judged.terms
    raise NotAdmitted("Other processes keep admitting this Redis at the same moment; this one tries again.")


def _refused(
    standings: Sequence[Standing], sightings: Sequence[Sighting], strangers: Collection[str]
) -> dict[int, str]:
    found = {
        standing.shard: strangeness(standing, sighting, strangers)
        for standing, sighting in zip(standings, sightings, strict=True)
    }
    return {shard: why for shard, why in found.items() if why is not None}


def _is_open(standing: Standing, sighting: Sighting, refused: Collection[int]) -> bool:
    """Whether the shard has to be judged, because its terms cannot be adopted as they are."""
    if standing.shard in refused:
        return False
    if is_numbered(standing, sighting):
        return standing.fence is None and sighting.fence != ""
    return standing.fence is None or unreadable(standing, sighting) is None


LEDGER = "SELECT id::text AS id, shards FROM ledger WHERE born"

STANDINGS = """
SELECT s.shard, s.cursor, s.link, s.incarnation, s.fence, s.fenced_by, s.lifted, coalesce(i.server, '')
FROM shards s LEFT JOIN incarnations i USING (shard, incarnation) ORDER BY s.shard
"""

LOCK = "SELECT FROM shards ORDER BY shard FOR UPDATE"

STRANGERS = "SELECT server FROM refused_servers"

# A process that is stopped while it holds the lock must not stop the ledger.
PATIENCE = "SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'"

RAISE = """
UPDATE shards SET incarnation = new.incarnation
FROM unnest($1::integer[], $2::bigint[]) AS new (shard, incarnation)
WHERE shards.shard = new.shard
"""

RECORD = """
INSERT INTO incarnations (shard, incarnation, server, sequence, link)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::text[])
ON CONFLICT (shard, incarnation) DO UPDATE
SET server = excluded.server, sequence = excluded.sequence, link = excluded.link, admitted_at = now()
"""

FENCE = """
UPDATE shards SET fence = $2, fenced_at = now(), fenced_by = 'admission', fenced_server = $3
WHERE shard = $1 AND fence IS NULL
"""


async def _standings(pool: Pool) -> tuple[str, list[Standing], set[str]]:
    """The ledger's id, what PostgreSQL has of each shard, and the servers that fence nobody any more."""
    async with answering(pool) as connection:
        ledger = await connection.fetchrow(LEDGER)
        if ledger is None:
            raise NotAdmitted("This database has no ledger yet. Run `lastro migrate`.")
        return ledger["id"], await read_standings(connection), await read_strangers(connection)


async def read_strangers(connection: Connection) -> set[str]:
    """The servers that were at fault when the operator went on with another one."""
    return {row["server"] for row in await connection.fetch(STRANGERS)}


async def read_standings(connection: Connection, *, lock: bool = False) -> list[Standing]:
    """What PostgreSQL has of every shard; locked until the transaction ends, if asked for."""
    if lock:  # first, because a join that has waited for a lock shows its other side as it was before
        await connection.execute(LOCK)
    return [Standing(*row) for row in await connection.fetch(STANDINGS)]


@asynccontextmanager
async def locking(pool: Pool, seconds: float = SECONDS_MAX) -> AsyncIterator[Connection]:
    """A transaction that waits for locks, and is itself waited for, for a bounded time.

    Raises:
        BackingUnavailable: PostgreSQL is away, or somebody else kept the lock.
    """
    try:
        async with answering(pool, seconds) as connection, connection.transaction():
            await connection.execute(PATIENCE)
            yield connection
    except (asyncpg.LockNotAvailableError, asyncpg.IdleInTransactionSessionTimeoutError) as error:
        raise BackingUnavailable(f"PostgreSQL kept the shards locked for another process: {error}") from error


async def record(connection: Connection, admitted: Sequence[tuple[int, int, str, int, str]]) -> None:
    """Keep who was given which number, and where it stood: shard, number, server, sequence and link."""
    await connection.execute(RECORD, *[list(column) for column in zip(*admitted, strict=True)])


async def _judge(
    pool: Pool, redis: Redis, ledger: str, strangers: Collection[str], barrier: Barrier
) -> _Judged:
    """Under the lock look again, and fence or number whatever cannot be adopted."""
    async with locking(pool) as connection:
        standings = await read_standings(connection, lock=True)
        await barrier("after lock")
        sightings = await survey(redis, ledger, standings)
        refused = _refused(standings, sightings, strangers)
        verdicts = [_verdict(*each, refused) for each in zip(standings, sightings, strict=True)]
        raised = []
        for before, seen, after in zip(standings, sightings, verdicts, strict=True):
            if after.fence != before.fence:
                log.error("shard %d is fenced: %s", after.shard, after.fence)
                await connection.execute(FENCE, after.shard, after.fence, seen.server)
            if after.incarnation != before.incarnation:
                raised.append((after.shard, after.incarnation, seen.server, int(seen.sequence), seen.link))
        if raised:
            await connection.execute(RAISE, *[list(column) for column in zip(*raised, strict=True)][:2])
            await record(connection, raised)
    return _Judged(ledger, verdicts, sightings, {row[0] for row in raised}, refused)


def _verdict(standing: Standing, sighting: Sighting, refused: Collection[int]) -> Standing:
    if not _is_open(standing, sighting, refused):
        return standing
    why = standing.fence or fault(standing, sighting)
    number = standing.incarnation
    is_raised = not is_numbered(standing, sighting) or (why is None and sighting.fence != "")
    if is_raised and unreadable(standing, sighting) is None:
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
    """The terms with what PostgreSQL says now: higher numbers, and its fences. `None`: nothing is new.

    What this process' own server is refused for stays until the shard has another number.
    """
    numbers = [max(own, each.incarnation) for own, each in zip(terms.incarnations, standings, strict=True)]
    fences = {each.shard: each.fence for each in standings if each.fence is not None}
    refused = frozenset(
        shard for shard in terms.refused - fences.keys() if numbers[shard] == terms.incarnations[shard]
    )
    fences |= {shard: terms.fences[shard] for shard in refused}
    changed = structs.replace(terms, incarnations=numbers, fences=fences, refused=refused)
    return None if changed == terms else changed


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
                changed = amended(terms, await read_standings(connection))
        except BackingUnavailable:
            continue
        if changed is not None:
            adopt(changed)

"""PostgreSQL's half of the admission: the lock, the number, the fences.

One transaction holds the rows of `shards` while Redis is looked at and judged, so that of two processes that
admit two servers one is later, and the later one's number is higher. The number is committed before Redis
learns of it: whoever dies in between leaves a number that nobody serves under, and the next admission takes a
higher one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from msgspec import structs
from redis.asyncio import Redis

from app.ledger.admission import demand_fit_server, fence, says_away, survey, write
from app.ledger.alike import alike, says
from app.ledger.backing import BackingUnavailable, NotAdmitted, Terms
from app.ledger.connection import is_cluster
from app.ledger.judgement import Sighting, Standing, fault, is_numbered, lags, strangeness, unreadable
from persistence.admission_steps import Barrier, past
from persistence.catching_up import catch_up
from persistence.operators import Announcer
from persistence.pool import Connection, Pool, answering
from persistence.rebinding import rebind_tasks
from persistence.rolling import is_prefix
from persistence.served import intrusions
from persistence.standings import (
    ledger_id,
    lock_shards,
    locking,
    put_in_force,
    put_up,
    read_standings,
    read_strangers,
    record,
)

log = logging.getLogger(__name__)

__all__ = [
    "Barrier",
    "admit",
    "amended",
    "lock_shards",
    "locking",
    "past",
    "read_standings",
    "record",
    "this_machines_clock_ms",
    "watch",
]

ATTEMPTS_MAX = 8


def this_machines_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class _Judged(NamedTuple):
    """What both stores show, in the order of the shards.

    `raised` are the shards that get a new number, `refused` those for which this server is the wrong one, or
    whose own does not answer, with why: they are refused here, and fenced nowhere. `behind` are to be rolled
    forward before they can be judged; meanwhile they are refused too.
    """

    ledger: str
    standings: list[Standing]
    sightings: list[Sighting]
    raised: Collection[int]
    refused: dict[int, str]
    behind: Collection[int] = ()

    def terms(self, *, of_a_cluster: bool) -> Terms:
        fences = {each.shard: each.fence for each in self.standings if each.fence is not None}
        servers = [each.server for each in self.sightings]
        return Terms(
            ledger=self.ledger,
            server="" if of_a_cluster else servers[0],
            servers=servers if of_a_cluster else [],
            incarnations=[each.incarnation for each in self.standings],
            fences=self.refused | fences,
            refused=frozenset(self.refused.keys() - fences.keys()),
        )


async def admit(
    pool: Pool,
    redis: Redis,
    *,
    clock_ms: Callable[[], int] = this_machines_clock_ms,
    insisting: bool = False,
    barrier: Barrier = past,
) -> Terms:
    """The terms under which this Redis is served, after admitting it where nobody has.

    A shard that cannot be served is fenced in both stores and named in `Terms.fences`; the others go on. A
    shard for which another Redis has been admitted, or is alive, is named there too, and fenced nowhere; so
    is one whose node of a cluster does not answer. To be called at any time and from anywhere: shards that
    are admitted are left as they are.

    Args:
        pool: Of a database with a born ledger.
        redis: The primary, or a cluster; its retries are off.
        clock_ms: This machine's clock.
        insisting: See `persistence.served.intrusions`.
        barrier: `after lock`, `after commit`.

    Raises:
        NotAdmitted: A server as a whole is not fit, or is not this ledger's. Nothing was written.
        BackingUnavailable: PostgreSQL is away.
        redis.exceptions.RedisError: Redis is away, all of it.
    """
    for _ in range(ATTEMPTS_MAX):
        async with answering(pool) as connection:
            ledger, standings = await ledger_id(connection), await read_standings(connection)
        servers = await demand_fit_server(redis, ledger, len(standings), clock_ms())
        away = {shard for shard, server in enumerate(servers) if is_cluster(redis) and not server}
        sightings = await survey(redis, ledger, standings, apart=True, away=away)
        async with answering(pool) as connection:
            refused = await _refused(connection, standings, sightings, insisting)
        judged = _Judged(ledger, standings, sightings, (), refused)
        await rebind_tasks(pool, redis, standings, sightings, refused)
        if any(_is_open(*each, judged.refused) for each in zip(standings, sightings, strict=True)):
            judged = await _judge(pool, redis, judged, insisting, barrier)
            await barrier("after commit")
        if not await _tell(redis, judged):
            continue
        await _put_in_force(pool, judged)
        if not await catch_up(pool, redis, ledger, judged.behind, barrier=barrier):
            return judged.terms(of_a_cluster=is_cluster(redis))
    raise NotAdmitted("Other processes keep admitting this Redis at the same moment; this one tries again.")


async def _refused(
    connection: Connection, standings: Sequence[Standing], sightings: Sequence[Sighting], insisting: bool
) -> dict[int, str]:
    strangers = await read_strangers(connection)
    found = await intrusions(connection, standings, sightings, insisting=insisting)
    for standing, sighting in zip(standings, sightings, strict=True):
        if sighting.is_away:
            found[standing.shard] = says_away(standing.shard)
        elif why := strangeness(standing, sighting, strangers):
            found[standing.shard] = why
    return found


def _is_open(standing: Standing, sighting: Sighting, refused: Collection[int]) -> bool:
    """Whether the shard has to be judged, because its terms cannot be adopted as they are."""
    if standing.shard in refused:
        return False
    if is_numbered(standing, sighting):
        return standing.fence is None and (sighting.fence != "" or unreadable(standing, sighting) is not None)
    return standing.fence is None or unreadable(standing, sighting) is None


RAISE = """
UPDATE shards SET incarnation = new.incarnation
FROM unnest($1::integer[], $2::bigint[]) AS new (shard, incarnation)
WHERE shards.shard = new.shard
"""


async def _judge(pool: Pool, redis: Redis, looked: _Judged, insisting: bool, barrier: Barrier) -> _Judged:
    """Under the lock look again, and fence or number whatever cannot be adopted."""
    ledger = looked.ledger
    away = [each.shard for each, seen in zip(looked.standings, looked.sightings, strict=True) if seen.is_away]
    lagging = [
        standing.shard
        for standing, sighting in zip(looked.standings, looked.sightings, strict=True)
        if lags(standing, sighting)
    ]
    async with locking(pool) as connection:
        busy = await lock_shards(connection, lagging)
        standings = await read_standings(connection)
        await barrier("after lock")
        sightings = await survey(redis, ledger, standings, apart=True, away=away)
        refused = await _refused(connection, standings, sightings, insisting)
        behind = {
            standing.shard: f"Shard {standing.shard} is being rolled forward; it opens by itself."
            for standing, sighting in zip(standings, sightings, strict=True)
            if standing.shard in busy or await _is_behind(connection, standing, sighting, refused)
        }
        refused |= behind
        verdicts = [_verdict(*each, refused) for each in zip(standings, sightings, strict=True)]
        raised = []
        fenced: dict[int, str] = {}
        for before, seen, after in zip(standings, sightings, verdicts, strict=True):
            if after.fence is not None and after.fence != before.fence:
                fenced[after.shard] = after.fence
                await put_up(connection, after.shard, after.fence, seen.server)
            if after.incarnation != before.incarnation:
                raised.append((after.shard, after.incarnation, seen.server, int(seen.sequence), seen.link))
        if raised:
            await connection.execute(RAISE, *[list(column) for column in zip(*raised, strict=True)][:2])
            await record(connection, raised)
    for shards, why in alike(fenced):
        log.error("%s fenced: %s", says(shards, "is", "are"), why)
    return _Judged(ledger, verdicts, sightings, {row[0] for row in raised}, refused, behind.keys())


async def _is_behind(
    connection: Connection, standing: Standing, sighting: Sighting, refused: Collection[int]
) -> bool:
    if standing.fence is not None or standing.shard in refused or not lags(standing, sighting):
        return False
    return await is_prefix(connection, standing, sighting)


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
        elif standing.fence is not None and not sighting.fence and not sighting.is_away:
            await fence(redis, judged.ledger, standing.shard, standing.fence)
    return told


async def _put_in_force(pool: Pool, judged: _Judged) -> None:
    """Note which numbers count from now on. What PostgreSQL cannot take is noted by whoever looks next."""
    numbered = [
        (standing.shard, standing.incarnation)
        for standing, sighting in zip(judged.standings, judged.sightings, strict=True)
        if standing.fence is None
        and standing.shard not in judged.refused
        and (standing.shard in judged.raised or (not standing.in_force and is_numbered(standing, sighting)))
    ]
    if numbered:
        with suppress(BackingUnavailable):
            async with answering(pool) as connection:
                await put_in_force(connection, numbered)


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
    announcer = Announcer()
    while True:
        await asyncio.sleep(interval_seconds)
        terms = current()
        if terms is None:
            continue
        try:
            async with answering(pool) as connection:
                standings = await read_standings(connection)
        except BackingUnavailable:
            continue
        announcer.heed({each.shard: each.fence for each in standings if each.fence is not None})
        changed = amended(terms, standings)
        if changed is not None:
            adopt(changed)

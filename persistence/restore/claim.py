"""The step `claim` of a restore: which shards it is for, and that nobody else touches them until `open`."""

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import structs
from redis.asyncio import Redis

from app.ledger.admission import demand_all, demand_fit_server, survey, write
from app.ledger.alike import says
from app.ledger.backing import NotAdmitted
from app.ledger.judgement import UNTIL_ADOPTED, Sighting, Standing, fault, unreadable
from app.ledger.loading import Closed
from persistence.admission import admit
from persistence.fences import ledger_of
from persistence.pool import Connection, Pool, answering
from persistence.served import SEEN_SECONDS, age_seconds
from persistence.standings import lock_shards, locking, read_standings, record

ATTEMPTS_MAX = 8
AGAIN_SECONDS = 0.25


class RestoreRefused(Exception):
    """Nothing more was done than before; the text says why and what to do."""


class Claim(NamedTuple):
    """What a restore is for. `standings` and `sightings`: of the claimed shards, when they were claimed."""

    ledger: str
    shards: int
    standings: list[Standing]
    sightings: list[Sighting]

    @property
    def numbers(self) -> list[int]:
        return [each.shard for each in self.standings]

    def without(self, shards: Collection[int]) -> "Claim":
        """Some stay closed as they are."""
        pairs = zip(self.standings, self.sightings, strict=True)
        kept = [each for each in pairs if each[0].shard not in shards]
        return self._replace(standings=[each[0] for each in kept], sightings=[each[1] for each in kept])

    def closed(self, standing: Standing) -> Closed:
        """A claimed shard as its loader closes it. Every claim has a number of its own."""
        return Closed(self.ledger, standing.shard, self.server_of(standing.shard), str(standing.incarnation))

    def server_of(self, shard: int) -> str:
        """Who had a claimed shard then."""
        return self.sightings[self.numbers.index(shard)].server


async def fenced(
    pool: Pool, redis: Redis, clock_ms: Callable[[], int], also: Collection[int] = ()
) -> list[Standing]:
    """The shards that a restore would be for, after this Redis was judged by the admission.

    Args:
        pool: Of a born ledger.
        redis: The one that shall be served.
        clock_ms: This machine's clock.
        also: See `is_lost`.

    Raises:
        RestoreRefused: There is none, or this is not the Redis that serves the others.
        NotAdmitted: The server as a whole is not fit, or another ledger's.
        redis.exceptions.RedisError: Redis is away, or a node of it: tasks of its shards may be needed.
    """
    ledger, shards = await ledger_of(pool)
    await demand_fit_server(redis, ledger, len(shards), clock_ms())
    await demand_all(redis, shards)
    if refused := await _wrong(pool, redis, clock_ms):
        raise RestoreRefused(f"This is not the Redis that is served. {refused}")
    async with answering(pool) as connection:
        found = [each for each in await read_standings(connection) if each.fence is not None]
    if not found:
        raise RestoreRefused("No shard is fenced: the ledger is healthy, and there is nothing to restore.")
    sightings = await survey(redis, ledger, found)
    lost = [each for each, sighting in zip(found, sightings, strict=True) if is_lost(each, sighting, also)]
    if not lost:
        whole = [each.shard for each in found]
        raise RestoreRefused(
            f"There is nothing to restore: {says(whole, 'is', 'are')} fenced by the operator alone, and this "
            "Redis goes on from where the journal stands. `lastro unfence` opens again; --shard N restores "
            "shard N all the same."
        )
    return lost


def is_lost(standing: Standing, sighting: Sighting, also: Collection[int]) -> bool:
    """Whether a fenced shard is a restore's. What the operator has fenced and Redis has whole is not, unless
    it is among `also`: somebody wants it to stay closed.
    """
    is_planned = standing.fenced_by == "operator" and standing.shard not in also
    return not is_planned or fault_of(standing, sighting) is not None


async def _wrong(pool: Pool, redis: Redis, clock_ms: Callable[[], int]) -> str:
    """Why this is the wrong Redis for the shards that are not fenced. One that was alive a moment ago is
    given the time to show that it still is.
    """
    before = 0.0
    while True:
        try:
            terms = await admit(pool, redis, clock_ms=clock_ms, insisting=True)
        except NotAdmitted:
            return ""
        if not terms.refused:
            return ""
        age = await age_seconds(pool)
        if age < before or before > SEEN_SECONDS:
            return terms.fences[min(terms.refused)]
        before = age
        await asyncio.sleep(AGAIN_SECONDS)


CLAIM = """
UPDATE shards SET fence = $2, fenced_at = now(), fenced_by = 'restore', incarnation = $3 WHERE shard = $1
"""


async def claim(pool: Pool, redis: Redis, also: Collection[int] = ()) -> Claim:
    """Give every fenced shard that is lost a number that no process has, and a fence that only a restore
    lifts. `also`: see `is_lost`.

    Raises:
        RestoreRefused: PostgreSQL has lost entries that Redis still has; or the shards keep moving.
    """
    for _ in range(ATTEMPTS_MAX):
        ledger, shards = await ledger_of(pool)
        async with locking(pool) as connection:
            await lock_shards(connection)
            standings = [each for each in await read_standings(connection) if each.fence]
            seen = zip(standings, await survey(redis, ledger, standings), strict=True)
            pairs = [each for each in seen if is_lost(*each, also)]
            if not pairs:
                raise RestoreRefused("No shard is fenced any more.")
            standings, sightings = [each[0] for each in pairs], [each[1] for each in pairs]
            for standing, sighting in zip(standings, sightings, strict=True):
                _demand_restorable(standing, sighting)
            claimed = list(map(_claimed, standings, sightings))
            for standing, sighting in zip(claimed, sightings, strict=True):
                await _store(connection, standing, sighting)
        found = Claim(ledger, len(shards), claimed, sightings)
        if await _tell(redis, found):
            return found
    raise RestoreRefused("Other processes keep changing this Redis; stop them, or try again.")


def _demand_restorable(standing: Standing, sighting: Sighting) -> None:
    found = fault_of(standing, sighting)
    if found is not None and found.endswith(UNTIL_ADOPTED):
        raise RestoreRefused(
            f"{found} To give that up all the same, empty this Redis and run `lastro restore` again."
        )


def fault_of(standing: Standing, sighting: Sighting) -> str | None:
    """Why what Redis shows does not continue the journal, whatever fences it; `None` when it does.

    A rolling forward that has not ended has left balances behind that are wrong, and entries that are not.
    """
    return fault(standing, structs.replace(sighting, fence="", goal=""))


def _claimed(standing: Standing, sighting: Sighting) -> Standing:
    seen = int(sighting.incarnation) if unreadable(standing, sighting) is None else 0
    why = standing.fence
    if standing.fenced_by != "restore":
        why = (
            f"Being restored from the journal since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; if that was cut "
            f"off, `lastro restore` begins it again. Before: {standing.fence}"
        )
    number = max(standing.incarnation, seen) + 1
    return structs.replace(standing, incarnation=number, fence=why, fenced_by="restore")


async def _store(connection: Connection, standing: Standing, sighting: Sighting) -> None:
    await connection.execute(CLAIM, standing.shard, standing.fence, standing.incarnation)
    if unreadable(standing, sighting) is None:
        row = (standing.shard, standing.incarnation, sighting.server, int(sighting.sequence), sighting.link)
        await record(connection, [row])


async def _tell(redis: Redis, claim: Claim) -> bool:
    """Bring number and fence to the shards that can be written into; the others let nobody in as they are."""
    told = True
    for standing, sighting in zip(claim.standings, claim.sightings, strict=True):
        if unreadable(standing, sighting) is None:
            told &= await write(redis, claim.ledger, standing, sighting)
    return told

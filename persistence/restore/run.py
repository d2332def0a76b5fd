"""The steps in their order, each with a barrier behind it."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from redis.asyncio import Redis

from app.ledger.admission import survey
from app.ledger.connection import connect as connect_redis
from app.ledger.judgement import Sighting, Standing
from app.ledger.loading import Moved
from persistence import rebuild
from persistence.admission import admit, this_machines_clock_ms
from persistence.admission_steps import Barrier, past
from persistence.fences import fences, lift
from persistence.operators import MEANWHILE
from persistence.pool import Connection, Pool, open_pool
from persistence.reconcile import remembered
from persistence.reconcile.drift import Drift
from persistence.reconcile.page import Page, compare
from persistence.reconcile.sides import Behind, Sides
from persistence.reconcile.sighting import NotExaminable, Place
from persistence.restore.claim import Claim, RestoreRefused, claim, fenced
from persistence.restore.draining import Drained, drain, drain_others
from persistence.restore.filling import empty, fill, size
from persistence.restore.proving import AT_ONCE, prove
from persistence.restore.proving import size as size_of_proof
from persistence.restore.salvage import Orphan, Salvage
from persistence.session import connect
from persistence.standings import lock_shards, locking, read_standings

ANSWER_SECONDS = 30.0
"""Redis is asked for pages of a thousand, by nobody who waits for it."""

COMPARED_HOLDS_MAX = 20_000

_ADVISORY_LOCK = 0x6C617374726F03  # "lastro", 3


class Watch(Protocol):
    """Whoever looks on."""

    async def claimed(self, standings: list[Standing]) -> bool:
        """Whether to go on, with these shards. Until then nothing was removed or written."""
        ...

    def step(self, name: str, total: int = 0) -> None:
        """A step begins; `total`: how much there is to do in it, where that is known."""
        ...

    def advance(self, by: int) -> None:
        """So much more of the step is done."""
        ...


class Shard(NamedTuple):
    """What became of one. `last_at`, `journaled_at`: when the last entry that was saved was written, and when
    it came into PostgreSQL. `drained` and `salvaged` count entries; `why`: what of it did not continue the
    journal.
    """

    shard: int
    cursor: int
    last_at: datetime | None
    journaled_at: datetime | None
    drained: int
    salvaged: int
    why: str | None


class Restored(NamedTuple):
    """What a restore came to. `orphans`: the first of those that were salvaged. `drift`: the shards stay
    closed; `fences`: why some refuse all the same; `left`: those that stay fenced by the operator.
    `rewritten`: accounts whose tables were not what their entries add up to.
    """

    shards: list[Shard]
    orphans: list[Orphan]
    loaded: int
    drift: list[Drift]
    fences: dict[int, str]
    left: list[int]
    rewritten: list[str]


class _Stores(NamedTuple):
    connection: Connection
    redis: Redis
    pool: Pool


async def restore(
    database_url: str,
    redis_url: str,
    *,
    salvage: Path,
    watch: Watch,
    also: Collection[int] = (),
    clock_ms: Callable[[], int] = this_machines_clock_ms,
    barrier: Barrier = past,
) -> Restored | None:
    """Make the fenced shards of a Redis again from the journal. `None`: who watches said no.

    Args:
        database_url: Of a born ledger.
        redis_url: The Redis that shall be served.
        salvage: The file that gets what the journal does not have; made when there is something.
        watch: Is told how far it is.
        also: Shards that are restored though only the operator has fenced them and Redis has them whole.
        clock_ms: This machine's clock.
        barrier: `after` claim, proof, drain, salvage, removal, load, comparison.

    Raises:
        RestoreRefused: Nothing is fenced, another restore is at work, this is not the Redis to restore, or it
            was replaced meanwhile. What was begun can be begun again.
        NotAdmitted: The server as a whole is not fit, or another ledger's.
    """
    async with _stores(database_url, redis_url) as stores:
        if not await watch.claimed(await fenced(stores.pool, stores.redis, clock_ms, also)):
            return None
        try:
            return await _restore(stores, salvage, watch, also, barrier)
        except (Moved, NotExaminable, Behind) as error:
            raise RestoreRefused(
                f"{error} What was loaded is not served; run `lastro restore` again."
            ) from error


@asynccontextmanager
async def _stores(database_url: str, redis_url: str) -> AsyncIterator[_Stores]:
    """Both, and the lock that lets one restore at a time be at work."""
    connection = await connect(database_url, name="lastro restore")
    try:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ADVISORY_LOCK):
            raise RestoreRefused("Another restore of this ledger is at work.")
        pool = await open_pool(database_url, connections_max=AT_ONCE, name="lastro restore")
        try:
            async with connect_redis(redis_url, answer_seconds=ANSWER_SECONDS) as redis:
                yield _Stores(connection, redis, pool)
        finally:
            pool.terminate()
    finally:
        await connection.close()


async def _restore(
    stores: _Stores, path: Path, watch: Watch, also: Collection[int], barrier: Barrier
) -> Restored:
    connection, redis, pool = stores
    watch.step("claim")
    claimed = await claim(pool, redis, also)
    await barrier("after claim")

    watch.step("prove", await size_of_proof(connection, claimed))
    rewritten, closed = await prove(pool, claimed, watch.advance)
    claimed = claimed.without(closed)
    await barrier("after proof")

    watch.step("drain", len(claimed.standings))
    drained: dict[int, Drained] = {}
    for standing, sighting in zip(claimed.standings, claimed.sightings, strict=True):
        drained[standing.shard] = await drain(connection, redis, claimed, standing, sighting)
        watch.advance(1)
    await drain_others(connection, redis, claimed, partial(watch.step, "others"), watch.advance)
    await barrier("after drain")

    watch.step("salvage", len(claimed.standings))
    kept = Salvage(connection, redis, claimed, path)
    salvaged: dict[int, int] = {}
    for shard, each in drained.items():
        salvaged[shard] = await kept.shard(shard, each.why)
        watch.advance(1)
    await barrier("after salvage")

    watch.step("remove")
    shards = await empty(redis, claimed)
    await barrier("after removal")

    total = await size(connection, claimed)
    watch.step("load", total)
    await fill(connection, redis, shards, watch.advance)
    await barrier("after load")

    watch.step("compare", total)
    drift = await _compare(connection, redis, claimed, watch)
    await barrier("after comparison")

    report = [await _report(connection, shard, drained[shard], salvaged[shard]) for shard in drained]
    if drift:
        return Restored(report, kept.named, total, drift, closed, await _left(pool), rewritten)
    watch.step("open")
    fences_of_all = closed | await _open(pool, redis, claimed)
    left = await _left(pool)
    refusing = {shard: why for shard, why in fences_of_all.items() if shard not in left}
    return Restored(report, kept.named, total, [], refusing, left, rewritten)


async def _left(pool: Pool) -> list[int]:
    return [each.shard for each in await fences(pool) if each.by == "operator"]


async def _compare(connection: Connection, redis: Redis, claim: Claim, watch: Watch) -> list[Drift]:
    """What was loaded against the journal, read back in the way in which it is reconciled every day."""
    found: list[Drift] = []
    for shard in claim.numbers:
        sides = Sides(connection, redis, Place(claim.ledger, shard, None))
        async for accounts in rebuild.pages_of_accounts(connection, shard):
            names: list[str] = []
            holds = 0
            for name, account in accounts.items():
                if names and holds + account.open_holds > COMPARED_HOLDS_MAX:
                    found += (await compare(sides, Page(names))).drift
                    names, holds = [], 0
                names.append(name)
                holds += account.open_holds
            found += (await compare(sides, Page(names))).drift
            watch.advance(sum(1 + account.open_holds for account in accounts.values()))
        found += await remembered.compare_given(sides)
    return found


REPORT = """
SELECT cursor, at, journaled_at FROM shards LEFT JOIN journal ON (journal.shard, seq) = (shards.shard, cursor)
WHERE shards.shard = $1
"""


async def _report(connection: Connection, shard: int, drained: Drained, salvaged: int) -> Shard:
    row = await connection.fetchrow(REPORT, shard)
    assert row is not None, "a shard without a row"
    cursor, last_at, journaled_at = row
    return Shard(shard, cursor, last_at, journaled_at, drained.entries, salvaged, drained.why)


STAYS = "UPDATE shards SET fence = $2, fenced_at = now(), fenced_by = 'operator' WHERE shard = $1"


async def _open(pool: Pool, redis: Redis, claim: Claim) -> dict[int, str]:
    """Lift the fences and let the admission judge. Returns the shards that refuse all the same, and why."""
    async with locking(pool) as connection:
        await lock_shards(connection)
        standings = [each for each in await read_standings(connection) if each.shard in claim.numbers]
        sightings: list[Sighting] = await survey(redis, claim.ledger, standings)
        for standing, sighting in zip(standings, sightings, strict=True):
            is_its = sighting.server == claim.server_of(standing.shard)
            is_closed = standing.fenced_by == "restore" and is_its
            if not is_closed or sighting.sequence != str(standing.cursor):
                raise Moved(f"Shard {standing.shard} is not as it was left when it was loaded.")
            await lift(connection, standing, sighting)
            _, is_wanted, reason = (standing.fence or "").partition(MEANWHILE)
            if is_wanted:
                await connection.execute(STAYS, standing.shard, reason)
    await admit(pool, redis)
    terms = await admit(pool, redis)
    return {shard: terms.fences[shard] for shard in claim.numbers if shard in terms.fences}

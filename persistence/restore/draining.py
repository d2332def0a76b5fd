"""The step `drain` of a restore: what Redis still has and what continues the journal is journaled."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.admission import survey
from app.ledger.judgement import Sighting, Standing, unreadable
from app.ledger.loading import Page, close, load
from app.ledger.stream import nonce_of
from persistence.journal import Journal, Outcome
from persistence.pool import Connection
from persistence.restore.claim import Claim, RestoreRefused, fault_of

MOVED_MAX = 100

Count = Callable[[int], None]

LOST = "lost"
"""A link that nobody has to follow: the shard is not opened with it."""


class Drained(NamedTuple):
    """What became of one shard. `why`: what of it does not continue the journal; `None`: all of it does."""

    entries: int
    why: str | None


async def drain(
    connection: Connection, redis: Redis, claim: Claim, standing: Standing, sighting: Sighting
) -> Drained:
    """Journal what of a claimed shard continues the journal, as the worker would."""
    if unreadable(standing, sighting) is not None and await _mend(redis, claim, standing, sighting):
        (sighting,) = await survey(redis, claim.ledger, [standing])
    why = fault_of(standing, sighting)
    if why is not None:
        return Drained(0, why)
    journal = Journal(connection, redis, claim.ledger, keep=None, though_fenced_by=("restore",))
    rows, moved = 0, 0
    while moved < MOVED_MAX:
        batch = await journal.one_batch(standing.shard)
        rows += batch.rows
        if batch.outcome is Outcome.DONE:
            return Drained(rows, None)
        if batch.outcome is Outcome.CONDEMNED:
            return Drained(rows, journal.condemned[standing.shard])
        moved += batch.outcome is not Outcome.MORE
    raise RestoreRefused(f"Shard {standing.shard} keeps moving while it is drained; try again.")


async def _mend(redis: Redis, claim: Claim, standing: Standing, sighting: Sighting) -> bool:
    """Make a lost meta again from a stream that goes further than the journal, so that it can be read.

    Whether the stream continues the journal is for the journal to judge, as always. The shard stays closed.
    """
    number, _, rest = sighting.last_id.partition("-")
    if not number.isdecimal() or rest != "0" or int(number) <= standing.cursor:
        return False
    last: Any = await redis.xrevrange(keys.journal(standing.shard), count=1)
    link = (last and nonce_of(last[0])) or LOST
    closed = await close(redis, claim.closed(standing), standing.fence or "")
    page = Page(standing.shard)
    page.meta(
        incarnation=standing.incarnation,
        sequence=number,
        link=link,
        now_ms=0,
        journaled=standing.cursor,
        bytes=0,
        journaled_bytes=0,
        oldest_ms="",
    )
    await load(redis, closed, page)
    return True


# Those that the operator has fenced are journaled all the same.
OTHERS = """
SELECT shard, cursor, link, incarnation, fence FROM shards
WHERE fence IS NULL OR fenced_by = 'operator' ORDER BY shard
"""

CURSOR = """
SELECT cursor, fence IS NOT NULL AND fenced_by IS DISTINCT FROM 'operator' AS stops FROM shards
WHERE shard = $1
"""


async def drain_others(
    connection: Connection, redis: Redis, claim: Claim, begin: Count, count: Count
) -> None:
    """Journal what the shards that are not claimed have by now: it may bind tasks that claimed ones keep.

    Args:
        connection: Outside any transaction.
        redis: The one that is restored.
        claim: Which shards are not among them.
        begin: Is told how many entries there are, if any.
        count: Is told how many of them are journaled, by whomever.

    Raises:
        RestoreRefused: A shard does not get on.
    """
    standings = [Standing(*row) for row in await connection.fetch(OTHERS)]
    sightings = await survey(redis, claim.ledger, standings)
    behind = [
        (standing, int(seen.sequence))
        for standing, seen in zip(standings, sightings, strict=True)
        if seen.sequence.isdecimal() and int(seen.sequence) > standing.cursor
    ]
    if behind:
        begin(sum(goal - standing.cursor for standing, goal in behind))
    journal = Journal(connection, redis, claim.ledger, keep=None)
    for standing, goal in behind:
        await _drain_to(connection, journal, standing, goal, count)


async def _drain_to(
    connection: Connection, journal: Journal, standing: Standing, goal: int, count: Count
) -> None:
    """One that refuses or is condemned meanwhile is left as it is."""
    cursor, idle = standing.cursor, 0
    while idle < MOVED_MAX:
        outcome = (await journal.one_batch(standing.shard)).outcome
        row = await connection.fetchrow(CURSOR, standing.shard)
        assert row is not None, "a shard without a row"
        count(min(row["cursor"], goal) - min(cursor, goal))
        idle = 0 if row["cursor"] > cursor else idle + 1
        cursor = row["cursor"]
        if cursor >= goal or row["stops"] or outcome is Outcome.REFUSED:
            return
        if outcome is Outcome.MOVED:
            await asyncio.sleep(0.01)  # a worker is at it
    raise RestoreRefused(
        f"Shard {standing.shard}, which is not restored, has entries up to {goal:,}, and the journal stays "
        f"at {cursor:,}: they may bind tasks that are restored. Are the workers at work? Then try again."
    )

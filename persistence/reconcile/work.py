"""Who works on which run. One process at a time works on any, because the lock of a session says so; whoever
dies lets go of it, and the next one goes on where the run stands.
"""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from app.ledger.errors import LedgerError
from persistence.pool import Connection
from persistence.reconcile import truth
from persistence.reconcile.drift import Drift
from persistence.reconcile.hands import Hands, NotRepaired
from persistence.reconcile.position import begin
from persistence.reconcile.run import Run, by_account
from persistence.reconcile.sighting import Place
from persistence.session import connect

EVERY_SECONDS = 600
SLICE_SECONDS = 4.0
SYSTEM = "system"
COMMAND = "command:"
"""How the runs of a command begin: nobody else goes on with those, because people wait for them."""

_LOCK = 0x7265_636F_6E63_696C  # "reconcil"

log = logging.getLogger(__name__)

TAKE = "SELECT pg_try_advisory_lock($1)"


@asynccontextmanager
async def working(database_url: str) -> AsyncIterator[Connection | None]:
    """A connection that holds the lock, or `None` while another process has it."""
    connection = await connect(database_url, name="lastro reconcile")
    try:
        yield connection if await connection.fetchval(TAKE, _LOCK) else None
    finally:
        connection.terminate()


ABANDONED = """
UPDATE reconciliations SET status = 'unknown', finished_at = now(), why = 'It was ended before its end.'
WHERE status = 'running' AND by LIKE $1
"""

WAITING = "SELECT id::text FROM reconciliations WHERE status = 'running' ORDER BY started_at LIMIT 1"

DUE = """
SELECT NOT EXISTS (
  SELECT FROM reconciliations WHERE started_at > now() - make_interval(secs => CASE
    WHEN status <> 'unknown' THEN $1 WHEN by LIKE $2 THEN 0 ELSE $1 / 10 END)
)
"""

FORGET = "DELETE FROM reconciliations WHERE finished_at < now() - interval '90 days'"


async def next_run(connection: Connection, *, every_seconds: float = EVERY_SECONDS) -> str | None:
    """The run to go on with: one that somebody asked for, or a new one when it is time; after one that could
    not tell, sooner. Needs the lock.
    """
    await connection.execute(ABANDONED, COMMAND + "%")
    waiting: str | None = await connection.fetchval(WAITING)
    if waiting is not None:
        return waiting
    if await connection.fetchval(DUE, float(every_seconds), COMMAND + "%"):
        await connection.execute(FORGET)
        return await begin(connection, SYSTEM, full=False)
    return None


async def work_on(connection: Connection, redis: Redis, name: str, hands: Hands, seconds: float) -> bool:
    """Go on with a run for about so long, fencing drifted accounts. Returns whether it ended."""
    ends = time.monotonic() + seconds

    async def fence(place: Place, drift: Sequence[Drift]) -> None:
        await fence_drifted(connection, hands, place, drift)

    run = await Run(connection, redis, name, found=fence).load()
    while not run.is_at_end and time.monotonic() < ends:
        await run.step()
    if run.is_at_end and run.status != "equal":
        log.error("reconciliation %s: %s, %d differences", run.name, run.status, run.position.drifts)
    return run.is_at_end


def is_of_redis(drift: Drift) -> bool:
    """Whether Redis is held against the journal by it, and not the journal against itself."""
    return not drift.field.startswith(("projection.", "journal."))


async def fence_drifted(
    connection: Connection, hands: Hands, place: Place, drift: Sequence[Drift]
) -> list[str]:
    """Make the accounts refuse of which Redis says something else than the journal. Returns which.

    Where only PostgreSQL's own tables are wrong Redis is right, and goes on to be served. An account that
    Redis lacks or cannot read refuses anyway.
    """
    fenced = []
    for account, its in by_account([each for each in drift if is_of_redis(each)]).items():
        if any(each.field == "fence" for each in its):
            continue
        if not await truth.is_projected(connection, account, place.shard):
            log.error("account %s: PostgreSQL's tables are not what its entries add up to", account)
            continue
        first = its[0]
        why = (
            f"{first.field} is {first.redis} in Redis and {first.journal} in the journal; "
            f"run `lastro reconcile --repair --account {account}`."
        )
        try:
            if await hands.fence(place.shard, account, why):
                fenced.append(account)
                log.error("account %s is fenced: %s", account, why)
        except (LedgerError, NotRepaired) as error:
            log.error("account %s could not be fenced: %s", account, error)  # noqa: TRY400 (it is no bug)
    return fenced

"""What PostgreSQL has of the shards for those who judge a Redis: read, locked, numbered, fenced."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import asyncpg

from app.ledger.backing import BackingUnavailable, NotAdmitted
from app.ledger.judgement import Standing
from persistence.pool import Connection, Pool, answering

SECONDS_MAX = 10.0

LEDGER = "SELECT id::text AS id, shards FROM ledger WHERE born"


async def ledger_id(connection: Connection) -> str:
    """The id of the ledger that lives here.

    Raises:
        NotAdmitted: None has been born.
    """
    row = await connection.fetchrow(LEDGER)
    if row is None:
        raise NotAdmitted("This database has no ledger yet. Run `lastro migrate`.")
    found: str = row["id"]
    return found


STANDINGS = """
SELECT s.shard, s.cursor, s.link, s.incarnation, s.fence, s.fenced_by, s.lifted, coalesce(i.server, ''),
  i.served_at IS NOT NULL
FROM shards s LEFT JOIN incarnations i USING (shard, incarnation) ORDER BY s.shard
"""

LOCK = "SELECT FROM shards WHERE shard <> ALL ($1::integer[]) ORDER BY shard FOR UPDATE"

LOCK_IDLE = "SELECT shard FROM shards WHERE shard = ANY ($1::integer[]) ORDER BY shard FOR UPDATE SKIP LOCKED"

STRANGERS = "SELECT server FROM refused_servers"

# A process that is stopped while it holds the lock must not stop the ledger.
PATIENCE = "SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'"

RECORD = """
INSERT INTO incarnations (shard, incarnation, server, sequence, link)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::text[])
ON CONFLICT (shard, incarnation) DO UPDATE
SET server = excluded.server, sequence = excluded.sequence, link = excluded.link,
  admitted_at = now(), served_at = NULL
"""

FENCE = """
UPDATE shards SET fence = $2, fenced_at = now(), fenced_by = 'admission', fenced_server = $3
WHERE shard = $1 AND fence IS NULL
"""


async def read_strangers(connection: Connection) -> set[str]:
    """The servers that were at fault when the operator went on with another one."""
    return {row["server"] for row in await connection.fetch(STRANGERS)}


async def read_standings(connection: Connection) -> list[Standing]:
    """What PostgreSQL has of every shard.

    The lock, where one is wanted, is taken by a statement before: a query that has waited for one shows what
    it joins as it was when it began to wait.
    """
    return [Standing(*row) for row in await connection.fetch(STANDINGS)]


async def lock_shards(connection: Connection, lagging: Collection[int] = ()) -> set[int]:
    """Lock the rows of all shards until the transaction ends. Those that are `lagging` are not waited for,
    because somebody may be rolling them forward; returns which of them are not locked.
    """
    await connection.execute(LOCK, list(lagging))
    idle = {row["shard"] for row in await connection.fetch(LOCK_IDLE, list(lagging))} if lagging else set()
    return set(lagging) - idle


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


IN_FORCE = """
UPDATE incarnations SET served_at = now()
FROM unnest($1::integer[], $2::bigint[]) AS new (shard, incarnation)
WHERE (incarnations.shard, incarnations.incarnation) = (new.shard, new.incarnation) AND served_at IS NULL
"""


async def put_in_force(connection: Connection, numbered: Sequence[tuple[int, int]]) -> None:
    """Keep which numbers Redis lets calls in under: shard and number."""
    await connection.execute(IN_FORCE, *[list(column) for column in zip(*numbered, strict=True)])


async def put_up(connection: Connection, shard: int, why: str, server: str) -> None:
    """The admission's fence, with the server that was at fault; one that is up already stays."""
    await connection.execute(FENCE, shard, why, server)

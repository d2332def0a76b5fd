"""`app.cleaning.Cleaning` over PostgreSQL, Redis and a ledger: one state and one run at a time for all
processes.

A run holds a lock of its session, so that whoever is killed lets go of it; what it did is a row of
`cleanups`.
"""

import time
from datetime import datetime, timedelta

import asyncpg
import msgspec
import structlog
from asyncpg import Record
from redis.asyncio import Redis

from app.cleaning import INTERVAL_SECONDS_MIN, Cleaned, Last, Standing, Waiting
from app.ledger.errors import LedgerError, LedgerUnavailable
from app.ledger.ledger import Ledger
from persistence.admission_steps import Barrier, past
from persistence.cleaning.dropping import count_old, drop
from persistence.cleaning.due import count_due, end_due, redis_ms
from persistence.pool import Connection, Pool, answering
from persistence.projections.moments import at

RUN_SECONDS = 10.0
"""For how long a run drops what is old; the rest is the next one's."""

SLACK_SECONDS = 20.0

LOOK_SECONDS = 5.0
"""How often a worker that is called for looks whether it is time."""

KEPT_DAYS = 90
SYSTEM = "system"
ABANDONED = "It was ended before its end."

_LOCK = 0x63_6C65_616E_7570  # "cleanup"

log = structlog.get_logger("lastro.cleaning")


class PostgresCleaning:
    """Several may be at work, in several processes.

    Args:
        pool: A run holds one of its connections.
        ledger: Ends what is due.
        redis: Its retries are off.
        days: After how many days a reservation that was settled is old.
        interval_seconds: How often it runs by itself where nobody has said otherwise.
        run_seconds: For how long a run drops what is old.
        barrier: `after lock`, `after expiring`, and those of `dropping`; tests stop a run there.
    """

    def __init__(
        self,
        pool: Pool,
        ledger: Ledger,
        redis: Redis,
        *,
        days: int,
        interval_seconds: int,
        run_seconds: float = RUN_SECONDS,
        barrier: Barrier = past,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._redis = redis
        self._days = timedelta(days=days)
        self._interval_seconds = interval_seconds
        self._run_seconds = run_seconds
        self._barrier = barrier

    TAKE = "SELECT pg_try_advisory_lock($1)"
    LET_GO = "SELECT pg_advisory_unlock($1)"

    async def run(self, by: str, *, whole: bool = True) -> Cleaned | None:
        async with answering(self._pool, self._run_seconds + SLACK_SECONDS) as connection:
            if not await connection.fetchval(self.TAKE, _LOCK):
                return None
            try:
                # Another worker may have seen that it is due, and done it since.
                if by == SYSTEM and not _is_due(await self._standing(connection)):
                    return None
                return await self._run(connection, by, whole=whole)
            finally:
                if not connection.is_closed():
                    await connection.execute(self.LET_GO, _LOCK)

    async def turn(self) -> float:
        """Clean up if it is time, and nobody does. Returns for how many seconds nothing need be done."""
        standing = await self.standing()
        if _is_due(standing) and not standing.running:
            await self.run(SYSTEM)
        return LOOK_SECONDS

    async def rest(self) -> None:
        """A turn that is cut off has let go of everything."""

    # Whoever has the lock knows that no other runs. What nobody asks about any more goes.
    BEGIN = """
    WITH abandoned AS (
      UPDATE cleanups SET finished_at = clock_timestamp(), error = $3 WHERE finished_at IS NULL
    ), forgotten AS (
      DELETE FROM cleanups WHERE finished_at < now() - make_interval(days => $4)
    )
    INSERT INTO cleanups (by, whole) VALUES ($1, $2) RETURNING id
    """

    async def _run(self, connection: Connection, by: str, *, whole: bool) -> Cleaned:
        row = await connection.fetchval(self.BEGIN, by, whole, ABANDONED, KEPT_DAYS)
        await self._barrier("after lock")
        report = _Report(row, by)
        try:
            await self._clean(connection, report, whole=whole)
            report.error = None
        except (LedgerError, asyncpg.PostgresError) as failure:
            report.error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            await self._tell(connection, report)
        return report.cleaned

    BORN = "SELECT EXISTS (SELECT FROM ledger WHERE born)"
    SHARDS = "SELECT shard FROM shards WHERE fence IS NULL ORDER BY shard"

    async def _clean(self, connection: Connection, report: "_Report", *, whole: bool) -> None:
        if not await connection.fetchval(self.BORN):
            raise LedgerUnavailable(why="no ledger was founded here, or an import into it is not finished")
        now_ms = await redis_ms(self._redis)
        shards = [row["shard"] for row in await connection.fetch(self.SHARDS)]
        report.expired = await end_due(self._ledger, self._redis, shards, now_ms)
        await self._barrier("after expiring")
        if whole:
            batches = drop(connection, self._old(now_ms), self._run_seconds, barrier=self._barrier)
            async for rows in batches:
                report.old += rows

    def _old(self, now_ms: int) -> datetime:
        """What was settled before is old."""
        return at(now_ms) - self._days

    END = """
    UPDATE cleanups SET finished_at = clock_timestamp(), expired = $2, old = $3, error = left($4, 1000)
    WHERE id = $1
    """

    async def _tell(self, connection: Connection, report: "_Report") -> None:
        """In its row, and in the log."""
        cleaned, error = report.end(), report.error
        if not connection.is_closed():
            await connection.execute(self.END, report.row, cleaned.expired, cleaned.old, error)
        told = msgspec.structs.asdict(cleaned) | {"by": report.by}
        if error is None:
            log.info("cleanup.finished", **told)
        else:
            log.warning("cleanup.finished", **told, error=error)

    async def count(self) -> Waiting:
        now_ms = await redis_ms(self._redis)
        async with answering(self._pool) as connection:
            shards = [row["shard"] for row in await connection.fetch(self.SHARDS)]
            old = await count_old(connection, self._old(now_ms))
        return Waiting(await count_due(self._redis, shards, now_ms), old)

    async def standing(self) -> Standing:
        async with answering(self._pool) as connection:
            return await self._standing(connection)

    # A run goes on as long as its session has the lock, and no longer, whatever its row says. One that failed
    # is made good sooner where it would be long until the next.
    STANDING = """
    SELECT enabled, every AS interval_seconds, EXISTS (
      SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND (classid::bigint << 32) | objid::bigint = $2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS running,
    coalesce(extract(epoch FROM latest.started_at + make_interval(
      secs => CASE WHEN latest.error IS NULL THEN every ELSE least(every, $3) END
    ) - clock_timestamp()), 0)::float8 AS next_run_seconds,
    ended.started_at, ended.finished_at, ended.expired, ended.old, ended.error
    FROM cleanup CROSS JOIN LATERAL (SELECT coalesce(interval_seconds, $1::integer) AS every) AS interval
    LEFT JOIN LATERAL (
      SELECT started_at, error FROM cleanups WHERE whole ORDER BY started_at DESC LIMIT 1
    ) AS latest ON true
    LEFT JOIN LATERAL (
      SELECT * FROM cleanups WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
    ) AS ended ON true
    """

    async def _standing(self, connection: Connection) -> Standing:
        row = await connection.fetchrow(self.STANDING, self._interval_seconds, _LOCK, INTERVAL_SECONDS_MIN)
        assert row is not None, "a ledger without its clean-up"
        return Standing(
            enabled=row["enabled"],
            running=row["running"],
            interval_seconds=row["interval_seconds"],
            next_run_seconds=max(0.0, row["next_run_seconds"]) if row["enabled"] else None,
            last=None if row["started_at"] is None else _last(row),
        )

    START = """
    UPDATE cleanup SET enabled = true, interval_seconds = $2, changed_by = $1, changed_at = now()
    """

    async def start(self, by: str, interval_seconds: int | None = None) -> None:
        async with answering(self._pool) as connection:
            await connection.execute(self.START, by, interval_seconds)

    STOP = "UPDATE cleanup SET enabled = false, changed_by = $1, changed_at = now()"

    async def stop(self, by: str) -> None:
        async with answering(self._pool) as connection:
            await connection.execute(self.STOP, by)

    EVERY = "UPDATE cleanup SET interval_seconds = $2, changed_by = $1, changed_at = now()"

    async def force(self, by: str, interval_seconds: int | None = None) -> None:
        if interval_seconds is not None:
            async with answering(self._pool) as connection:
                await connection.execute(self.EVERY, by, interval_seconds)
        await self.run(by)


class _Report:
    """What a run has done by now."""

    def __init__(self, row: int, by: str) -> None:
        self.row = row
        self.by = by
        self.expired = 0
        self.old = 0
        self.error: str | None = ABANDONED
        self.cleaned: Cleaned
        self._began = time.monotonic()

    def end(self) -> Cleaned:
        self.cleaned = Cleaned(self.expired, self.old, int((time.monotonic() - self._began) * 1000))
        return self.cleaned


def _is_due(standing: Standing) -> bool:
    return standing.next_run_seconds is not None and standing.next_run_seconds <= 0


def _last(row: Record) -> Last:
    lasted = row["finished_at"] - row["started_at"]
    cleaned = Cleaned(row["expired"], row["old"], lasted // timedelta(milliseconds=1))
    return Last(row["started_at"], cleaned, row["error"])

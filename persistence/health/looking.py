"""Looks at everything: `app.health.Health` over PostgreSQL, Redis and the queues.

Each side is asked for itself and for a bounded time, so that whoever is away is one finding, and what only
they know is not known. It writes nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.health import CHECKS, Check, CheckName, HealthReport, worst
from app.ledger.backing import BackingUnavailable
from app.ledger.checkup import vitals
from app.ledger.connection import LOST, is_cluster
from app.ledger.findings import Finding
from app.queues import Queues
from app.rules import Rule
from persistence.admission import this_machines_clock_ms
from persistence.doctor.between import Bounds
from persistence.health import endings, mishaps, of_records
from persistence.health.of_fences import of_fences
from persistence.health.of_journal import Backlog, lag
from persistence.health.of_redis import kept, overdue, shards_of
from persistence.health.of_workers import of_workers
from persistence.health.seen import Seen, found, untold
from persistence.lacking import Lacking, lacking, lacking_by_redis
from persistence.pool import Pool, answering

FRESH_SECONDS = 1.0
"""For so long a report is good for others who ask."""

ANSWER_SECONDS = 4.0
BETWEEN_SECONDS = 2.0
"""What concerns both stores waits so long for PostgreSQL, and goes on with what Redis tells."""

_RECORDS: tuple[CheckName, ...] = (
    "expired_last_hour", "below_floor", "reconciliation", "failure_rate", "reservation_not_found", "cleanup",
)  # fmt: skip
_REDIS: tuple[CheckName, ...] = ("overdue_reservations", "redis_eviction", "journal_lag", "backlog", "fence")

_T = TypeVar("_T")
log = structlog.get_logger("lastro.health")


class Away(NamedTuple):
    """A side does not answer."""

    why: str


class Looking:
    """One for each process.

    Args:
        pool: Two of its connections are used at once.
        redis: Its retries are off.
        queues: Who is at work.
        rules: With the thresholds as they are set.
        bounds: As the doctor has them.
        cleanup_seconds: How often clean-up runs where nobody has said otherwise.
    """

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        queues: Queues,
        rules: Mapping[str, Rule],
        bounds: Bounds,
        *,
        cleanup_seconds: int = 600,
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._queues = queues
        self.rules = rules
        self.bounds = bounds
        self._cleanup_seconds = cleanup_seconds
        self._backlog = Backlog(bounds)
        self._shards = 0
        self._asking: asyncio.Task[HealthReport] | None = None
        self._asked_at = 0.0

    async def report(self) -> HealthReport:
        fresh = time.monotonic() - self._asked_at < FRESH_SECONDS
        if self._asking is None or (self._asking.done() and not fresh):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._report(), name="health")
        return await asyncio.shield(self._asking)

    async def _report(self) -> HealthReport:
        seen = await self.look()
        checks = [_check(name, seen[name]) for name in CHECKS]
        lag_seconds = seen["journal_lag"].value
        return HealthReport(
            status=worst(each.status for each in checks),
            checked_at=datetime.now(UTC),
            lag_seconds=lag_seconds,
            checks=checks,
        )

    async def look(self) -> dict[CheckName, Seen]:
        """Every check. Never raises."""
        sides = await asyncio.gather(
            _asked("PostgreSQL", self._records()),
            _asked("Redis", self._of_redis()),
            _asked("The queues' Redis", of_workers(self._queues, self.rules)),
        )
        names = (("postgres", *_RECORDS), ("redis_persistence", *_REDIS), ("workers", "failed_jobs"))
        seen: dict[CheckName, Seen] = {}
        for side, (first, *others) in zip(sides, names, strict=True):
            if isinstance(side, Away):
                away = Finding(first, "critical", side.why, "Bring it back.")
                seen[first] = found(self.rules[first], [away])  # type: ignore[index]
                seen |= {name: untold(self.rules[name], side.why) for name in others}  # type: ignore[misc]
            else:
                seen |= {each.rule.name: each for each in side}  # type: ignore[misc]
        return seen

    async def _records(self) -> list[Seen]:
        rules = self.rules
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            postgres = await of_records.of_server(connection, rules)
        try:
            return [postgres, *await self._told()]
        except (BackingUnavailable, asyncpg.PostgresError) as error:  # tables of another release
            return [postgres, *(untold(rules[name], str(error)) for name in _RECORDS)]

    async def _told(self) -> list[Seen]:
        rules = self.rules
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            ended = await endings.lately(connection)
            missed = await mishaps.lately(connection, "reservation_not_found")
            return [
                await of_records.expired(connection, rules),
                await of_records.below_floor(connection, rules),
                await of_records.reconciliation(connection, rules),
                endings.failure_rate(ended, rules),
                endings.not_found(missed, ended, rules),
                await of_records.cleanup(connection, rules, self._cleanup_seconds),
            ]

    async def _of_redis(self) -> list[Seen]:
        redis, rules = self._redis, self.rules
        try:
            self._shards = await shards_of(redis)
        except LOST:
            if not is_cluster(redis) or not self._shards:
                raise  # where only the node that says it is away, it is as many as before
        shards = self._shards
        looked = await vitals(redis, shards, this_machines_clock_ms())
        keeps = await kept(redis, looked, self.bounds.acknowledgement, rules)
        late = await overdue(redis, shards, rules)
        lacks, fences = await asyncio.gather(self._lacking(shards), self._fences(looked))
        return [*keeps, late, lag(lacks, rules), self._backlog.judged(lacks, rules), fences]

    async def _lacking(self, shards: int) -> list[Lacking]:
        try:
            async with asyncio.timeout(BETWEEN_SECONDS):
                return await lacking(self._redis, self._pool)
        except (BackingUnavailable, TimeoutError, asyncpg.PostgresError):
            return await lacking_by_redis(self._redis, shards)

    async def _fences(self, looked: Sequence[Finding]) -> Seen:
        try:
            async with asyncio.timeout(BETWEEN_SECONDS):
                return await of_fences(self._pool, self._redis, looked, self.rules)
        except (BackingUnavailable, TimeoutError, asyncpg.PostgresError) as error:
            return untold(self.rules["fence"], str(error) or "PostgreSQL does not answer.")


async def _asked(who: str, asking: Awaitable[_T]) -> _T | Away:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asking
    except TimeoutError:
        return Away(f"{who} does not answer within {ANSWER_SECONDS:g} s.")
    except (RedisError, OSError, BackingUnavailable) as error:
        return Away(f"{who} does not answer: {error}")
    except Exception as error:  # what one side meets must not take the others away
        log.exception("a look at the health failed")
        return Away(f"The look failed, which is a bug: {type(error).__name__}; the log has it.")


def _check(name: CheckName, seen: Seen) -> Check:
    return Check(
        name=name,
        status=seen.status or "warning",
        value=seen.value,
        warning=seen.rule.warning,
        critical=seen.rule.critical,
        message=seen.message,
    )

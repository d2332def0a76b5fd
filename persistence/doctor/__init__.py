"""`lastro doctor`: everything that an operator would look at, each a line with what to do. Writes nothing."""

import asyncio

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger.admission import demand_kind
from app.ledger.backing import BackingUnavailable, NotAdmitted
from app.ledger.checkup import checkup
from app.ledger.findings import Finding
from app.ledger.judgement import Standing
from app.ledger.sampling import SAMPLE_MAX
from persistence.admission import this_machines_clock_ms
from persistence.doctor import between, records, server
from persistence.doctor.between import Bounds
from persistence.doctor.queues import of_queues
from persistence.pool import Pool, answering
from persistence.standings import LEDGER, read_standings

__all__ = ["Bounds", "examine"]

ANSWER_SECONDS = 10.0


async def examine(
    pool: Pool,
    redis: Redis,
    queue_url: str,
    bounds: Bounds,
    *,
    clock_ms: int | None = None,
    sample_max: int = SAMPLE_MAX,
) -> list[Finding]:
    """All findings. A store that is away is one of them, and what only it knows is left out."""
    clock_ms = this_machines_clock_ms() if clock_ms is None else clock_ms
    findings, standings = await _of_postgres(pool, bounds)
    try:
        await demand_kind(redis)
        findings += await checkup(redis, len(standings), clock_ms, sample_max=sample_max)
        if standings:
            findings.append(await between.acknowledged(redis, bounds.acknowledgement))
            findings.append(await between.admission(pool, redis, standings))
            findings.append(await between.backlog(redis, pool, bounds))
    except NotAdmitted as error:
        findings.append(Finding("redis", "critical", str(error), "Nothing is served until then."))
    except (RedisError, OSError) as error:
        findings.append(_away("redis", f"Redis does not answer: {error}"))
    except BackingUnavailable as error:
        findings.append(_away("postgres", str(error)))
    findings += await asyncio.to_thread(of_queues, queue_url)
    return findings


def _away(check: str, why: str) -> Finding:
    return Finding(check, "unknown", why, "Bring it back; then ask again.")


async def _of_postgres(pool: Pool, bounds: Bounds) -> tuple[list[Finding], list[Standing]]:
    try:
        async with answering(pool, ANSWER_SECONDS) as connection:
            findings = [await server.version(connection), await server.migrations(connection)]
            if findings[-1].level != "ok":
                return findings, []
            row = await connection.fetchrow(LEDGER)
            if row is None:
                return [
                    *findings,
                    Finding("ledger", "critical", "None is born.", "Run `lastro migrate`."),
                ], []
            findings.append(Finding("ledger", "ok", f"{row['id']}, {row['shards']} shards"))
            checks = (
                records.lost, records.orphans, records.verified, records.reconciled, records.months_ahead,
                records.locks,
            )  # fmt: skip
            findings += [await check(connection) for check in checks]
            findings.append(await records.backed_up(connection, bounds.backup_seconds))
            standings = await read_standings(connection)
        findings.append(await records.fenced(pool))
    except BackingUnavailable as error:
        return [_away("postgres", str(error))], []
    except asyncpg.UndefinedColumnError as error:
        return [_away("migrations", f"The tables are another release's: {error}")], []
    return findings, standings

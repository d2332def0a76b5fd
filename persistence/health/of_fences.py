"""What refuses, or soon will: shards, accounts, a Redis that is not the one that is served, clocks."""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from app.ledger.findings import Finding
from app.rules import Rule
from persistence.doctor import between, records
from persistence.health.seen import Seen, found
from persistence.pool import Pool, answering
from persistence.standings import read_standings


async def of_fences(pool: Pool, redis: Redis, vitals: Sequence[Finding], rules: Mapping[str, Rule]) -> Seen:
    """All of them, as bad as the worst; the doctor's findings."""
    named = {each.check: each for each in vitals}
    async with answering(pool) as connection:
        standings = await read_standings(connection)
        lost = await records.lost(connection)
    fenced = await records.fenced(pool)
    admission = await between.admission(pool, redis, standings)
    return found(rules["fence"], [fenced, admission, lost, named["set_aside"], _clock(named["clock"])])


def _clock(finding: Finding) -> Finding:
    """Deadlines are judged by Redis' clock (I6), so that what the doctor warns of is critical here."""
    return finding._replace(level="critical") if finding.level == "warning" else finding

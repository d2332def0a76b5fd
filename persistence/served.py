"""Which Redis is alive, as those who serve from it tell PostgreSQL every second; and who may not fence it.

A Redis that does not continue the journal looks the same whether it has taken the place of one that is lost
or was named by mistake while the right one is served. The difference is that in the second case the right one
goes on answering. All moments are PostgreSQL's, so that no host's clock matters.

An intruder, at fault and not the one that was admitted, is refused where it was named and fences nobody

- while the admitted one was seen within the last seconds,
- until it has itself been looked at for as long, without a gap: whoever was away meanwhile (PostgreSQL, or
  all that serve) gets the time to come back and be seen,
- for good once the admitted one was seen after the intruder was there already: it has taken nobody's place.
"""

from collections.abc import Collection, Sequence
from math import inf

from app.ledger.backing import BackingUnavailable, Terms
from app.ledger.intrusion import is_intruder, refusal
from app.ledger.judgement import Sighting, Standing, lags
from persistence.pool import Connection, Pool, answering
from persistence.rolling import is_prefix

SEEN_SECONDS = 5.0
"""How long a Redis counts as alive after it was seen."""

GAP_SECONDS = 3.0
"""An intruder that nobody has looked at for so long begins anew."""

LATE_SECONDS = 2.0
"""More than lies between a look and the moment that PostgreSQL gives it."""

NOTE_SECONDS = 1.0

# Only of admitted ones, whoever says so.
NOTE = """
INSERT INTO served_servers (server) SELECT DISTINCT server
FROM shards JOIN incarnations USING (shard, incarnation) WHERE server = ANY ($1::text[])
ON CONFLICT (server) DO UPDATE SET seen_at = now()
"""


async def note(pool: Pool, servers: Collection[str]) -> None:
    """Say that servers have answered just now, where they are admitted ones. Soon, or not at all."""
    if not servers:
        return
    try:
        async with answering(pool, NOTE_SECONDS) as connection:
            await connection.execute(NOTE, sorted(servers))
    except BackingUnavailable:
        return


def alive(terms: Terms) -> set[str]:
    """Who has answered when these terms were made, and is no wrong one: of a cluster, for any shard."""
    if terms.servers:
        refused = terms.refused
        return {server for shard, server in enumerate(terms.servers) if server and shard not in refused}
    return {terms.server} - {""} if not terms.refused else set()


LOOK = """
INSERT INTO intruders (server) VALUES ($1)
ON CONFLICT (server) DO UPDATE SET
  since = CASE WHEN intruders.looked_at < clock_timestamp() - make_interval(secs => $2)
    THEN clock_timestamp() ELSE intruders.since END,
  looked_at = clock_timestamp()
"""

OUTLIVE = """
UPDATE intruders SET outlived = true
WHERE server = $1 AND NOT outlived AND EXISTS (
  SELECT FROM served_servers s
  WHERE s.server = ANY ($2::text[]) AND s.seen_at > intruders.since + make_interval(secs => $3)
)
"""

ALIVE = """
SELECT server FROM served_servers
WHERE server = ANY ($1::text[]) AND seen_at > clock_timestamp() - make_interval(secs => $2)
"""

FORGET = """
WITH intruders AS (DELETE FROM intruders WHERE looked_at < now() - interval '30 days')
DELETE FROM served_servers WHERE seen_at < now() - interval '30 days'
"""

AGAINST = """
SELECT s.server, s.seen_at > clock_timestamp() - make_interval(secs => $3) AS is_alive, i.outlived
FROM served_servers s, intruders i
WHERE i.server = $1 AND s.server = ANY ($2::text[])
  AND (i.outlived OR greatest(s.seen_at, i.since) > clock_timestamp() - make_interval(secs => $3))
"""


async def intrusions(
    connection: Connection,
    standings: Sequence[Standing],
    sightings: Sequence[Sighting],
    *,
    insisting: bool = False,
) -> dict[int, str]:
    """The shards for which a Redis is the wrong one because the right one is alive, and why.

    What is the beginning of the journal, as a replica is after its promotion, is nobody's intruder.

    Args:
        connection: In the transaction that judges, or in none.
        standings: Of the shards in question.
        sightings: What the Redis shows of them.
        insisting: The operator has named this Redis: only one that is alive now stands against it, and
            nothing is written down.
    """
    intruded = [
        (standing, sighting.server)
        for standing, sighting in zip(standings, sightings, strict=True)
        if is_intruder(standing, sighting)
        and not (lags(standing, sighting) and await is_prefix(connection, standing, sighting))
    ]
    found: dict[int, str] = {}
    for intruder in sorted({server for _, server in intruded}):
        its = [standing for standing, server in intruded if server == intruder]
        admitted = sorted({each.server for each in its})
        if insisting:
            rows = await connection.fetch(ALIVE, admitted, SEEN_SECONDS)
            outlived = dict.fromkeys((row["server"] for row in rows), False)
        else:
            outlived = await _look(connection, intruder, admitted)
        found |= {
            each.shard: refusal(each, outlived=outlived[each.server])
            for each in its
            if each.server in outlived
        }
    return found


async def _look(connection: Connection, server: str, admitted: Collection[str]) -> dict[str, bool]:
    """Who of the admitted stands against the server; whether it has outlived it, rather than is alive now."""
    await connection.execute(FORGET)
    await connection.execute(LOOK, server, GAP_SECONDS)
    await connection.execute(OUTLIVE, server, admitted, LATE_SECONDS)
    rows = await connection.fetch(AGAINST, server, admitted, SEEN_SECONDS)
    return {row["server"]: row["outlived"] and not row["is_alive"] for row in rows}


AGE = """
SELECT extract(epoch FROM clock_timestamp() - max(seen_at))::float8 FROM served_servers
WHERE server IN (SELECT server FROM shards JOIN incarnations USING (shard, incarnation))
"""


async def age_seconds(pool: Pool) -> float:
    """How long ago an admitted Redis was seen last; infinite where none ever was."""
    async with answering(pool) as connection:
        found: float | None = await connection.fetchval(AGE)
    return inf if found is None else found

"""Who judges: one process at a time, by a lease in PostgreSQL. A worker before the API, which judges when no
worker does.

After a gap in which nobody judged, whoever takes over lets one round pass: a process that has judged alone
meanwhile, because PostgreSQL was away, says first what it has told.
"""

from typing import NamedTuple

from persistence.pool import Connection

LEASE_ROUNDS = 3

# By PostgreSQL's clock alone. `$5`: this process could not judge for a while, so that nobody may have.
TAKE = """
INSERT INTO alert_judge AS there (holder, is_worker, since, until)
VALUES ($1, $2, clock_timestamp(), clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (one) DO UPDATE SET holder = $1, is_worker = $2, until = excluded.until,
  since = CASE WHEN $5 OR there.until < clock_timestamp() THEN clock_timestamp() ELSE there.since END
WHERE there.holder = $1 OR there.until < clock_timestamp() OR ($2 AND NOT there.is_worker)
RETURNING since <= clock_timestamp() - make_interval(secs => $4) AS may_judge,
  coalesce(beat_at < clock_timestamp() - make_interval(secs => $6), true) AS must_beat
"""


class Lease(NamedTuple):
    """`may_judge`: it was judged all the time, or the round after a gap is over. `must_beat`: the last
    heartbeat was long ago.
    """

    may_judge: bool
    must_beat: bool


async def take(
    connection: Connection,
    holder: str,
    *,
    is_worker: bool,
    round_seconds: float,
    beat_seconds: float,
    anew: bool,
) -> Lease | None:
    """The lease, if nobody else has it who goes before. `anew`: there was a gap, as far as is known here."""
    row = await connection.fetchrow(
        TAKE,
        holder,
        is_worker,
        LEASE_ROUNDS * round_seconds,
        0.9 * round_seconds,
        anew,
        beat_seconds,
    )
    return None if row is None else Lease(row["may_judge"], row["must_beat"])


GIVE_BACK = "UPDATE alert_judge SET until = clock_timestamp() WHERE holder = $1"


async def give_back(connection: Connection, holder: str) -> None:
    """Let others go on at once."""
    await connection.execute(GIVE_BACK, holder)


HOLD = "SELECT FROM alert_judge WHERE holder = $1 FOR UPDATE"


async def still_holds(connection: Connection, holder: str) -> bool:
    """Whether nobody has taken it since, nor will until the transaction ends."""
    return await connection.fetchrow(HOLD, holder) is not None


BEATEN = "UPDATE alert_judge SET beat_at = clock_timestamp()"


async def beaten(connection: Connection) -> None:
    """The heartbeat was sent."""
    await connection.execute(BEATEN)

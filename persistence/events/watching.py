"""Makes events of what time brings about, and of what else no entry tells: deadlines and lots that come near,
reconciliations that ended in drift. Each is told once, under a name of its own.

It reads the projections, which are a moment behind; whatever it misses it finds the next time.
"""

from datetime import UTC, datetime, timedelta

from asyncpg import Record
from msgspec import UNSET

from app.events import KEPT_DAYS, GrantLapsing, ReconciliationDrift, ReservationDue, rfc3339
from persistence.events.endings import resource_of
from persistence.events.listening import listened
from persistence.events.outbox import Made, Outbox
from persistence.pool import Connection

DUE = timedelta(seconds=120)
LAPSING = timedelta(hours=24)
DRIFT_TOLD = timedelta(days=1)
ROWS_MAX = 1_000

_MS = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def watch(connection: Connection, now: datetime) -> int:
    """Make what is to be told at `now`; at most `ROWS_MAX` of each kind. Returns how many were made.

    Args:
        connection: Outside any transaction.
        now: By the clock that deadlines are kept by.
    """
    wanted = await listened(connection)
    made: list[Made] = []
    if "reservation.due" in wanted:
        made += await _due(connection, now)
    if "reconciliation.drift" in wanted:
        made += await _drift(connection, now)
    await Outbox.put_all(connection, made, now)
    return len(made) + (await _lapsing(connection, now) if "grant.lapsing" in wanted else 0)


# An extension makes another deadline, of which is told again.
COMES_DUE = """
SELECT r.id::text AS id, r.account, r.held, r.expires_at, r.task, r.provider, r.model,
  made.text AS made, bound.text AS bound, r.once
FROM (
  SELECT *, 'due:' || id || ':' || (extract(epoch FROM expires_at) * 1000)::bigint AS once FROM reservations
  WHERE status = 'pending' AND expires_at > $1 AND expires_at <= $2
) AS r
LEFT JOIN notes made ON (made.shard, made.seq) = (r.shard, r.reserved_seq)
LEFT JOIN notes bound ON (bound.shard, bound.seq) = (r.shard, r.bound_seq)
WHERE NOT EXISTS (SELECT FROM events WHERE events.once = r.once)
ORDER BY r.expires_at LIMIT $3
"""


async def _due(connection: Connection, now: datetime) -> list[Made]:
    rows = await connection.fetch(COMES_DUE, now, now + DUE, ROWS_MAX)
    return [Made("reservation.due", row["account"], now, _due_of(row), row["once"]) for row in rows]


def _due_of(row: Record) -> ReservationDue:
    return ReservationDue(
        account_id=row["account"],
        reservation_id=row["id"],
        held=row["held"],
        expires_at=rfc3339(row["expires_at"]),
        task_id=UNSET if row["task"] is None else row["task"],
        provider=UNSET if row["provider"] is None else row["provider"],
        resource_id=resource_of(row["bound"], row["made"]),
        model_id=UNSET if row["model"] is None else row["model"],
    )


# Not what ended before anybody listened.
DRIFTED = """
SELECT id::text AS id, accounts, jsonb_array_length(drift) AS differences, started_at, finished_at
FROM reconciliations
WHERE status = 'drift' AND finished_at > $1
  AND finished_at >= (SELECT min(created_at) FROM event_endpoints WHERE enabled)
  AND NOT EXISTS (SELECT FROM events WHERE once = 'drift:' || reconciliations.id)
ORDER BY finished_at LIMIT $2
"""


async def _drift(connection: Connection, now: datetime) -> list[Made]:
    rows = await connection.fetch(DRIFTED, now - DRIFT_TOLD, ROWS_MAX)
    return [
        Made("reconciliation.drift", None, row["finished_at"], _drift_of(row), f"drift:{row['id']}")
        for row in rows
    ]


def _drift_of(row: Record) -> ReconciliationDrift:
    return ReconciliationDrift(
        reconciliation_id=row["id"],
        accounts=row["accounts"],
        differences=row["differences"],
        started_at=rfc3339(row["started_at"]),
        finished_at=rfc3339(row["finished_at"]),
    )


# A month's end may be everybody's: so many lots are walked along in steps, and then again from the beginning,
# because some of them have got credits since.
PLACE = "SELECT expires_at_ms, account, bucket FROM event_walk FOR UPDATE SKIP LOCKED"

LAPSES = """
SELECT lots.expires_at_ms, lots.account, lots.bucket, lots.available, events.id IS NULL AS is_new
FROM lots LEFT JOIN events
  ON once = 'lapsing:' || lots.account || ' ' || lots.bucket || ' ' || lots.expires_at_ms
WHERE (lots.expires_at_ms, lots.account, lots.bucket) > ($1, $2, $3) AND lots.expires_at_ms <= $4
  AND lots.expires_at_ms > 0 AND lots.available > 0
ORDER BY lots.expires_at_ms, lots.account, lots.bucket LIMIT $5
"""

WALKED = "UPDATE event_walk SET expires_at_ms = $1, account = $2, bucket = $3"


async def _lapsing(connection: Connection, now: datetime) -> int:
    now_ms = (now - _EPOCH) // _MS
    async with connection.transaction():
        place = await connection.fetchrow(PLACE)
        if place is None:
            return 0
        begin = max(tuple(place), (now_ms, "", ""), key=lambda each: each[0])
        rows = await connection.fetch(LAPSES, *begin, now_ms + LAPSING // _MS, ROWS_MAX)
        behind = rows[-1] if len(rows) == ROWS_MAX else (0, "", "")
        made = [_lapses(row, now) for row in rows if row["is_new"]]
        await Outbox.put_all(connection, made, now)
        if tuple(place) != tuple(behind[:3]):
            await connection.execute(WALKED, *behind[:3])
    return len(made)


def _lapses(row: Record, now: datetime) -> Made:
    account, bucket, at_ms = row["account"], row["bucket"], row["expires_at_ms"]
    payload = GrantLapsing(
        account_id=account,
        bucket=bucket,
        available=row["available"],
        expires_at=rfc3339(_EPOCH + at_ms * _MS),
    )
    return Made("grant.lapsing", account, now, payload, f"lapsing:{account} {bucket} {at_ms}")


# What still waits for somebody stays.
OLD = """
DELETE FROM events WHERE id IN (
  SELECT id FROM events WHERE at < $1 AND NOT EXISTS (
    SELECT FROM event_deliveries JOIN event_endpoints ON event_endpoints.id = endpoint
    WHERE event = events.id AND state = 'waiting' AND enabled
  ) ORDER BY at LIMIT $2
)
"""


async def forget(connection: Connection, now: datetime) -> int:
    """Remove events older than `KEPT_DAYS`, at most `ROWS_MAX`. Returns how many."""
    done = await connection.execute(OLD, now - timedelta(days=KEPT_DAYS), ROWS_MAX)
    return int(done.rpartition(" ")[2])

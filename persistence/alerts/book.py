"""Alerts as PostgreSQL keeps them: what fires, what became of it, and whom that is to be told."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from asyncpg import Record

from app.alerts import KEPT_DAYS, Alert, State
from app.events import HealthCritical, rfc3339
from persistence.alerts.edges import Change, Key
from persistence.alerts.wording import notice_of
from persistence.events.outbox import Outbox
from persistence.pool import Connection

FIRING = """
SELECT id::text AS id, rule, subject, level, state, since, resolved_at, value, threshold, message
FROM alerts WHERE state = 'firing'
"""


async def firing(connection: Connection) -> dict[Key, Alert]:
    """What fires."""
    return {(row["rule"], row["subject"]): alert_of(row) for row in await connection.fetch(FIRING)}


LATEST = """
SELECT id::text AS id, rule, subject, level, state, since, resolved_at, value, threshold, message
FROM alerts WHERE state = $1 ORDER BY since DESC, id LIMIT $2
"""


async def latest(connection: Connection, state: State, limit: int) -> list[Alert]:
    """Newest first."""
    return [alert_of(row) for row in await connection.fetch(LATEST, state, limit)]


def alert_of(row: Record) -> Alert:
    """Numbers that are whole are whole numbers."""
    values = dict(row)
    for name in ("value", "threshold"):
        number = values[name]
        values[name] = int(number) if number is not None and number.is_integer() else number
    return Alert(**values)


# The unique index lets one of each rule and subject fire, whoever says so.
FIRE = """
INSERT INTO alerts (id, rule, subject, level, state, since, value, threshold, message)
VALUES ($1::uuid, $2, $3, $4, 'firing', $5, $6, $7, left($8, 2000))
ON CONFLICT DO NOTHING RETURNING id::text
"""

WORSEN = """
UPDATE alerts SET level = $3, value = $4, threshold = $5, message = left($6, 2000)
WHERE rule = $1 AND subject = $2 AND state = 'firing' AND level <> $3 RETURNING id::text
"""

END = """
UPDATE alerts SET state = 'resolved', resolved_at = $3
WHERE rule = $1 AND subject = $2 AND state = 'firing' RETURNING id::text
"""


async def write(
    connection: Connection,
    changes: Sequence[Change],
    *,
    is_told: bool,
    told: Mapping[int, Sequence[str]] | None = None,
) -> None:
    """Keep changes, in their order, with what is to be told of them. Needs a transaction. What somebody else
    has kept already changes nothing, and is told by them.

    Args:
        connection: Of the caller's transaction.
        changes: As `edges` made them.
        is_told: There is somebody to be told. Whoever is named later is not told what was long ago.
        told: By the place of a change: the channels that have taken its notice, of one that was told before
            it could be kept. `None`: nothing was told.
    """
    for place, change in enumerate(changes):
        alert = await _kept(connection, change)
        if alert is None:
            continue
        if is_told:
            await _put(connection, alert, change, (told or {}).get(place, ()))
        if change.what != "over" and change.alert.level == "critical":
            await _tell_systems(connection, change.alert, alert)


async def _kept(connection: Connection, change: Change) -> str | None:
    """The id of the alert in whose row it stands now."""
    alert = change.alert
    key = alert.rule, alert.subject
    says = alert.level, alert.value, alert.threshold, alert.message
    found: str | None
    if change.what == "fires":
        level, *rest = says
        found = await connection.fetchval(FIRE, alert.id, *key, level, alert.since, *rest)
    elif change.what == "worse":
        found = await connection.fetchval(WORSEN, *key, *says)
    else:
        found = await connection.fetchval(END, *key, alert.resolved_at)
    return found


# By the clock of those who tell: PostgreSQL's may be ahead of it.
PUT = "INSERT INTO alert_notices (alert, title, body, told, due_at) VALUES ($1::uuid, $2, $3, $4, $5)"


async def _put(connection: Connection, alert: str, change: Change, told: Sequence[str]) -> None:
    notice, at = notice_of(change), change.alert.resolved_at or change.alert.since
    await connection.execute(PUT, alert, notice.title, notice.body, list(told), at)


async def _tell_systems(connection: Connection, alert: Alert, id_: str) -> None:
    critical = HealthCritical(
        alert_id=id_,
        rule=alert.rule,
        subject=alert.subject,
        value=alert.value,
        threshold=alert.threshold,
        message=alert.message,
        since=rfc3339(alert.since),
    )
    await Outbox.put(connection, "health.critical", None, critical, once=f"health.critical {id_}")


FORGET = "DELETE FROM alerts WHERE state = 'resolved' AND resolved_at < $1"


async def forget(connection: Connection, now: datetime) -> None:
    """What has been over for long."""
    await connection.execute(FORGET, now - timedelta(days=KEPT_DAYS))

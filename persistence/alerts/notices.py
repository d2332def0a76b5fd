"""What waits to be told: to each channel for itself, again after a while if need be, until it is taken or
given up.

A notice is claimed by moving its next attempt on. Whoever dies meanwhile leaves it to others, so that a
channel may be told twice, and none is left out.
"""

import logging
from datetime import datetime, timedelta

from asyncpg import Record

from persistence.alerts.telling import SEND_SECONDS, Channels
from persistence.alerts.wording import Notice
from persistence.pool import Pool, answering

_M, _H = 60, 3600
BACKOFF_SECONDS = (15, _M, 2 * _M, 5 * _M, 15 * _M, 30 * _M, _H, 2 * _H, 4 * _H, 8 * _H, 8 * _H)
"""After each failed attempt: twelve attempts within a day."""

AT_ONCE = 10

_log = logging.getLogger(__name__)

CLAIM = """
WITH due AS (
  SELECT id FROM alert_notices WHERE due_at <= $1 AND NOT given_up AND NOT told @> $4::text[]
  ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE alert_notices n SET attempts = attempts + 1, due_at = $2 FROM due WHERE n.id = due.id
RETURNING n.id, n.title, n.body, n.told, n.attempts
"""

DONE = "UPDATE alert_notices SET told = $2, due_at = 'infinity' WHERE id = $1"

FAILED = "UPDATE alert_notices SET told = $2, due_at = $3, given_up = $4 WHERE id = $1"


async def deliver(pool: Pool, channels: Channels, now: datetime) -> int:
    """Tell what is due to whom it was not told yet. Returns how many notices were tried.

    Raises:
        BackingUnavailable
    """
    until = now + timedelta(seconds=2 * SEND_SECONDS)
    async with answering(pool) as connection:
        rows = await connection.fetch(CLAIM, now, until, AT_ONCE, channels.ids)
    for row in sorted(rows, key=lambda row: row["id"]):  # what is over is told after what began
        await _deliver(pool, channels, row, now)
    return len(rows)


async def _deliver(pool: Pool, channels: Channels, row: Record, now: datetime) -> None:
    sent = await channels.tell(Notice(row["title"], row["body"]), row["told"])
    failed = {channel: why for channel, why in sent.items() if why is not None}
    told = sorted({*row["told"], *(channel for channel in sent if channel not in failed)})
    if not failed:
        async with answering(pool) as connection:
            await connection.execute(DONE, row["id"], told)
        return
    names = await channels.names()
    for channel, why in failed.items():
        _log.warning("channel %s was not told of an alert: %s", names[channel], why)
    given_up = row["attempts"] > len(BACKOFF_SECONDS)
    due_at = now if given_up else now + timedelta(seconds=BACKOFF_SECONDS[row["attempts"] - 1])
    async with answering(pool) as connection:
        await connection.execute(FAILED, row["id"], told, due_at, given_up)
    if given_up:
        _log.error("a notice of an alert is given up: %s", row["title"])

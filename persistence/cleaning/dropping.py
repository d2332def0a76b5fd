"""Drops settled reservations from the table, in batches so small that they hold up nobody."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime

from persistence.admission_steps import Barrier, past
from persistence.pool import Connection

ROWS_AT_ONCE = 500

KEEP = "UPDATE cleanup SET kept_from = $1 WHERE kept_from < $1"

# Rows that the journal's worker or a repair has in its hands are left for the next time, so that no two wait
# for each other; and none goes whose ending the journal does not have.
DROP = """
WITH old AS (
  SELECT id FROM reservations r
  WHERE settled_at < $1 AND status <> 'pending'
    AND (SELECT reservation FROM journal j WHERE (j.shard, j.seq) = (r.shard, r.ended_seq)) = id
  ORDER BY settled_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM reservations USING old WHERE reservations.id = old.id
"""


async def drop(
    connection: Connection,
    before: datetime,
    seconds: float,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
    barrier: Barrier = past,
) -> AsyncIterator[int]:
    """Drop reservations that were settled before a moment, for about so long; after each batch how many went.

    Args:
        connection: Outside any transaction: each batch is one of its own.
        before: By Redis' clock.
        seconds: After which no further batch is begun.
        rows_at_once: Of a batch.
        barrier: `after keeping`, `after batch`.
    """
    ends = time.monotonic() + seconds
    await connection.execute(KEEP, before)
    await barrier("after keeping")
    while True:
        began = time.monotonic()
        done = await connection.execute(DROP, before, rows_at_once)
        rows = int(done.rpartition(" ")[2])
        yield rows
        await barrier("after batch")
        now = time.monotonic()
        if rows < rows_at_once or now > ends:
            return
        await asyncio.sleep(now - began)  # half of the time is for others


OLD = "SELECT count(*) FROM reservations WHERE settled_at < $1 AND status <> 'pending'"


async def count_old(connection: Connection, before: datetime) -> int:
    """How many reservations there are that were settled before a moment."""
    found: int = await connection.fetchval(OLD, before)
    return found

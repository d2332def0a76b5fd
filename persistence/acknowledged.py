"""Finds what was answered "done" by a Redis that another one has replaced without it, and says so once."""

import asyncio
import logging
import os
import socket

import msgspec

from app.ledger.acknowledged import Acknowledged, Lost
from app.ledger.backing import BackingUnavailable
from app.ledger.shards import TransactionId
from persistence.pool import Connection, Pool, answering

log = logging.getLogger(__name__)

SECONDS = 1.0
NAMED_MAX = 1000

# A number may be given and never let anybody in: it has not reached Redis, or what it was given to refuses.
# Then nothing was lost. An entry that was made under it proves that it was in force, too.
ADMITTED = """
SELECT i.shard, i.incarnation, i.sequence FROM incarnations i
LEFT JOIN journal next ON (next.shard, next.seq) = (i.shard, i.sequence + 1)
WHERE i.shard = ANY ($1::integer[]) AND i.admitted_at > now() - interval '7 days'
  AND (i.served_at IS NOT NULL OR next.incarnation = i.incarnation)
ORDER BY i.shard, i.incarnation
"""

CURSORS = "SELECT shard, cursor FROM shards WHERE shard = ANY ($1::integer[])"

REPORT = """
INSERT INTO acknowledged_lost (shard, incarnation, first_seq, last_seq, operations, process)
VALUES ($1, $2, $3, $4, $5, $6)
"""


async def report(pool: Pool, acknowledged: Acknowledged, *, interval_seconds: float = SECONDS) -> None:
    """Until cancelled, look for what was lost. While PostgreSQL is away everything is kept, within bounds."""
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            await look(pool, acknowledged)
        except BackingUnavailable:
            continue


async def look(pool: Pool, acknowledged: Acknowledged) -> list[Lost]:
    """Report what is found lost now; forget what PostgreSQL has.

    The cursors are read first: what a later number has journaled in the place of what was lost must not pass
    for it.

    Raises:
        BackingUnavailable: PostgreSQL is away. What was not reported is reported by the next look.
    """
    shards = list(acknowledged.open())
    if not shards:
        return []
    found: list[Lost] = []
    async with answering(pool) as connection:
        cursors = await connection.fetch(CURSORS, shards)
        for shard, incarnation, sequence in await connection.fetch(ADMITTED, shards):
            lost = acknowledged.lost(shard, incarnation, sequence)
            if lost is not None:
                await _report(connection, lost)
                acknowledged.forget(lost)
                found.append(lost)
    for shard, cursor in cursors:
        acknowledged.journaled(shard, cursor)
    return found


async def _report(connection: Connection, lost: Lost) -> None:
    first, last = lost.ends + 1, lost.given[-1].sequence
    operations = [
        {"transaction": str(TransactionId(lost.shard, each.incarnation, each.sequence)), "key": each.key}
        for each in lost.given[-NAMED_MAX:]
    ]
    log.error(
        "acknowledged_lost: shard %d was admitted as number %d ending at entry %d, but up to entry %d was "
        "acknowledged: %s",
        lost.shard, lost.incarnation, lost.ends, last, operations,
    )  # fmt: skip
    await connection.execute(
        REPORT,
        lost.shard,
        lost.incarnation,
        first,
        last,
        msgspec.json.encode(operations).decode(),
        _process(),
    )


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"

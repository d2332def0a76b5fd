"""Makes events of the journal, each exactly once: the events of some entries and the cursor behind these move
in one transaction.

It reads what is committed, after the journal's own work and beside it: what is late here is late for nobody
else. Entries before the cursor are never looked at again.
"""

from datetime import datetime

from app.events import JOURNALED
from persistence.events.balances import falls
from persistence.events.endings import ENDINGS, endings
from persistence.events.listening import BALANCES, listened
from persistence.events.outbox import Outbox
from persistence.pool import Connection

ENTRIES_MAX = 1_000

# Any shard that has something, so that one with a long way to go delays no other.
TAKE = """
SELECT c.shard, c.seq, s.cursor FROM event_cursors c JOIN shards s USING (shard)
WHERE s.cursor > c.seq ORDER BY random() LIMIT 1 FOR UPDATE OF c SKIP LOCKED
"""

ADVANCE = "UPDATE event_cursors SET seq = $2 WHERE shard = $1"

# The texts of few kinds are needed. Without kinds: of all.
ENTRIES = """
SELECT seq, incarnation, at, kind, account, version, available, held, reservation::text AS reservation,
  CASE WHEN kind IN ('confirmed', 'cancelled', 'configured', 'adjusted') THEN entry END AS entry
FROM journal
WHERE shard = $1 AND seq > $2 AND seq <= $3 AND ($4::text[] IS NULL OR kind = ANY ($4))
ORDER BY seq
"""


async def derive(connection: Connection, now: datetime, *, entries_max: int = ENTRIES_MAX) -> int:
    """Make the events of at most `entries_max` entries of one shard. Returns how many entries these were; 0:
    there are none, or nobody listens, or others are at work on them.

    Args:
        connection: Outside any transaction.
        now: From when on they are delivered.
        entries_max: How many are looked at in one transaction.
    """
    async with connection.transaction():
        wanted = await listened(connection) & JOURNALED
        taken = await connection.fetchrow(TAKE) if wanted else None
        if taken is None:
            return 0
        shard, after = taken["shard"], taken["seq"]
        last = min(taken["cursor"], after + entries_max)
        kinds = None if wanted & BALANCES else ENDINGS
        rows = await connection.fetch(ENTRIES, shard, after, last, kinds)
        made = await endings(connection, shard, rows)
        if wanted & BALANCES:
            made += await falls(connection, shard, rows)
        made.sort(key=lambda each: each[0])
        await Outbox.put_all(connection, [each for _, each in made if each.type in wanted], now)
        await connection.execute(ADVANCE, shard, last)
    return int(last - after)

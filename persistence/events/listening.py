"""What anybody listens to, and where the events of the journal begin.

While nobody listens nothing is read and nothing is written. So whoever is the first to listen begins at the
end of the journal, and knows nothing of what was told of accounts before.
"""

from collections.abc import Iterable

from app.events import JOURNALED, TYPES, EventType
from persistence.pool import Connection

BALANCES: frozenset[EventType] = frozenset({"balance.low", "balance.depleted"})

LISTENED = "SELECT types FROM event_endpoints WHERE enabled"


async def listened(connection: Connection) -> frozenset[EventType]:
    """The types that somebody wants to be told."""
    return wanted(row["types"] for row in await connection.fetch(LISTENED))


def wanted(lists: Iterable[list[EventType]]) -> frozenset[EventType]:
    """The types in lists of which an empty one means all."""
    found: set[EventType] = set()
    for types in lists:
        found.update(types or TYPES)
    return frozenset(found)


# Whoever makes events holds one of the rows: none are being made while who listens is changed.
HOLD = "SELECT FROM event_cursors ORDER BY shard FOR UPDATE"

JUMP = """
INSERT INTO event_cursors (shard, seq) SELECT shard, cursor FROM shards
ON CONFLICT (shard) DO UPDATE SET seq = excluded.seq
"""

FORGET_LEVELS = "DELETE FROM event_levels"


async def begin(connection: Connection, before: frozenset[EventType], after: frozenset[EventType]) -> None:
    """Begin at the end of the journal what was not listened to `before` a change and is `after` it.

    Call `hold` first; inside the transaction of the change.
    """
    if after & JOURNALED and not before & JOURNALED:
        await connection.execute(JUMP)
    if after & BALANCES and not before & BALANCES:
        await connection.execute(FORGET_LEVELS)


async def hold(connection: Connection) -> None:
    """Until the end of the transaction no events are made of the journal."""
    await connection.execute(HOLD)

"""What the journal has, month by month: how many rows, how large, and whether a backup has them too."""

from datetime import datetime

from msgspec import Struct

from persistence.backup import snapshot
from persistence.backup.manifest import BackupRefused, Manifest
from persistence.pool import Connection


class Month(Struct, frozen=True):
    """A table of the journal, with the rows of `since` to `until`. `bytes`: with its indexes. `kept`: whether
    the backup that was named has all of its rows; `None`: none was named.
    """

    name: str
    since: datetime
    until: datetime
    rows: int
    bytes: int
    kept: bool | None


MONTHS = """
SELECT name, since, until, pg_total_relation_size(to_regclass(quote_ident(name))) AS bytes
FROM journal_months ORDER BY since
"""

# In a shard time never goes back and sequences have no gaps: the first and the last of a month tell how many.
ENDS = """
SELECT shard,
  (SELECT seq FROM {table} its WHERE its.shard = shards.shard ORDER BY seq LIMIT 1) AS first,
  (SELECT seq FROM {table} its WHERE its.shard = shards.shard ORDER BY seq DESC LIMIT 1) AS last
FROM shards
"""

LEDGER = "SELECT id::text FROM ledger"


async def months(connection: Connection, backup: Manifest | None = None) -> list[Month]:
    """All months that have a table, the earliest first.

    Args:
        connection: Outside any transaction.
        backup: Whose rows are looked for.

    Raises:
        BackupRefused: It is another ledger's, or the journal has not gone on from it.
    """
    if backup is not None:
        await _demand_ours(connection, backup)
    found = []
    for name, since, until, size in await connection.fetch(MONTHS):
        ends = await connection.fetch(ENDS.format(table=f'"{name}"'))
        there = [(row["shard"], row["first"], row["last"]) for row in ends if row["first"] is not None]
        rows = sum(last - first + 1 for _, first, last in there)
        kept = None
        if backup is not None:  # what may still be written to is not kept, whatever is in it
            is_over = until <= backup.taken_at
            kept = is_over and all(last <= backup.shards[shard].cursor for shard, _, last in there)
        found.append(Month(name, since, until, rows, size, kept))
    return found


async def _demand_ours(connection: Connection, backup: Manifest) -> None:
    ledger = await connection.fetchval(LEDGER)
    if ledger != backup.ledger:
        raise BackupRefused(
            f"The backup is of ledger {backup.ledger}; this one is {ledger}. Name another one."
        )
    if not await snapshot.still_there(connection, backup):
        raise BackupRefused(
            "The journal is not the one that the backup is of: it was changed, or PostgreSQL has lost rows "
            "since. Run `lastro verify --manifest` with it."
        )

"""What the journal has, month by month: how many rows, how large, on which disk, whether in a backup."""

from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from persistence.backup import snapshot
from persistence.backup.manifest import BackupRefused, Manifest
from persistence.pool import Connection


class Month(Struct, frozen=True):
    """A table of the journal, with the rows of `since` to `until`. `bytes`: with its indexes. `tablespace`:
    the disk it is on; `is_away`: another than the database's. `kept`: whether the backup that was named has
    all of its rows; `None`: none was named.
    """

    name: str
    since: datetime
    until: datetime
    rows: int
    bytes: int
    tablespace: str
    is_away: bool
    kept: bool | None


class Ends(NamedTuple):
    """The first and the last sequence of a shard in a table of the journal, which has all between them: in a
    shard time never goes back, and sequences have no gaps.
    """

    shard: int
    first: int
    last: int


# PostgreSQL has 0 for the database's own.
ITS_TABLESPACE = """pg_tablespace.oid = coalesce(
  nullif(reltablespace, 0), (SELECT dattablespace FROM pg_database WHERE datname = current_database()))"""

MONTHS = f"""
SELECT name, since, until, coalesce(pg_total_relation_size(pg_class.oid), 0) AS bytes, spcname,
  reltablespace <> 0 AS is_away
FROM journal_months JOIN pg_class ON pg_class.oid = to_regclass(quote_ident(name))
JOIN pg_tablespace ON {ITS_TABLESPACE}
WHERE $1::text IS NULL OR name = $1 ORDER BY since
"""  # noqa: S608

# min() and max() of all shards would read the whole table; this reads two rows of its key for each.
ENDS = """
SELECT shard,
  (SELECT seq FROM "{table}" its WHERE its.shard = known.shard ORDER BY seq LIMIT 1) AS first,
  (SELECT seq FROM "{table}" its WHERE its.shard = known.shard ORDER BY seq DESC LIMIT 1) AS last
FROM generate_series(0, (SELECT shards FROM ledger) - 1) AS known (shard) ORDER BY shard
"""


async def ends(connection: Connection, table: str) -> list[Ends]:
    """Of the shards that have rows in this table, which is one of ours."""
    rows = await connection.fetch(ENDS.format(table=table))
    return [Ends(*row) for row in rows if row["first"] is not None]


LEDGER = "SELECT id::text FROM ledger"


async def months(
    connection: Connection, backup: Manifest | None = None, *, name: str | None = None
) -> list[Month]:
    """All months that have a table, the earliest first; or the one of this name.

    Args:
        connection: Outside any transaction.
        backup: Whose rows are looked for.
        name: Of the one that is looked at; `None`: all.

    Raises:
        BackupRefused: It is another ledger's, or the journal has not gone on from it.
    """
    if backup is not None:
        await _demand_ours(connection, backup)
    found = []
    for table, since, until, size, tablespace, is_away in await connection.fetch(MONTHS, name):
        there = await ends(connection, table)
        rows = sum(each.last - each.first + 1 for each in there)
        kept = None
        if backup is not None:  # what may still be written to is not kept, whatever is in it
            is_over = until <= backup.taken_at
            kept = is_over and all(each.last <= backup.shards[each.shard].cursor for each in there)
        found.append(Month(table, since, until, rows, size, tablespace, is_away, kept))
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

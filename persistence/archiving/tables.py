"""Tables that are months, or are to be: where they are, what they are made of, which are not finished."""

from datetime import datetime

from msgspec import Struct

from persistence.calendar import ITS_TABLESPACE
from persistence.pool import Connection

BOUNDS = "journal_month_bounds"
"""The constraint that tells a copy of ours, and makes PostgreSQL attach it without reading it."""

SUFFIX = "_copy"


class Unfinished(Struct, frozen=True):
    """A copy that has not taken its month's place. `bytes`: with its indexes."""

    name: str
    bytes: int


UNFINISHED = """
SELECT relname::text AS name, coalesce(pg_total_relation_size(pg_class.oid), 0) AS bytes
FROM pg_class JOIN pg_constraint ON conrelid = pg_class.oid AND conname = $1
WHERE pg_class.oid NOT IN (SELECT inhrelid FROM pg_inherits) ORDER BY relname
"""


async def unfinished(connection: Connection) -> list[Unfinished]:
    """Those of all months."""
    return [Unfinished(*row) for row in await connection.fetch(UNFINISHED, BOUNDS)]


TABLESPACES_OF = f"""
SELECT DISTINCT spcname::text FROM pg_class JOIN pg_tablespace ON {ITS_TABLESPACE}
WHERE pg_class.oid = to_regclass(quote_ident($1))
  OR pg_class.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass(quote_ident($1)))
"""  # noqa: S608


async def tablespaces_of(connection: Connection, table: str) -> set[str]:
    """The tablespaces of a table and its indexes; none: there is no such table."""
    return {row[0] for row in await connection.fetch(TABLESPACES_OF, table)}


async def is_in(connection: Connection, month: str, tablespace: str) -> bool:
    """Whether a month is in this tablespace with all of its indexes: then there is nothing to bring there."""
    return await tablespaces_of(connection, month) == {tablespace}


# What a table is made of, whatever its parts are called. Row triggers come with being attached.
SHAPE = f"""
SELECT format('column %s %s%s', attname, format_type(atttypid, atttypmod),
  CASE WHEN attnotnull THEN ' NOT NULL' END)
FROM pg_attribute WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT regexp_replace(pg_get_indexdef(indexrelid), ' INDEX .*? USING ', ' INDEX USING ')
FROM pg_index WHERE indrelid = to_regclass(quote_ident($1))
UNION ALL
SELECT regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '') FROM pg_constraint
WHERE conrelid = to_regclass(quote_ident($1)) AND contype IN ('c', 'f', 'p', 'u') AND conname <> '{BOUNDS}'
UNION ALL
SELECT format('trigger %s %s', tgname, tgenabled)
FROM pg_trigger WHERE tgrelid = to_regclass(quote_ident($1)) AND NOT tgisinternal AND tgtype & 1 = 0
"""  # noqa: S608

KEYS = ("PRIMARY KEY (shard, seq)", "UNIQUE (account, version)")
"""Of each month by itself."""


def literal(moment: datetime) -> str:
    """As SQL has it where no parameter may be."""
    return f"timestamptz '{moment.isoformat()}'"

"""Which months, and where to."""

from collections.abc import Sequence
from datetime import datetime

from persistence.calendar import Month, months
from persistence.pool import Connection


class ArchiveRefused(Exception):
    """A month was left where it is; the text says why and what to do."""


PLACES = """
SELECT spcname, has_tablespace_privilege(oid, 'CREATE') AS may,
  oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database()) AS is_own
FROM pg_tablespace WHERE spcname <> 'pg_global' ORDER BY spcname
"""


async def place_for(connection: Connection, name: str | None) -> str:
    """The tablespace of this name; `None`: that of the database.

    Raises:
        ArchiveRefused: There is none, or this role may make no tables in it.
    """
    rows = await connection.fetch(PLACES)
    found = next((row for row in rows if (row["is_own"] if name is None else row["spcname"] == name)), None)
    if found is None:
        there = ", ".join(row["spcname"] for row in rows)
        raise ArchiveRefused(
            f"PostgreSQL has no tablespace {name}; it has {there}. Make it on the disk that is meant: "
            f"CREATE TABLESPACE {name} LOCATION '/path/of/an/empty/folder'."
        )
    if not (found["may"] or found["is_own"]):
        raise ArchiveRefused(
            f"This role may not make tables in {name}: GRANT CREATE ON TABLESPACE {name} TO it."
        )
    return str(found["spcname"])


async def chosen(
    connection: Connection, names: Sequence[str] = (), over_for_months: int | None = None
) -> list[Month]:
    """The months of these names, or those that have been over for so long; the earliest first.

    Raises:
        ArchiveRefused: There is no such month, or it is not over.
    """
    there = await months(connection)
    if over_for_months is not None:
        until = await connection.fetchval("SELECT now() - make_interval(months => $1)", over_for_months)
        return [each for each in there if each.until <= until]
    known = {each.name: each for each in there}
    for name in names:
        if name not in known:
            raise ArchiveRefused(f"The journal has no month {name}. `lastro months` names those that it has.")
    now: datetime = await connection.fetchval("SELECT now()")
    if still := [name for name in names if known[name].until > now]:
        raise ArchiveRefused(f"{still[0]} is not over: entries are written to it. It stays where it is.")
    return [each for each in there if each.name in names]

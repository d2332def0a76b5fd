"""Which months, and where to."""

from collections.abc import Sequence
from datetime import datetime

from persistence.calendar import Month, months
from persistence.pool import Connection


class ArchiveRefused(Exception):
    """Nothing was moved; the text says why and what to do."""

    @classmethod
    def of(cls, month: str, why: str) -> "ArchiveRefused":
        return cls(f"{month} stays where it is: {why}")


TABLESPACES = """
SELECT spcname, has_tablespace_privilege(oid, 'CREATE') AS may, current_user AS role,
  oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database()) AS is_own
FROM pg_tablespace WHERE spcname <> 'pg_global' ORDER BY spcname
"""


async def tablespace_for(connection: Connection, name: str | None) -> str:
    """The tablespace of this name; `None`: that of the database.

    Raises:
        ArchiveRefused: There is none, or this role may make no tables in it.
    """
    rows = await connection.fetch(TABLESPACES)
    found = next((row for row in rows if (row["is_own"] if name is None else row["spcname"] == name)), None)
    if found is None:
        there = ", ".join(row["spcname"] for row in rows)
        raise ArchiveRefused(
            f"PostgreSQL has no tablespace {name}; it has {there}. Make one on the disk that is meant, as a "
            f"superuser: CREATE TABLESPACE {name} LOCATION '/path/of/an/empty/folder'."
        )
    if not (found["may"] or found["is_own"]):
        raise ArchiveRefused(
            f"{found['role']} may not make tables in {name}. As a superuser: "
            f"GRANT CREATE ON TABLESPACE {name} TO {found['role']}"
        )
    return str(found["spcname"])


async def chosen(
    connection: Connection, names: Sequence[str] = (), over_for_months: int | None = None
) -> list[Month]:
    """The months of these names, or those that have been over for so long; the earliest first.

    Raises:
        ArchiveRefused: There is no such month, or it is not over.
    """
    if over_for_months is not None:
        until = await connection.fetchval("SELECT now() - make_interval(months => $1)", over_for_months)
        return [each for each in await months(connection) if each.until <= until]
    wanted = [await month_of(connection, name) for name in dict.fromkeys(names)]
    now: datetime = await connection.fetchval("SELECT now()")
    if still := [each.name for each in wanted if each.until > now]:
        raise ArchiveRefused.of(still[0], "it is not over, entries are written to it. Leave it out.")
    return sorted(wanted, key=lambda month: month.since)


async def month_of(connection: Connection, name: str) -> Month:
    """Raises `ArchiveRefused` where there is no month of this name."""
    for each in await months(connection, name=name):
        return each
    raise ArchiveRefused(f"The journal has no month {name}. `lastro months` names those that it has.")

"""Whether this PostgreSQL can be trusted with a journal, and has this release's tables."""

import asyncpg

from app.ledger.findings import Finding
from persistence.migrate import MigrationRefused, pending, shipped
from persistence.pool import Connection

VERSION_MIN = 140_000

SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer AS number,
       current_setting('synchronous_commit') AS commit, current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS pages
"""


async def version(connection: Connection) -> Finding:
    """Which PostgreSQL, and whether it keeps what it says it has."""
    row = await connection.fetchrow(SERVER)
    assert row is not None
    name = f"PostgreSQL {row['version']}"
    if row["number"] < VERSION_MIN:
        return Finding("postgres", "critical", f"{name} is too old.", "Move to PostgreSQL 14 or newer.")
    for setting, name_of in (("fsync", "fsync"), ("pages", "full_page_writes")):
        if row[setting] != "on":
            says = f"{name}, {name_of} off: a crash may break the journal."
            return Finding("postgres", "critical", says, f"Set {name_of} = on.")
    if row["commit"] == "off":
        says = f"{name}, synchronous_commit off by default; the journal's own sessions switch it on."
        return Finding("postgres", "warning", says, "Set synchronous_commit = on.")
    return Finding("postgres", "ok", name)


APPLIED = "SELECT name, sha256 FROM migrations"


async def migrations(connection: Connection) -> Finding:
    """Whether the tables are those of this release."""
    try:
        applied = {row["name"]: row["sha256"] for row in await connection.fetch(APPLIED)}
        left = pending(shipped(), applied)
    except asyncpg.UndefinedTableError:
        return Finding("migrations", "critical", "This database has no tables.", "Run `lastro migrate`.")
    except MigrationRefused as refusal:
        return Finding("migrations", "critical", str(refusal), "See there.")
    if left:
        names = ", ".join(each.name for each in left)
        return Finding("migrations", "critical", f"Not applied: {names}.", "Run `lastro migrate`.")
    return Finding("migrations", "ok", f"{len(applied)} applied, none is missing")

"""What databases and backups say, for comparing them; and ways to do to a journal what nobody should."""

from pathlib import Path

import asyncpg

from persistence.backup.reading import Backup

SHARDS = 3

TABLES = {
    "journal": "shard, seq",
    "notes": "shard, seq",
    "erasures": "shard, seq",
    "accounts": "account",
    "lots": "account, bucket, expires_at_ms",
    "reservations": "id",
}

STANDINGS = "SELECT shard, cursor, bytes, link, head FROM shards ORDER BY shard"


async def said_by(connection: asyncpg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Everything that a journal says and adds up to."""
    found = {
        table: [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY {order}")]
        for table, order in TABLES.items()
    }
    found["ledger"] = [tuple(await connection.fetchrow("SELECT id, shards, born FROM ledger"))]
    found["shards"] = [tuple(row) for row in await connection.fetch(STANDINGS)]
    return found


ROWS = "SELECT shard, seq, entry, text FROM journal LEFT JOIN notes USING (shard, seq) ORDER BY shard, seq"


async def rows_of(connection: asyncpg.Connection) -> list[tuple[int, int, str, str | None]]:
    """Each entry of a journal: shard, sequence, text and notes."""
    return [tuple(row) for row in await connection.fetch(ROWS)]


def rows_in(path: Path) -> list[tuple[int, int, str, str | None]]:
    """The same of a backup, in its order."""
    found = [each.row for page in Backup(path).pages() for each in page]
    return [(row.shard, row.seq, row.entry, row.notes) for row in found]


async def tamper(connection: asyncpg.Connection, *statements: str) -> None:
    """Change the journal as only a superuser can."""
    await connection.execute("SET session_replication_role = replica")
    for statement in statements:
        await connection.execute(statement)
    await connection.execute("SET session_replication_role = origin")


async def erase_one(connection: asyncpg.Connection) -> tuple[int, int]:
    """Take the first notes that there are away, and return whose they were: shard and sequence."""
    shard, sequence = await connection.fetchrow("SELECT shard, seq FROM notes ORDER BY shard, seq LIMIT 1")
    await connection.execute("DELETE FROM notes WHERE shard = $1 AND seq = $2", shard, sequence)
    await connection.execute(
        "INSERT INTO erasures (shard, seq, by, reason) VALUES ($1, $2, 'x', 'asked to')", shard, sequence
    )
    return shard, sequence

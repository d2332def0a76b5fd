"""What a database says, for comparing two of them; and ways to do to a journal what nobody should."""

import asyncpg

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


async def tamper(connection: asyncpg.Connection, *statements: str) -> None:
    """Change the journal as only a superuser can."""
    await connection.execute("SET session_replication_role = replica")
    for statement in statements:
        await connection.execute(statement)
    await connection.execute("SET session_replication_role = origin")

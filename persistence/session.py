"""A connection of one's own, outside any pool, for what lives as long as a session: advisory locks."""

import asyncpg

from persistence.pool import CONNECT_SECONDS, Connection, ssl_of


async def connect(url: str, *, name: str = "lastro") -> Connection:
    """The caller closes it. `name` is for `pg_stat_activity`."""
    connection: Connection = await asyncpg.connect(
        url, ssl=ssl_of(url), timeout=CONNECT_SECONDS, server_settings={"application_name": name}
    )
    return connection

"""A connection of one's own, outside any pool, for what lives as long as a session: advisory locks."""

import asyncpg

from persistence.pool import CONNECT_SECONDS, SETTINGS, Connection, ssl_of


async def connect(url: str, *, name: str = "lastro", answer_seconds: float | None = None) -> Connection:
    """The caller closes it. What it commits is on the disk, because Redis lets go of it then. `name` is for
    `pg_stat_activity`; `answer_seconds` `None`: an answer may take for ever.
    """
    connection: Connection = await asyncpg.connect(
        url,
        ssl=ssl_of(url),
        timeout=CONNECT_SECONDS,
        command_timeout=answer_seconds,
        server_settings={"application_name": name, "synchronous_commit": "on", **SETTINGS},
    )
    return connection

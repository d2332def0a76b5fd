"""A connection of one's own, outside any pool, for what lives as long as a session: advisory locks."""

import asyncpg

from persistence.pool import CONNECT_SECONDS, SETTINGS, Connection, ssl_of

LASTING = {"synchronous_commit": "on", "idle_session_timeout": "0"}
"""Redis lets go of what is committed. Who holds a lock may have nothing to say for long."""


async def connect(url: str, *, name: str = "lastro", answer_seconds: float | None = None) -> Connection:
    """The caller closes it. `name` is for `pg_stat_activity`; `answer_seconds` `None`: an answer may take for
    ever.
    """
    connection: Connection = await asyncpg.connect(
        url,
        ssl=ssl_of(url),
        timeout=CONNECT_SECONDS,
        command_timeout=answer_seconds,
        server_settings={"application_name": name, **LASTING, **SETTINGS},
    )
    return connection

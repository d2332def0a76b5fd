"""A connection of one's own, outside any pool, for what lives as long as a session: advisory locks."""

import asyncpg

from persistence.pool import CONNECT_SECONDS, SETTINGS, Connection, ssl_of

LASTING = {"synchronous_commit": "on", "idle_session_timeout": "0"}
"""Redis is trimmed of what was committed here, so a commit has to be on disk. Whoever holds an advisory lock
may be idle for long.
"""


async def connect(url: str, *, name: str = "lastro", answer_seconds: float | None = None) -> Connection:
    """Connect; the caller closes. `name` is shown in `pg_stat_activity`; `answer_seconds`: the longest for
    one answer, `None`: no limit.
    """
    connection: Connection = await asyncpg.connect(
        url,
        ssl=ssl_of(url),
        timeout=CONNECT_SECONDS,
        command_timeout=answer_seconds,
        server_settings={"application_name": name, **LASTING, **SETTINGS},
    )
    return connection

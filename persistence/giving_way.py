"""A lock that keeps everybody from a table is waited for in turns: whoever waits for one has all others wait
behind him, so that a long question of somebody's would stop the ledger.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from persistence.pool import Connection

LOCK_SECONDS, PAUSE_SECONDS, TRIES = 2, 5.0, 60
"""How long a table is waited for that somebody uses, how long all others have it for themselves then, and how
often that is tried.
"""

Done = TypeVar("Done")


class StillUsed(Exception):
    """Somebody has been using a table all the time; the text says for how long, and where to look."""

    def __init__(self) -> None:
        minutes = TRIES * (LOCK_SECONDS + PAUSE_SECONDS) / 60
        super().__init__(
            f"somebody has been using its tables for {minutes:.0f} minutes, a backup or a long question "
            "perhaps. The view pg_stat_activity names who (xact_start)"
        )


async def giving_way(connection: Connection, change: Callable[[], Awaitable[Done]]) -> Done:
    """Make `change` in a transaction of its own, again and again until its locks are to be had.

    Raises:
        StillUsed: They were not. Nothing was changed.
    """
    for n in range(TRIES):
        if n:
            await asyncio.sleep(PAUSE_SECONDS)
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                return await change()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            pass
    raise StillUsed

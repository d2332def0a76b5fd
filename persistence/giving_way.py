"""A lock that keeps everybody from a table, waited for a little at a time: whoever waits for one has all
others wait behind him, and one long query would stop the ledger.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from persistence.pool import Connection

LOCK_SECONDS = 2
"""So long a lock is waited for; everybody who wants the table waits behind it."""

PAUSE_SECONDS = 5.0
"""So long the others have the table for themselves before the next try."""

TRIES_MAX = 60

QUIET_SECONDS = 2
"""So long a process may leave its change undone between two statements; then PostgreSQL takes it back."""

Done = TypeVar("Done")


class StillUsed(Exception):
    """Somebody was in the way at each try; the text says with what, and where to look."""


async def giving_way(connection: Connection, change: Callable[[], Awaitable[Done]]) -> Done:
    """Make `change` in a transaction of its own, again and again until its locks are to be had.

    Raises:
        StillUsed: They were not, in `TRIES_MAX` tries. Nothing was changed. What `change` raises itself is
            passed on.
    """
    for n in range(TRIES_MAX):
        if n:
            await asyncio.sleep(PAUSE_SECONDS)
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                # Who has gone quiet with a lock in hand keeps everybody from the table.
                await connection.execute(
                    f"SET LOCAL idle_in_transaction_session_timeout = '{QUIET_SECONDS}s'"
                )
                return await change()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            pass
    minutes = TRIES_MAX * (LOCK_SECONDS + PAUSE_SECONDS) / 60
    raise StillUsed(
        f"somebody has been using its tables for {minutes:.0f} minutes, a backup or a long question perhaps. "
        "The view pg_stat_activity names who (xact_start)"
    )

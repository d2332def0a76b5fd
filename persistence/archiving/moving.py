"""From one tablespace to another, step by step."""

from collections.abc import Callable

import asyncpg
from msgspec import Struct

from persistence.admission_steps import Barrier, past
from persistence.archiving.choosing import ArchiveRefused, month_of
from persistence.archiving.copy import Copy, Spoilt, Unproved
from persistence.archiving.tables import BOUNDS, is_in, literal
from persistence.calendar import Month
from persistence.giving_way import StillUsed, giving_way
from persistence.pool import Connection

CATCH_UP_MAX = 5
"""So often rows that were written meanwhile are copied, too, before the month is left where it is."""

JOURNAL_MS = 800
"""So long the journal is waited for, and everybody waits behind: less than PostgreSQL takes to look for
deadlocks, so that whoever alters the journal meanwhile is not the one who has to give up.
"""

AMID_MS = 1000
"""So long the exchange may take with the journal in hand, in which everybody waits."""

_LOCK = 0x6D_6F6E_7468_73  # "months"


# A month may take hours. Not every release has all of them.
FOR_HOURS = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'lock_timeout')
"""


class Moved(Struct, frozen=True):
    """Where a month was and is. `is_copied`: it was brought there; else it was there, with all its indexes.
    An index that was elsewhere brings the whole month again; then `before` and `after` are equal. `bytes`:
    with its indexes.
    """

    name: str
    rows: int
    before: str
    after: str
    bytes_before: int
    bytes_after: int
    is_copied: bool


async def move(
    connection: Connection,
    name: str,
    tablespace: str,
    *,
    seen: Callable[[int], None] = lambda _rows: None,
    barrier: Barrier = past,
) -> Moved:
    """Bring a month of the journal to a tablespace. One that is there is left as it is.

    Args:
        connection: One of its own, outside any transaction, of the role that owns the journal.
        name: Of a month from `chosen`.
        tablespace: From `tablespace_for`.
        seen: Told now and then how many more rows were copied or proved: a row counts twice, or once where a
            killed command had copied it.
        barrier: `after copy`, `after proof`, `after settling`, `amid exchange`; tests stop there.

    Raises:
        ArchiveRefused: There is no such month, it is not as it was written, somebody uses it, writes to it or
            depends on it, the journal was changed meanwhile, the copy cannot be made, or another process
            moves months. But for a proof that failed, a copy that was begun stays for the next call.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        raise ArchiveRefused("Another process moves months of this journal now. Try again when it is done.")
    try:
        await connection.execute(FOR_HOURS)
        month = await month_of(connection, name)
        copy = Copy(connection, month, tablespace, seen)
        if await is_in(connection, name, tablespace):
            await copy.drop()
            return _moved(month, month, is_copied=False)
        try:
            await _move(connection, month, copy, barrier)
        except Spoilt as error:
            await copy.drop()
            raise ArchiveRefused.of(
                name,
                f"a proof failed. {error} Run `lastro verify --from 1`. If that finds nothing, only the copy "
                "was wrong; it was dropped, and the same command makes a new one.",
            ) from error
        except Unproved as error:
            raise ArchiveRefused.of(
                name,
                f"a proof failed. {error} Run `lastro verify --from 1`. If there is a copy that was begun "
                "(`lastro months` names it), it is kept, and may have what is missing.",
            ) from error
        except asyncpg.DiskFullError as error:
            await copy.drop()
            raise ArchiveRefused.of(name, f"the disk is full ({error}). Its copy was dropped.") from error
        except StillUsed as error:
            raise ArchiveRefused.of(name, f"{error}. The same command goes on with the copy.") from error
        return _moved(month, await month_of(connection, name), is_copied=True)
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


def _moved(before: Month, now: Month, *, is_copied: bool) -> Moved:
    return Moved(now.name, now.rows, before.tablespace, now.tablespace, before.bytes, now.bytes, is_copied)


async def _move(connection: Connection, month: Month, copy: Copy, barrier: Barrier) -> None:
    await copy.demand_month()
    await copy.begin()
    for _ in range(CATCH_UP_MAX):
        await copy.fill()
        await barrier("after copy")
        await copy.prove()
        await barrier("after proof")
        await copy.settle()
        await barrier("after settling")
        try:
            is_placed = await giving_way(connection, lambda: _place(connection, month, copy, barrier))
        except asyncpg.DependentObjectsStillExistError as error:
            raise ArchiveRefused.of(
                month.name, f"{error.detail}. Drop that, or let it ask `journal`."
            ) from error
        except asyncpg.QueryCanceledError as error:
            raise ArchiveRefused.of(
                month.name,
                f"the exchange took more than {AMID_MS / 1000:g} s, for which everybody waits, and was taken "
                "back. The same command tries again.",
            ) from error
        if is_placed:
            return
        await copy.demand_month()
    raise ArchiveRefused.of(
        month.name, "it is written to all the time. The same command goes on with the copy."
    )


async def _place(connection: Connection, month: Month, copy: Copy, barrier: Barrier) -> bool:
    """Whether the copy is the month now: it is not while the month has rows that the copy has not."""
    if not await copy.is_whole():  # and what is asked again below has been read
        return False
    # Who keeps readers and writers from the journal must not wait for anything with that in his hand: not for
    # a vacuum of the month, which is waited for first, and not for somebody who reads the month by its name.
    both = f'"{month.name}", "{copy.name}"'
    await connection.execute(f"LOCK TABLE {both} IN SHARE UPDATE EXCLUSIVE MODE")
    await connection.execute(f"SET LOCAL lock_timeout = {JOURNAL_MS}")
    await connection.execute("LOCK TABLE ONLY journal IN ACCESS EXCLUSIVE MODE")
    await connection.execute(f"SET LOCAL statement_timeout = {AMID_MS}")
    await connection.execute(f"LOCK TABLE {both} IN ACCESS EXCLUSIVE MODE NOWAIT")
    await barrier("amid exchange")
    if lacks := await copy.lacks():
        raise ArchiveRefused.of(
            month.name,
            f"`journal` was changed meanwhile: {'; '.join(lacks)}. The same command makes a new copy.",
        )
    if not await copy.is_whole():
        return False
    bounds = f"FROM ({literal(month.since)}) TO ({literal(month.until)})"
    await connection.execute(f"""
    ALTER TABLE journal DETACH PARTITION "{month.name}";
    DROP TABLE "{month.name}";
    ALTER TABLE "{copy.name}" RENAME TO "{month.name}";
    ALTER TABLE journal ATTACH PARTITION "{month.name}" FOR VALUES {bounds};
    ALTER TABLE "{month.name}" DROP CONSTRAINT {BOUNDS};
    """)
    return True

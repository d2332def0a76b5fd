"""Backups that are taken by themselves, in slices, by whichever worker has the folder.

`backups` says what was taken when, and what is under way. One process at a time is at it, held apart by an
advisory lock; one that dies is followed by another, which goes on with the file. What failed is recorded and
tried again later.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from asyncpg import Record
from msgspec import Struct

from persistence.admission import Barrier, past
from persistence.backup.export import FileExport
from persistence.backup.manifest import BackupRefused
from persistence.backup.reading import Backup
from persistence.pool import Connection
from persistence.session import connect

ANSWER_SECONDS = 60.0
AGAIN = timedelta(minutes=10)
"""After a failure."""

_ADVISORY_LOCK = 0x6C617374726F04  # "lastro", 4

log = logging.getLogger(__name__)


class Plan(Struct, frozen=True):
    """Where backups go, how many of them stay, and how long it is from one to the next."""

    folder: Path
    keep: int
    interval_seconds: int


async def backup_slice(database_url: str, plan: Plan, seconds: float, *, barrier: Barrier = past) -> bool:
    """Begin the backup that is due, or go on with the one that is under way, for about `seconds`.

    Returns whether there was anything to do.

    Args:
        database_url: Of a born ledger.
        plan: This worker's.
        seconds: A page that is being written then is finished.
        barrier: `recorded`, those of `FileExport`, `taken`, `finished`, `removed`.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError: PostgreSQL is away.
    """
    async with _alone(database_url) as connection:
        if connection is None:
            return False
        row = await connection.fetchrow(UNDER_WAY) or await _due(connection, plan)
        if row is None:
            return False
        path = Path(row["path"])
        if path.parent != plan.folder:
            return await _give_up(connection, row, plan)
        await barrier("recorded")
        try:
            done = await _advance(connection, path, seconds, barrier)
            told = _told(path) if done else None
        except (BackupRefused, OSError) as error:
            if isinstance(error, ConnectionError):
                raise
            await _fail(connection, row, str(error) or type(error).__name__)
            return True
        if told is not None:
            await barrier("taken")
            await _finish(connection, row["id"], path, *told)
            await barrier("finished")
            await _remove_old(connection, plan)
            await barrier("removed")
        return True


@asynccontextmanager
async def _alone(database_url: str) -> AsyncIterator[Connection | None]:
    """A connection with the lock; `None` while another process has it."""
    connection = await connect(database_url, name="lastro backup", answer_seconds=ANSWER_SECONDS)
    try:
        has_it = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ADVISORY_LOCK)
        try:
            yield connection if has_it else None
        finally:
            if has_it and not connection.is_closed():  # the server would notice the end only after a moment
                await connection.execute("SELECT pg_advisory_unlock($1)", _ADVISORY_LOCK)
    finally:
        connection.terminate()


UNDER_WAY = "SELECT id, path, started_at FROM backups WHERE finished_at IS NULL ORDER BY id LIMIT 1"

DUE = """
SELECT now() AS now, ledger.id::text AS ledger FROM ledger WHERE born
  AND coalesce((SELECT max(started_at) FROM backups WHERE error IS NULL) <= now() - $1::interval, true)
  AND coalesce((SELECT max(finished_at) FROM backups WHERE error IS NOT NULL) <= now() - $2::interval, true)
"""

BEGIN = "INSERT INTO backups (started_at, path) VALUES ($1, $2) RETURNING id, path, started_at"


async def _due(connection: Connection, plan: Plan) -> Record | None:
    row = await connection.fetchrow(DUE, timedelta(seconds=plan.interval_seconds), AGAIN)
    if row is None:
        return None
    now: datetime = row["now"]
    taken = f"{now.astimezone(UTC):%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z"
    name = f"lastro-{row['ledger'][:8]}-{taken}.jsonl.gz"
    return await connection.fetchrow(BEGIN, now, str(plan.folder / name))


async def _give_up(connection: Connection, row: Record, plan: Plan) -> bool:
    """One that another worker has begun, in a folder of its own: it has an interval's time to finish it."""
    now: datetime = await connection.fetchval("SELECT now()")
    if now - row["started_at"] < timedelta(seconds=plan.interval_seconds):
        return False
    await _fail(connection, row, "no worker with this folder has finished it")
    return True


async def _advance(connection: Connection, path: Path, seconds: float, barrier: Barrier) -> bool:
    if _is_there(path):  # it got its name when it was whole
        return True
    exporting = FileExport(connection, path, barrier=barrier)
    try:
        await exporting.begin()
        return await exporting.advance(seconds)
    finally:
        exporting.close()


FAIL = "UPDATE backups SET finished_at = now(), error = $2 WHERE id = $1"


async def _fail(connection: Connection, row: Record, why: str) -> None:
    log.error("the backup %s has failed: %s", row["path"], why)
    FileExport(connection, Path(row["path"])).discard()
    await connection.execute(FAIL, row["id"], why)


FINISH = "UPDATE backups SET finished_at = now(), entries = $2, bytes = $3 WHERE id = $1"


async def _finish(connection: Connection, number: int, path: Path, entries: int, size: int) -> None:
    await connection.execute(FINISH, number, entries, size)
    log.info("backup %s: %d entries, %d bytes", path, entries, size)


OLD = """
SELECT id, path FROM backups WHERE finished_at IS NOT NULL AND error IS NULL AND removed_at IS NULL
ORDER BY started_at DESC OFFSET $1
"""

REMOVED = "UPDATE backups SET removed_at = now() WHERE id = $1"


async def _remove_old(connection: Connection, plan: Plan) -> None:
    """Of those that are recorded, the oldest go; no other file is touched."""
    for row in await connection.fetch(OLD, plan.keep):
        if Path(row["path"]).parent == plan.folder:
            _remove(Path(row["path"]))
            await connection.execute(REMOVED, row["id"])


def _is_there(path: Path) -> bool:
    return path.exists()


def _told(path: Path) -> tuple[int, int]:
    """How many entries a backup says that it has, and its bytes."""
    return Backup(path).manifest.entries, path.stat().st_size


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)

"""Brings a database to the tables of this release: the numbered files of `migrations/`, in order, once each.

A file is applied in a transaction of its own, together with the note that it was. Two processes that migrate
at once take turns. What has been applied is never run again and never undone: a file that was changed
afterwards, or one that this release does not know, is refused before anything is touched.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

import asyncpg

from persistence.giving_way import StillUsed, giving_way
from persistence.pool import Connection
from persistence.session import connect

_ADVISORY_LOCK = 0x6C617374726F01  # "lastro", 1
_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql", re.ASCII)


class MigrationRefused(Exception):
    """The database and this release do not fit together. Nothing was changed; the text says what to do."""


class Migration(NamedTuple):
    """A file: its name, its text, the SHA-256 of its text (64 hex digits)."""

    name: str
    sql: str
    sha256: str


def shipped(folder: Traversable | None = None) -> list[Migration]:
    """The migrations of this release in order."""
    folder = folder or files("persistence").joinpath("migrations")
    found = sorted(
        (each for each in folder.iterdir() if _NAME.fullmatch(each.name)), key=lambda each: each.name
    )
    texts = [(each.name, each.read_text(encoding="utf-8")) for each in found]
    return [Migration(name, sql, hashlib.sha256(sql.encode()).hexdigest()) for name, sql in texts]


def pending(known: Sequence[Migration], applied: Mapping[str, str]) -> list[Migration]:
    """What is left to do in a database where `applied` (name to SHA-256) has been.

    Raises:
        MigrationRefused: The database is newer than this release, a file was changed after it was applied, or
            one was slipped in before those that were.
    """
    shas = {each.name: each.sha256 for each in known}
    for name in sorted(applied):
        if name not in shas:
            raise MigrationRefused(
                f"The database is newer than this release: it has had {name}, of which this release knows "
                "nothing. Run the release that made it, or a later one."
            )
        if shas[name] != applied[name]:
            raise MigrationRefused(
                f"{name} was changed after it had been applied here. Put the file back as it was "
                "and bring the change in a new file."
            )
    left = [each for each in known if each.name not in applied]
    last = max(applied, default="")
    for each in left:
        if each.name < last:
            raise MigrationRefused(
                f"{each.name} comes before {last}, which has been applied. Give it a number after that."
            )
    return left


APPLIED = "SELECT name, sha256 FROM migrations"

NOTE = "INSERT INTO migrations (name, sha256) VALUES ($1, $2)"

LEDGER_OF_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS migrations (
  name text PRIMARY KEY,
  sha256 text NOT NULL CHECK (length(sha256) = 64),
  applied_at timestamptz NOT NULL DEFAULT now()
)
"""


async def migrate(database_url: str, known: Sequence[Migration] | None = None) -> list[str]:
    """Apply what has not been applied, and return the names of it. Repeating does nothing.

    Args:
        database_url: Of a role that may create tables.
        known: What there is to apply; by default the files of this release.

    Raises:
        MigrationRefused: See `pending`; or a file failed, and then the files before it stay applied.
    """
    known = shipped() if known is None else known
    connection = await connect(database_url, name="lastro migrate")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
        await connection.execute("SET client_min_messages = warning")
        await connection.execute(LEDGER_OF_MIGRATIONS)
        applied = {row["name"]: row["sha256"] for row in await connection.fetch(APPLIED)}
        left = pending(known, applied)
        for each in left:
            await _apply(connection, each)
    finally:
        await connection.close()
    return [each.name for each in left]


async def _apply(connection: Connection, migration: Migration) -> None:
    async def apply() -> None:
        await connection.execute(migration.sql)
        await connection.execute(NOTE, migration.name, migration.sha256)

    try:
        await giving_way(connection, apply)
    except StillUsed as error:
        raise MigrationRefused(
            f"{migration.name} was not applied: {error}; migrate again when they are done."
        ) from error
    except asyncpg.PostgresError as error:
        raise MigrationRefused(f"{migration.name} failed and was taken back: {error}") from error

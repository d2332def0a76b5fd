"""A ledger that has traded this month, and a PostgreSQL with another disk."""

from contextlib import suppress

import asyncpg
import pytest

from persistence import giving_way
from persistence.admission_steps import Barrier
from persistence.calendar import months
from persistence.session import connect
from tests.integration.books import Shop
from tests.integration.journal.workers import SHARDS, keep_journal

OWN, COLD = "pg_default", "cold"

# An index is a part of one of the journal's, or the month's own key: an exchanged month has as many of each.
INDEXES = """
SELECT count(*) AS all, count(*) FILTER (WHERE EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid))
  AS of_the_journal, bool_and(indisvalid) AS valid
FROM pg_index WHERE indrelid = $1::regclass
"""


COPIES = "SELECT relname FROM pg_class WHERE relname LIKE 'journal%copy'"


class Killed(Exception):
    """At a barrier."""


async def make_cold(connection) -> None:
    """Have another disk. All databases of a server share it."""
    with suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        await connection.execute("SET allow_in_place_tablespaces = true")
        await connection.execute(f"CREATE TABLESPACE {COLD} LOCATION ''")


def killed_at(step: str) -> Barrier:
    """Dies after this step."""

    async def die(reached: str) -> None:
        if reached == step:
            raise Killed

    return die


@pytest.fixture
async def connection(database_url, postgres_server):
    """One of its own, to a server that has a tablespace `cold`."""
    connection = await connect(database_url)
    await make_cold(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def month(caller, worker, connection):
    """Gives this month, of a ledger that has traded in it, as it is now."""
    await Shop(caller, SHARDS, seed=11).trade(40)
    await keep_journal(worker)

    async def look():
        return max(await months(connection), key=lambda each: each.rows)

    return look


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(giving_way, "LOCK_SECONDS", 1)
    monkeypatch.setattr(giving_way, "PAUSE_SECONDS", 0.3)


async def rows_of(connection):
    return await connection.fetch("SELECT * FROM journal ORDER BY shard, seq")


async def left_over(connection) -> list[str]:
    return [row[0] for row in await connection.fetch(COPIES)]

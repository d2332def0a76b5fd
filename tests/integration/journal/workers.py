"""Workers that keep the journal, and how far they came."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import asyncpg

from persistence.journal import Journal, Outcome

SHARDS = 3

Worker = Callable[..., AbstractAsyncContextManager[Journal]]
"""Makes a worker that has locked `shards` (all), with the options of `Journal`."""


async def to_the_end(journal: Journal, shard: int) -> Outcome:
    """Journal one shard until there is no more to do, and return why."""
    while (outcome := (await journal.one_batch(shard)).outcome) is Outcome.MORE:
        pass
    return outcome


async def keep_journal(worker: Worker, **options: object) -> list[Outcome]:
    """Journal every shard until there is no more to do."""
    async with worker(**options) as journal:
        return [await to_the_end(journal, shard) for shard in range(SHARDS)]


async def rows(database: asyncpg.Pool, shard: int = 0) -> int:
    """How many rows the journal has of a shard."""
    return await database.fetchval("SELECT count(*) FROM journal WHERE shard = $1", shard)


async def fence_of(database: asyncpg.Pool, shard: int = 0) -> str | None:
    """Why PostgreSQL has a shard fenced."""
    return await database.fetchval("SELECT fence FROM shards WHERE shard = $1", shard)

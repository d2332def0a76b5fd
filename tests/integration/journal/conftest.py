"""A born ledger of three shards, a caller of its script, and workers that keep its journal."""

from contextlib import asynccontextmanager

import pytest

from persistence.admission import admit
from persistence.birth import give_birth
from persistence.journal import Journal
from persistence.session import connect
from tests.integration.journal.workers import SHARDS
from tests.integration.streams import Caller


@pytest.fixture
async def ledger(database_url, redis_url) -> str:
    return str(await give_birth(database_url, redis_url, SHARDS))


@pytest.fixture
async def caller(database, redis, ledger) -> Caller:
    return Caller(redis, await admit(database, redis))


@pytest.fixture
def worker(database_url, redis, ledger):
    """Makes workers, each with a connection of its own that goes with it."""

    @asynccontextmanager
    async def made(shards=range(SHARDS), keep=None, **options):
        connection = await connect(database_url)
        try:
            journal = Journal(connection, redis, ledger, keep=keep, **options)
            assert await journal.lock(shards) == list(shards)
            yield journal
        finally:
            await connection.close()

    return made

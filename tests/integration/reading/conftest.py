"""A born ledger, a process of it, and an account that has seen everything."""

import asyncio

import pytest

from persistence.birth import give_birth
from persistence.drain import drain
from persistence.past import PostgresPast
from tests.integration.ledgers import journal_all, process
from tests.integration.reading.life import SHARDS, Life
from tests.integration.rows import Rows
from tests.integration.streams import Caller


@pytest.fixture
async def ledger(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        await ledger.new_reservation_id("anybody")  # it is admitted, and knows the time
        yield ledger


@pytest.fixture
def past(database, ledger):
    return PostgresPast(database, ledger)


@pytest.fixture
def rows(database) -> Rows:
    return Rows(database)


@pytest.fixture
async def worker(database_url, redis_url):
    """A journal worker beside the test."""
    work = asyncio.create_task(drain(database_url, redis_url, 60.0, keep=None))
    yield
    work.cancel()
    await asyncio.wait({work})


@pytest.fixture
async def life(redis, ledger, redis_url, database_url) -> Life:
    """Some hundred random operations, all of them journaled."""
    lived = Life(Caller(redis, ledger.terms), seed=7)
    await lived.go_on(180)
    await journal_all(database_url, redis_url)
    return lived

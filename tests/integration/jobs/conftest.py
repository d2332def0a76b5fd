"""A born ledger, its queues, and what is needed to start workers and cron as processes of their own."""

from collections.abc import Iterator
from functools import partial

import pytest
from redis import Redis

from app.embedded import Postgres, Valkey
from app.ledger.ledger import Ledger
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.schedule import connect
from persistence.told import Work
from tests.processes import Start, children


@pytest.fixture
def processes() -> Iterator[Start]:
    with children() as start:
        yield start


@pytest.fixture
def work(redis_url: str, database_url: str) -> Work:
    return Work(redis_url=redis_url, queue_url=redis_url, database_url=database_url)


@pytest.fixture
def queues(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
async def ledger(redis, database, work):
    """A born ledger of 4 shards."""
    await give_birth(work.database_url, work.redis_url, 4)
    ledger = Ledger(redis, PostgresBacking(database, partial(admission.admit, database, redis)))
    await ledger.start()
    yield ledger
    await ledger.stop()


@pytest.fixture
def own_work(own_valkey: Valkey, own_postgres: Postgres) -> Work:
    return Work(redis_url=own_valkey.url, queue_url=own_valkey.url, database_url=own_postgres.url)

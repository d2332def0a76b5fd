"""A ledger that is well: entries that are journaled, compared and cleaned up, two workers and cron."""

import time
from collections.abc import Iterator

import pytest

from app.ledger.operations import Grant
from persistence.alerts.watched import Watched
from persistence.alive import RedisQueues
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.health.looking import Looking
from persistence.schedule import connect, enqueue_due
from persistence.work import Worker
from tests.integration.ledgers import ACCOUNTS, SHARDS, process

WELL = """
UPDATE shards SET verified_seq = cursor, verified_at = now();
INSERT INTO reconciliations (finished_at, status, by) VALUES (now(), 'equal', 'test');
INSERT INTO cleanups (finished_at, by, whole) VALUES (now(), 'test', true);
"""


@pytest.fixture
async def well(database, database_url, redis, redis_url) -> None:
    await begin(database, database_url, redis_url)


async def begin(database, database_url, redis_url) -> None:
    """Found it, move something, and leave nothing undone."""
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        for account in ACCOUNTS.values():
            await ledger.grant(Grant(account=account, amount=100))
    await drain(database_url, redis_url, 0.3, keep=None)
    await database.execute(WELL)


@pytest.fixture
def at_work(redis_url) -> Iterator[list[Worker]]:
    """Two workers that have shown themselves, and what cron puts in."""
    with connect(redis_url) as queues:
        yield begin_work(queues, 2)


def begin_work(queues, number: int) -> list[Worker]:
    """Workers that are there, without working."""
    workers = [Worker(queues) for _ in range(number)]
    for each in workers:
        each.register_birth()
    enqueue_due(queues, time.time())
    return workers


@pytest.fixture
def looking(database, redis, redis_url) -> Looking:
    return look_of(database, redis, redis_url)


def look_of(database, redis, redis_url, **watched) -> Looking:
    return Watched(**watched).looking(database, redis, RedisQueues(redis_url))

"""The job of a worker: what is journaled is counted within moments, as long as cron calls for it."""

import asyncio
from functools import partial

import pytest
from redis import Redis

from persistence import jobs
from persistence.schedule import enqueue_due
from persistence.told import Work
from persistence.workbench import Workbench
from tests.integration.journal.conftest import caller, ledger, worker
from tests.integration.journal.workers import keep_journal

__all__ = ["caller", "ledger", "worker"]


@pytest.fixture
def bench(redis_url, database_url, ledger):
    bench = Workbench(Work(redis_url=redis_url, queue_url=redis_url, database_url=database_url))
    bench.open()
    token = jobs.bench.set(bench)
    yield bench
    jobs.bench.reset(token)
    bench.close()


async def test_a_job_has_counted_what_comes_while_it_goes_on(database, caller, worker, bench):
    await asyncio.to_thread(bench.run, partial(bench.call_for, "monitoring"))
    for number in (1, 2):
        await caller.grant(0, calls=3)
        await keep_journal(worker)
        async with asyncio.timeout(20):
            while await database.fetchval("SELECT counted FROM usage_state") < 3 * number:
                await asyncio.to_thread(bench.run, partial(bench.call_for, "monitoring"))
                await asyncio.sleep(0.05)
    assert 6 == await database.fetchval("SELECT counted FROM usage_state")


def test_cron_calls_for_it_every_second(redis_url):

    with Redis.from_url(redis_url) as queues:
        put = [each for now in range(1000, 1003) for each in enqueue_due(queues, float(now))]
    assert [f"lastro-tasks-monitoring-{now}" for now in range(1000, 1003)] == [
        each for each in put if "monitoring" in each
    ]

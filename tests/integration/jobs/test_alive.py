"""What operators see of queues and workers: who is at work, what has failed and why, and trying it again."""

import asyncio
import os
import time
from contextvars import Context

import pytest
from redis import Redis
from rq import Queue, SimpleWorker

from app.embedded.ports import free_port
from app.queues import FAILED_MAX, QueuesUnavailable
from persistence import jobs
from persistence.alive import RedisQueues
from persistence.schedule import enqueue_due
from persistence.work import Worker
from tests.integration.jobs.waiting import PATIENCE_SECONDS
from tests.processes import WORKER, argument

NOON = 1_767_355_200.0


def fail(queues: Redis, *names: str) -> None:
    """Have jobs run where no workbench stands, so that each raises."""
    queue = Queue(jobs.TASKS_QUEUE, connection=queues)
    for name in names:
        queue.enqueue(jobs.sweep, job_id=name, failure_ttl=600)
    worker = SimpleWorker([queue], connection=queues)
    Context().run(worker.work, burst=True, logging_level="CRITICAL")


async def test_queues_workers_and_cron_are_seen_as_they_are(redis_url, queues):
    looked = await RedisQueues(redis_url).look()
    assert [(jobs.JOURNAL_QUEUE, 0), (jobs.TASKS_QUEUE, 0)] == [(q.name, q.waiting) for q in looked.queues]
    assert ([], [], False) == (looked.workers, looked.failed, looked.cron)

    ids = enqueue_due(queues, NOON)
    worker = Worker(queues)
    worker.register_birth()
    looked = await RedisQueues(redis_url).look()
    assert [1, len(ids) - 1] == [each.waiting for each in looked.queues]
    (seen,) = looked.workers
    assert (True, 0, 0) == (seen.alive, seen.succeeded, seen.failed)
    assert seen.name.endswith(f":{os.getpid()}")
    worker.register_death()


async def test_cron_is_seen_by_the_jobs_that_it_has_just_put_in(redis_url, queues):
    enqueue_due(queues, time.time())
    assert (await RedisQueues(redis_url).look()).cron


async def test_a_failed_job_is_shown_with_its_error_and_succeeds_when_what_stood_against_it_is_mended(
    ledger, work, queues, processes
):
    fail(queues, "unlucky")
    of = RedisQueues(work.queue_url)
    (failed,) = (await of.look()).failed
    assert ("unlucky", "persistence.jobs.sweep()", jobs.TASKS_QUEUE) == (failed.id, failed.name, failed.queue)
    assert failed.error.startswith("LookupError: <ContextVar name='bench'")
    assert "Traceback" in failed.trace
    assert failed.failed_at is not None

    processes(WORKER, argument(work))
    assert await of.retry("unlucky")
    assert not await of.retry("unlucky")

    async with asyncio.timeout(PATIENCE_SECONDS):
        while [1] != [each.succeeded for each in (await of.look()).workers]:  # noqa: ASYNC110 - a worker does it
            await asyncio.sleep(0.05)
    assert [] == (await of.look()).failed


async def test_the_latest_failures_are_shown_and_nobody_elses_job_can_be_retried(redis_url, queues):
    fail(queues, *(f"job-{number}" for number in range(FAILED_MAX + 1)))
    of = RedisQueues(redis_url)
    looked = await of.look()
    assert FAILED_MAX == len(looked.failed)
    assert "job-0" not in {each.id for each in looked.failed}
    assert FAILED_MAX + 1 == looked.queues[1].failed
    for unknown in ("", "job-99", "rq:job:job-1", "job-1\n"):
        assert not await of.retry(unknown)


async def test_while_the_queues_are_away_that_is_said():
    of = RedisQueues(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(QueuesUnavailable):
        await of.look()
    with pytest.raises(QueuesUnavailable):
        await of.retry("any")

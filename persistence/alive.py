"""Whether workers and cron are at work, and what has failed; seen from the queues. Blocks for their answers,
but for `RedisQueues`.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.worker import BaseWorker

from app import queues as told
from app.queues import AtWork, FailedJob, QueuesUnavailable
from persistence import jobs
from persistence.schedule import JOURNAL_SECONDS, QUEUED_MAX, connect
from persistence.work import ALIVE_SECONDS, workers_alive

_LOOK_BACK_SLICES = 5
_QUEUES = (jobs.JOURNAL_QUEUE, jobs.TASKS_QUEUE)
_Answer = TypeVar("_Answer")


def workers(queue_url: str) -> int:
    """How many workers have shown themselves lately."""
    with connect(queue_url) as queues:
        return workers_alive(queues)


def cron(queue_url: str) -> bool:
    """Whether a journal job was put in within the last seconds, or so many wait that none has to be."""
    with connect(queue_url) as queues:
        return _is_fed(queues)


def _is_fed(queues: Redis) -> bool:
    if Queue(jobs.JOURNAL_QUEUE, connection=queues).count >= QUEUED_MAX:
        return True
    now = int(time.time()) // JOURNAL_SECONDS
    ids = (f"{jobs.JOURNAL_QUEUE}-{jobs.journal.__name__}-{now - back}" for back in range(_LOOK_BACK_SLICES))
    return any(Job.exists(each, connection=queues) for each in ids)


class RedisQueues:
    """`app.queues.Queues` over the queues' Redis, which is asked in a thread."""

    def __init__(self, queue_url: str) -> None:
        self._queue_url = queue_url

    async def look(self) -> AtWork:
        return await self._asked(_look)

    async def retry(self, job: str) -> bool:
        return await self._asked(lambda queues: _retry(queues, job))

    async def _asked(self, ask: Callable[[Redis], _Answer]) -> _Answer:
        def blocking() -> _Answer:
            with connect(self._queue_url) as queues:
                return ask(queues)

        try:
            return await asyncio.to_thread(blocking)
        except (RedisError, OSError) as error:
            raise QueuesUnavailable(str(error) or type(error).__name__) from error


def _look(queues: Redis) -> AtWork:
    named = [Queue(name, connection=queues) for name in _QUEUES]
    counts = [
        told.Queue(each.name, each.count, each.started_job_registry.count, each.failed_job_registry.count)
        for each in named
    ]
    workers = SimpleWorker.all(connection=queues)
    since = datetime.now(UTC) - timedelta(seconds=ALIVE_SECONDS)
    failed = [job for each in named for job in _failed(each)]
    failed.sort(key=lambda job: job.failed_at or since, reverse=True)
    return AtWork(
        counts,
        sorted((_worker(each, since) for each in workers), key=lambda worker: worker.name),
        failed[: told.FAILED_MAX],
        cron=_is_fed(queues),
    )


def _worker(worker: BaseWorker, since: datetime) -> told.Worker:
    return told.Worker(
        name=f"{worker.hostname}:{worker.pid}",
        state=worker.get_state(),
        alive=worker.last_heartbeat is not None and worker.last_heartbeat >= since,
        job=worker.get_current_job_id(),
        succeeded=worker.successful_job_count,
        failed=worker.failed_job_count,
        born_at=worker.birth_date,
        seen_at=worker.last_heartbeat,
    )


def _failed(queue: Queue) -> list[FailedJob]:
    """The latest failed ones of a queue: the registry is sorted by when they are forgotten."""
    ids = queue.failed_job_registry.get_job_ids(0, told.FAILED_MAX - 1, desc=True)
    found = Job.fetch_many(ids, connection=queue.connection)
    return [_failure(queue.name, job) for job in found if job is not None]


def _failure(queue: str, job: Job) -> FailedJob:
    result = job.latest_result()
    trace = (result.exc_string if result else None) or "Its worker ended without a word."
    return FailedJob(
        id=job.id,
        name=job.description or "",
        queue=queue,
        failed_at=job.ended_at,
        error=trace.strip().rpartition("\n")[2],
        trace=trace.strip(),
    )


def _retry(queues: Redis, job_id: str) -> bool:
    for name in _QUEUES:
        registry = Queue(name, connection=queues).failed_job_registry
        if job_id in registry:
            try:
                registry.requeue(job_id)
            except (InvalidJobOperation, NoSuchJobError):
                return False
            return True
    return False

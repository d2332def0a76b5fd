"""The cron process: puts jobs into the queues, second by second, and does nothing else.

A job's id is its name and the slice of time it is for, and RQ takes an id once: two cron processes put in no
more than one. A job that nobody starts expires, and nothing is put into a queue that is not being emptied, so
that workers who come back after a day find no day of work.
"""

import logging
import signal
import threading
import time
from types import FrameType

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError

from persistence import jobs

JOURNAL_SECONDS = 1
SWEEP_SECONDS = 5
RECONCILE_SECONDS = 5
"""How often a worker looks whether a reconciliation is due, was asked for, or goes on."""

WEBHOOKS_SECONDS = 3
"""How often the inbox is looked through: a task that was bound finds its webhook within 10 s."""

EVENTS_SECONDS = 1
"""How often workers are called to tell what happens; they go on for some seconds each time."""

ASK_SECONDS = 3
"""How often workers are called to ask silent providers; they go on for some seconds each time."""

CLEANUP_SECONDS = 5
"""How often workers are called to look whether a clean-up is due; they go on for some seconds each time."""

MONITORING_SECONDS = 1
"""How often workers are called to count what the journal has got; they go on for some seconds each time."""

BACKUP_SECONDS = 5
"""How often a worker looks whether a backup is due or goes on."""

ALERTS_SECONDS = 3
"""How often workers are called to watch; they go on for some seconds each time."""

MONTHS_SECONDS = 3600
"""How often a worker looks whether the next months of the journal are there."""

JOB_SECONDS_MAX = 30
KEPT_SECONDS = 10
FAILED_KEPT_SECONDS = 600
QUEUED_MAX = 32
ANSWER_SECONDS = 2.0

_log = logging.getLogger(__name__)


def connect(queue_url: str) -> Redis:
    """A client for queues: bytes, as RQ needs them, and no retries, because the next second is one."""
    return Redis.from_url(
        queue_url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
    )


def enqueue_due(queues: Redis, now: float) -> list[str]:
    """Put in what is due at `now` (Unix seconds) and was not put in yet. Returns the ids of what was."""
    put = []
    for job, queue_name, seconds in (
        (jobs.journal, jobs.JOURNAL_QUEUE, JOURNAL_SECONDS),
        (jobs.sweep, jobs.TASKS_QUEUE, SWEEP_SECONDS),
        (jobs.reconcile, jobs.TASKS_QUEUE, RECONCILE_SECONDS),
        (jobs.backup, jobs.TASKS_QUEUE, BACKUP_SECONDS),
        (jobs.cleanup, jobs.TASKS_QUEUE, CLEANUP_SECONDS),
        (jobs.alerts, jobs.TASKS_QUEUE, ALERTS_SECONDS),
        (jobs.monitoring, jobs.TASKS_QUEUE, MONITORING_SECONDS),
        (jobs.events, jobs.TASKS_QUEUE, EVENTS_SECONDS),
        (jobs.ask, jobs.TASKS_QUEUE, ASK_SECONDS),
        (jobs.webhooks, jobs.TASKS_QUEUE, WEBHOOKS_SECONDS),
        (jobs.months, jobs.TASKS_QUEUE, MONTHS_SECONDS),
    ):
        queue = Queue(queue_name, connection=queues)
        if queue.count >= QUEUED_MAX:
            continue
        job_id = f"{queue_name}-{job.__name__}-{int(now) // seconds}"
        try:
            queue.enqueue(
                job,
                job_id=job_id,
                unique=True,
                job_timeout=JOB_SECONDS_MAX,
                ttl=seconds + 2,
                result_ttl=max(KEPT_SECONDS, seconds),  # until then it is not put in again
                failure_ttl=FAILED_KEPT_SECONDS,
            )
        except DuplicateJobError:
            continue
        put.append(job_id)
    return put


def run_cron(queue_url: str) -> None:
    """Put jobs in until SIGTERM or SIGINT; `lastro cron`. While Redis is away it keeps trying."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    answers = True
    with connect(queue_url) as queues:
        while not stopping.is_set():
            try:
                enqueue_due(queues, time.time())
            except (RedisError, OSError) as error:
                if answers:
                    _log.warning("the queues' Redis does not answer, trying on: %s", error)
                answers = False
            else:
                if not answers:
                    _log.warning("the queues' Redis answers again")
                answers = True
            stopping.wait(1 - time.time() % 1)

"""Whether workers and cron are at work, for health checks; seen from the queues. Blocks for their answers."""

import time

from rq import Queue
from rq.job import Job

from persistence import jobs
from persistence.schedule import JOURNAL_SECONDS, QUEUED_MAX, connect
from persistence.work import workers_alive

_LOOK_BACK_SLICES = 5


def workers(queue_url: str) -> int:
    """How many workers have shown themselves lately."""
    with connect(queue_url) as queues:
        return workers_alive(queues)


def cron(queue_url: str) -> bool:
    """Whether a journal job was put in within the last seconds, or so many wait that none has to be."""
    with connect(queue_url) as queues:
        if Queue(jobs.JOURNAL_QUEUE, connection=queues).count >= QUEUED_MAX:
            return True
        now = int(time.time()) // JOURNAL_SECONDS
        ids = (
            f"{jobs.JOURNAL_QUEUE}-{jobs.journal.__name__}-{now - back}" for back in range(_LOOK_BACK_SLICES)
        )
        return any(Job.exists(each, connection=queues) for each in ids)

"""What cron puts into the queues: each job once, no more than have room, and no passwords."""

import re

from redis import Redis
from rq.job import Job

from persistence import jobs
from persistence.schedule import (
    ALERTS_SECONDS,
    ASK_SECONDS,
    BACKUP_SECONDS,
    CLEANUP_SECONDS,
    EVENTS_SECONDS,
    JOURNAL_SECONDS,
    MONITORING_SECONDS,
    MONTHS_SECONDS,
    QUEUED_MAX,
    RECONCILE_SECONDS,
    SWEEP_SECONDS,
    WEBHOOKS_SECONDS,
    connect,
    enqueue_due,
)

NOON = 1_767_355_200.0


def queued(queues: Redis, queue: str) -> int:
    return queues.llen(f"rq:queue:{queue}")


def test_two_crons_put_in_no_more_than_one_job_a_slice(redis_url, queues):
    with connect(redis_url) as other:
        for second in range(10):
            for client in (queues, other, queues):
                enqueue_due(client, NOON + second / 2)
    assert 5 == queued(queues, jobs.JOURNAL_QUEUE)
    assert 4 + 5 + 5 + 2 + 2 + 2 + 1 == queued(queues, jobs.TASKS_QUEUE)


def test_what_was_done_is_remembered_until_it_is_due_again(queues):
    for id_ in enqueue_due(queues, NOON):
        job = Job.fetch(id_, connection=queues)
        seconds = {"tasks-months": MONTHS_SECONDS}.get(id_.rpartition("-")[0], 0)
        assert seconds <= job.result_ttl


def test_a_queue_that_nobody_empties_does_not_grow(queues):
    for second in range(10 * QUEUED_MAX):
        enqueue_due(queues, NOON + second)
    assert QUEUED_MAX == queued(queues, jobs.JOURNAL_QUEUE)
    assert QUEUED_MAX == queued(queues, jobs.TASKS_QUEUE)


def test_a_job_that_nobody_starts_expires(queues):
    ids = enqueue_due(queues, NOON)
    every = (
        JOURNAL_SECONDS,
        SWEEP_SECONDS,
        RECONCILE_SECONDS,
        BACKUP_SECONDS,
        CLEANUP_SECONDS,
        ALERTS_SECONDS,
        MONITORING_SECONDS,
        EVENTS_SECONDS,
        ASK_SECONDS,
        WEBHOOKS_SECONDS,
        MONTHS_SECONDS,
    )
    for job_id, seconds in zip(ids, every, strict=True):
        assert 0 < queues.ttl(f"rq:job:{job_id}") <= seconds + 2


def test_a_job_carries_no_addresses_and_no_passwords(queues):
    ids = enqueue_due(queues, NOON)
    for job_id in ids:
        job = b"".join(queues.hgetall(f"rq:job:{job_id}").values())
        assert not re.search(rb"redis://|postgresql://", job)

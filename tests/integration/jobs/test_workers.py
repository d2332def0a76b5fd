"""Workers and cron as processes of their own: what they do, and how they are replaced."""

import signal
from contextlib import AsyncExitStack
from functools import partial

from msgspec import structs

from app.ledger.connection import connect as connect_redis
from app.ledger.ledger import Ledger
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.pool import open_pool
from persistence.work import Worker, workers_alive
from tests.integration.jobs.waiting import (
    at_work,
    caught_up,
    eventually,
    granted_everywhere,
    in_vain,
    journaled,
    workers_alive_now,
)
from tests.processes import CRON, WORKER, argument


async def test_what_is_granted_is_journaled_by_cron_and_one_worker(ledger, database, work, processes):
    processes(CRON, work.queue_url)
    processes(WORKER, argument(work))
    await journaled(database, ledger)
    for _ in range(5):
        await journaled(database, ledger, 3)


async def test_a_killed_worker_is_replaced_by_the_spare_within_three_seconds(
    ledger, database, work, processes
):
    processes(CRON, work.queue_url)
    long = argument(structs.replace(work, slice_seconds=25.0))  # so that who has the shards keeps them
    worker = processes(WORKER, long)
    await journaled(database, ledger)
    processes(WORKER, long)
    await in_vain(database)
    worker.kill()
    await journaled(database, ledger, 3)


async def test_when_all_workers_are_killed_those_started_instead_catch_up_within_three_seconds(
    ledger, database, work, processes
):
    processes(CRON, work.queue_url)
    workers = [processes(WORKER, argument(work)) for _ in range(2)]
    await journaled(database, ledger)
    for each in workers:
        each.kill()
    wanted = await granted_everywhere(ledger)
    await at_work(work, *(processes(WORKER, argument(work)) for _ in range(2)))
    await caught_up(database, wanted, 3)


def test_a_worker_that_redis_has_forgotten_shows_itself_anew(queues):
    worker = Worker(queues)
    worker.register_birth()
    queues.flushall()
    for _ in range(2):
        worker.heartbeat()
        assert 1 == workers_alive(queues)
    worker.register_death()
    assert 0 == workers_alive(queues)


async def test_workers_are_counted_while_they_live_and_not_when_they_have_ended(work, processes):
    workers = [processes(WORKER, argument(work)) for _ in range(2)]
    await eventually(lambda: workers_alive_now(work) == 2)
    workers[0].send_signal(signal.SIGTERM)
    await eventually(lambda: workers_alive_now(work) == 1)


async def test_workers_and_cron_outlive_their_servers_and_may_start_before_them(
    own_valkey, own_postgres, own_work, processes
):
    await give_birth(own_work.database_url, own_work.redis_url, 4)
    own_valkey.kill()
    own_postgres.kill()
    processes(CRON, own_work.queue_url)
    processes(WORKER, argument(own_work))
    own_valkey.restart()
    await eventually(lambda: workers_alive_now(own_work) == 1)
    own_postgres.restart()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(await open_pool(own_work.database_url))
        redis = await stack.enter_async_context(connect_redis(own_work.redis_url))
        aside = await stack.enter_async_context(connect_redis(own_work.redis_url))
        ledger = Ledger(redis, PostgresBacking(pool, partial(admission.admit, pool, aside)))
        await ledger.start()
        stack.push_async_callback(ledger.stop)
        await journaled(pool, ledger)
        own_postgres.kill()
        own_postgres.restart()
        await journaled(pool, ledger)
        own_valkey.kill()
        own_valkey.restart()
        await journaled(pool, ledger)

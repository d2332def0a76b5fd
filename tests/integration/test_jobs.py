"""Cron and workers as processes of their own: what they do, how they end, and how they are replaced."""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial

import msgspec
import pytest
from redis import Redis

from app.embedded import Postgres, Valkey
from app.ledger import keys
from app.ledger.backing import BackingUnavailable
from app.ledger.connection import connect as connect_redis
from app.ledger.errors import LedgerUnavailable
from app.ledger.ledger import Ledger, Receipt
from app.ledger.operations import Grant, Reserve
from app.ledger.shards import shard_of_reservation
from persistence import admission, jobs
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.fences import fence
from persistence.pool import Pool, answering, open_pool
from persistence.schedule import (
    BACKUP_SECONDS,
    JOURNAL_SECONDS,
    QUEUED_MAX,
    RECONCILE_SECONDS,
    SWEEP_SECONDS,
    connect,
    enqueue_due,
)
from persistence.work import Worker, workers_alive
from persistence.workbench import Work, Workbench
from tests.processes import CRON, WORKER, Start, argument, children

NOON = 1_767_355_200.0


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


def queued(queues: Redis, queue: str) -> int:
    return queues.llen(f"rq:queue:{queue}")


def test_two_crons_put_in_no_more_than_one_job_a_slice(redis_url, queues):
    with connect(redis_url) as other:
        for second in range(10):
            for client in (queues, other, queues):
                enqueue_due(client, NOON + second / 2)
    assert 5 == queued(queues, jobs.JOURNAL_QUEUE)
    assert 3 == queued(queues, jobs.TASKS_QUEUE)


def test_a_queue_that_nobody_empties_does_not_grow(queues):
    for second in range(10 * QUEUED_MAX):
        enqueue_due(queues, NOON + second)
    assert QUEUED_MAX == queued(queues, jobs.JOURNAL_QUEUE)
    assert QUEUED_MAX == queued(queues, jobs.TASKS_QUEUE)


def test_a_job_that_nobody_starts_expires(queues):
    ids = enqueue_due(queues, NOON)
    every = (JOURNAL_SECONDS, SWEEP_SECONDS, RECONCILE_SECONDS, BACKUP_SECONDS)
    for job_id, seconds in zip(ids, every, strict=True):
        assert 0 < queues.ttl(f"rq:job:{job_id}") <= seconds + 2


def test_a_job_carries_no_addresses_and_no_passwords(queues):
    ids = enqueue_due(queues, NOON)
    for job_id in ids:
        job = b"".join(queues.hgetall(f"rq:job:{job_id}").values())
        assert not re.search(rb"redis://|postgresql://", job)


def sequence(queues: Redis, shard: int = 0) -> int:
    return int(queues.hget(keys.meta(shard), "sequence"))


async def eventually(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


async def hold(ledger: Ledger, account: str) -> str:
    """An account of 100 credits, 13 of them held for one second."""
    await ledger.grant(Grant(account=account, amount=100))
    reservation = await ledger.new_reservation_id(account)
    await ledger.reserve(Reserve(account=account, reservation=reservation, amount=13, ttl_ms=1_000))
    return reservation


def stored(queues: Redis, reservation: str) -> dict[str, object]:
    shard = shard_of_reservation(reservation, 4)
    return msgspec.json.decode(queues.get(keys.reservation(shard, reservation)))


async def test_the_sweep_ends_what_is_due_in_every_shard_and_nobody_touched(ledger, queues, work):
    reservations = [await hold(ledger, f"acc-{number}") for number in range(8)]
    assert {0, 1, 2, 3} == {shard_of_reservation(each, 4) for each in reservations}
    bench = Workbench(work)
    bench.open()
    ended = 0
    async with asyncio.timeout(10):
        while ended < 8:
            assert 4 == await asyncio.to_thread(bench.run, bench.sweep)
            ended = sum(stored(queues, each)["status"] == "cancelled" for each in reservations)
    bench.close()
    assert {"expired"} == {stored(queues, each)["cancel_cause"] for each in reservations}


async def test_a_fenced_shard_does_not_keep_the_others_from_being_swept(ledger, queues, work):
    reservations = [await hold(ledger, f"acc-{number}") for number in range(8)]
    fenced = {each for each in reservations if shard_of_reservation(each, 4) == 0}
    queues.hset(keys.meta(0), "fence", "for the test")
    bench = Workbench(work)
    bench.open()
    ended: set[str] = set()
    async with asyncio.timeout(10):
        while len(ended) < 8 - len(fenced):
            assert 3 == await asyncio.to_thread(bench.run, bench.sweep)
            ended = {each for each in reservations if stored(queues, each)["status"] == "cancelled"}
    bench.close()
    assert set(reservations) - fenced == ended


async def test_a_worker_says_once_that_the_operator_has_fenced(ledger, database, redis, work, caplog):
    bench = Workbench(work)
    bench.open()
    await asyncio.to_thread(bench.run, bench.sweep)
    await fence(database, redis, [0, 1], "a move")
    for _ in range(2):
        assert 2 == await asyncio.to_thread(bench.run, bench.sweep)
    bench.close()
    (said,) = caplog.messages
    assert said.startswith("shards 0, 1 refuse: Fenced by the operator: a move.")


async def test_cron_and_one_worker_sweep_by_themselves(ledger, queues, work, processes):
    reservation = await hold(ledger, "acc-1")
    processes(CRON, work.queue_url)
    processes(WORKER, argument(work))
    await eventually(lambda: stored(queues, reservation)["status"] == "cancelled")


async def granted(ledger: Ledger, account: str) -> Receipt:
    """Grant one credit, and again while there is no definite answer."""
    async with asyncio.timeout(10):
        while True:
            with suppress(LedgerUnavailable):
                return await ledger.grant(Grant(account=account, amount=1))


async def journaled(database: Pool, ledger: Ledger, seconds: float) -> float:
    """Grant something in every shard, demand that it is journaled in time, and return how long that took."""
    receipts = [await granted(ledger, f"acc-{number}") for number in range(8)]
    wanted = {receipt.shard: receipt.sequence for receipt in receipts}
    assert 4 == len(wanted)
    began = time.monotonic()
    cursors: dict[int, int] = {}
    async with asyncio.timeout(seconds):
        while any(cursors.get(shard, 0) < sequence for shard, sequence in wanted.items()):
            with suppress(BackingUnavailable):
                async with answering(database) as connection:
                    cursors = dict(await connection.fetch("SELECT shard, cursor FROM shards"))
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_what_is_granted_is_journaled_by_cron_and_one_worker(ledger, database, work, processes):
    processes(CRON, work.queue_url)
    processes(WORKER, argument(work))
    await journaled(database, ledger, 10)
    for _ in range(5):
        await journaled(database, ledger, 3)


async def test_a_killed_worker_is_replaced_by_the_spare_within_three_seconds(
    ledger, database, work, processes
):
    processes(CRON, work.queue_url)
    workers = [processes(WORKER, argument(work)) for _ in range(2)]
    for _ in range(2):  # one of the two has the shards, whichever it is
        workers.append(processes(WORKER, argument(work)))
        await eventually(lambda: workers_alive_now(work) >= 2)
        await journaled(database, ledger, 10)
        workers.pop(0).kill()
        await journaled(database, ledger, 3)


async def test_when_all_workers_are_killed_those_started_instead_catch_up_within_three_seconds(
    ledger, database, work, processes
):
    processes(CRON, work.queue_url)
    workers = [processes(WORKER, argument(work)) for _ in range(2)]
    await journaled(database, ledger, 10)
    for each in workers:
        each.kill()
    for _ in range(2):
        processes(WORKER, argument(work))
    await journaled(database, ledger, 3)


def test_a_worker_that_redis_has_forgotten_shows_itself_anew(queues):
    worker = Worker(queues)
    worker.register_birth()
    queues.flushall()
    for _ in range(2):
        worker.heartbeat()
        assert 1 == workers_alive(queues)
    worker.register_death()
    assert 0 == workers_alive(queues)


def workers_alive_now(work: Work) -> int:
    with connect(work.queue_url) as queues:
        return workers_alive(queues)


async def test_workers_are_counted_while_they_live_and_not_when_they_have_ended(work, processes):
    workers = [processes(WORKER, argument(work)) for _ in range(2)]
    await eventually(lambda: workers_alive_now(work) == 2)
    workers[0].send_signal(signal.SIGTERM)
    await eventually(lambda: workers_alive_now(work) == 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_ends_by_itself_in_the_middle_of_a_slice(ledger, database, work, processes, number):
    cron = processes(CRON, work.queue_url)
    worker = processes(WORKER, argument(msgspec.structs.replace(work, slice_seconds=25.0)))
    await journaled(database, ledger, 10)
    for process in (worker, cron):
        process.send_signal(number)
        assert 0 == await asyncio.to_thread(process.wait, 2)
    assert 0 == workers_alive_now(work)


async def test_an_idle_worker_ends_by_itself(work, processes):
    worker = processes(WORKER, argument(work))
    await eventually(lambda: workers_alive_now(work) == 1)
    worker.terminate()
    assert 0 == await asyncio.to_thread(worker.wait, 2)


@pytest.fixture
def own_work(own_valkey: Valkey, own_postgres: Postgres) -> Work:
    return Work(redis_url=own_valkey.url, queue_url=own_valkey.url, database_url=own_postgres.url)


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
        await journaled(pool, ledger, 10)
        own_postgres.kill()
        own_postgres.restart()
        await journaled(pool, ledger, 10)
        own_valkey.kill()
        own_valkey.restart()
        await journaled(pool, ledger, 10)


@pytest.mark.parametrize("program", ["worker", "cron"])
async def test_what_is_told_to_end_ends_within_five_seconds_although_its_servers_hang(
    own_valkey, own_postgres, own_work, processes, program
):
    await give_birth(own_work.database_url, own_work.redis_url, 4)
    cron = processes(CRON, own_work.queue_url)
    worker = processes(WORKER, argument(own_work))
    await eventually(lambda: workers_alive_now(own_work) == 1)
    for server in (own_valkey, own_postgres):
        os.kill(server.pid, signal.SIGSTOP)
    try:
        process = {"worker": worker, "cron": cron}[program]
        process.terminate()
        await asyncio.to_thread(process.wait, 5)
    finally:
        for server in (own_valkey, own_postgres):
            os.kill(server.pid, signal.SIGCONT)


async def test_a_second_signal_a_second_later_ends_a_worker_at_once(own_valkey, own_work, processes):
    worker = processes(WORKER, argument(own_work))
    await eventually(lambda: workers_alive_now(own_work) == 1)
    os.kill(own_valkey.pid, signal.SIGSTOP)
    try:
        worker.terminate()
        worker.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(worker.wait, 1.1)
        worker.terminate()
        assert 1 == await asyncio.to_thread(worker.wait, 0.5)
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)

"""Whoever is told to end ends soon, in the middle of a slice and though its servers hang."""

import asyncio
import os
import signal
import subprocess

import msgspec
import pytest

from persistence import alive
from persistence.birth import give_birth
from tests.integration.jobs.waiting import at_work, ended, eventually, is_busy, journaled, workers_alive_now
from tests.processes import CRON, WORKER, argument


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_ends_by_itself_in_the_middle_of_a_slice(ledger, database, work, processes, number):
    cron = processes(CRON, work.queue_url)
    worker = processes(WORKER, argument(msgspec.structs.replace(work, slice_seconds=25.0)))
    await journaled(database, ledger)
    for process in (worker, cron):
        process.send_signal(number)
        assert 0 == await ended(process, 2)
    assert 0 == workers_alive_now(work)


async def test_an_idle_worker_ends_by_itself(work, processes):
    worker = processes(WORKER, argument(work))
    await at_work(work, worker)
    worker.terminate()
    assert 0 == await ended(worker, 2)


async def idle_worker(processes, work):
    worker = processes(WORKER, argument(work))
    await at_work(work, worker)
    return worker


async def busy_worker(processes, work):
    processes(CRON, work.queue_url)
    worker = processes(WORKER, argument(msgspec.structs.replace(work, slice_seconds=25.0)))
    await eventually(lambda: is_busy(work))
    return worker


async def cron(processes, work):
    cron = processes(CRON, work.queue_url)
    await eventually(lambda: alive.cron(work.queue_url))
    return cron


@pytest.mark.parametrize(("program", "codes"), [(idle_worker, {0, 1}), (busy_worker, {0, 1}), (cron, {0})])
async def test_what_is_told_to_end_ends_within_five_seconds_although_its_servers_hang(
    own_valkey, own_postgres, own_work, processes, program, codes
):
    await give_birth(own_work.database_url, own_work.redis_url, 4)
    process = await program(processes, own_work)
    for server in (own_valkey, own_postgres):
        os.kill(server.pid, signal.SIGSTOP)
    try:
        process.terminate()
        assert await ended(process, 5) in codes
    finally:
        for server in (own_valkey, own_postgres):
            os.kill(server.pid, signal.SIGCONT)


async def test_a_second_signal_a_second_later_ends_a_worker_at_once(own_valkey, own_work, processes):
    worker = processes(WORKER, argument(own_work))
    await at_work(own_work, worker)
    os.kill(own_valkey.pid, signal.SIGSTOP)
    try:
        worker.terminate()
        worker.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(worker.wait, 1.1)
        worker.terminate()
        assert 1 == await ended(worker, 0.5)
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)

"""Real workers and cron: what happens is told within two seconds, and nothing is lost with who is killed."""

import asyncio
import time
from functools import partial

import msgspec
import pytest

from app.events import ProviderFinished
from app.ledger.ledger import Ledger
from app.ledger.operations import Configure, Deduct, Grant
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.events import Outbox
from persistence.told import Work
from persistence.workbench import Workbench
from tests import proc
from tests.integration.events.receiver import is_signed, receiving
from tests.integration.jobs.waiting import at_work
from tests.processes import CRON, WORKER, argument, children

TRIED = "SELECT count(*) FROM event_deliveries WHERE attempts = 1"

FIRST_ATTEMPT_SECONDS = 2.0
FINISHED = ProviderFinished(
    provider="fal", reservation_id="r", account_id="ana", outcome="succeeded", payload={"seed": 1}
)


@pytest.fixture
def processes():
    with children() as start:
        yield start


@pytest.fixture
def work(redis_url, database_url) -> Work:
    return Work(redis_url=redis_url, queue_url=redis_url, database_url=database_url, events_to_private=True)


@pytest.fixture
async def ledger(redis, database, work):
    await give_birth(work.database_url, work.redis_url, 4)
    ledger = Ledger(redis, PostgresBacking(database, partial(admission.admit, database, redis)))
    await ledger.start()
    yield ledger
    await ledger.stop()


async def arrived(receiver, number: int, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while len(receiver.got) < number:  # noqa: ASYNC110 - others write it
            await asyncio.sleep(0.005)


def in_line(workers) -> float:
    """How long the one that waited longest has stood in line for a processor, which is not its doing."""
    return max(proc.seconds_in_line(each.pid) for each in workers)


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_first_attempt_is_made_within_two_seconds(
    ledger, database, work, processes, managed, workers
):
    processes(CRON, work.queue_url)
    started = [processes(WORKER, argument(work)) for _ in range(workers)]
    await at_work(work, *started)
    await ledger.grant(Grant(account="ana", amount=1000))
    await ledger.configure(Configure(account="ana", low_balance=100))
    async with receiving() as receiver:
        _, secret = await managed.create(receiver.url, ["balance.low", "provider.finished"], "key:test")
        await Outbox.put(database, "provider.finished", "ana", FINISHED)
        await arrived(receiver, 1)  # by now they have seen that somebody listens
        took = {"provider.finished": [], "balance.low": []}
        for number in range(4):
            before, waited = time.monotonic(), in_line(started)
            if number % 2:
                await Outbox.put(database, "provider.finished", "ana", FINISHED)
            else:
                await ledger.deduct(Deduct(account="ana", amount=950))
            await arrived(receiver, number + 2)
            seconds = time.monotonic() - before - (in_line(started) - waited)
            took[receiver.got[-1].event["type"]].append(seconds)
            if not number % 2:
                await ledger.grant(Grant(account="ana", amount=950))
        assert all(is_signed(each, secret) for each in receiver.got)
        assert (2, 2) == tuple(map(len, took.values()))
        assert max(each for of in took.values() for each in of) < FIRST_ATTEMPT_SECONDS


async def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost_or_told_under_another_id(
    ledger, database, work, processes, managed
):
    processes(CRON, work.queue_url)
    workers = [processes(WORKER, argument(work)) for _ in range(2)]
    await at_work(work, *workers)
    async with receiving() as receiver:
        await managed.create(receiver.url, ["balance.depleted"], "key:test")
        for number in range(12):
            account = f"acc-{number}"
            await ledger.grant(Grant(account=account, amount=1))
            await ledger.deduct(Deduct(account=account, amount=1))
            if number in (4, 8):
                workers.pop(0).kill()
                workers.append(processes(WORKER, argument(work)))
        async with asyncio.timeout(60):
            while len({each.id for each in receiver.got}) < 12:  # noqa: ASYNC110 - others write it
                await asyncio.sleep(0.01)
        told = {each.id: each.event["data"]["accountId"] for each in receiver.got}
        assert {f"acc-{number}" for number in range(12)} == set(told.values())
        assert 12 == len(told)


async def test_a_job_of_events_does_not_wait_for_what_it_sets_going(work, ledger, managed, database):

    bench = Workbench(work)
    bench.open()
    try:
        await managed.create("http://127.0.0.1:9/", [], "key:test")
        began = time.monotonic()
        for _ in range(20):
            await asyncio.to_thread(bench.run, partial(bench.call_for, "events"))
        assert time.monotonic() - began < 2
        await Outbox.put(database, "provider.finished", "ana", FINISHED)
        async with asyncio.timeout(20):
            while not await database.fetchval(TRIED):  # noqa: ASYNC110 - others write it
                await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(bench.close)


def test_a_work_without_a_word_about_it_sends_to_public_addresses_only():
    work = msgspec.json.decode(b'{"redis_url":"r","queue_url":"q","database_url":"d"}', type=Work)
    assert work.events_to_private is False

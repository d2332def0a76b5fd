"""Clean-up in processes of its own, as hard as it can, beside people who confirm, ask and repeat."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
from redis import Redis as SynchronousRedis

from app.ledger import keys
from app.ledger.errors import ReservationExpired
from app.ledger.operations import Confirm, Grant, Reserve
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.told import Work
from persistence.workbench import Workbench
from tests.integration.cleaning.dropped import ROWS
from tests.integration.ledgers import ACCOUNTS, SHARDS, journal_all, process
from tests.integration.proved import proved
from tests.processes import CRON, HOUSE, WORKER, argument, children

CLEANERS = 2
JOBS = 300

CLEANER = """
import asyncio, sys
from persistence.cleaning.command import cleaning

async def clean():
    async with cleaning(sys.argv[1], sys.argv[2], days=-1) as its:
        while True:
            await its.run("key:cleaner")

asyncio.run(clean())
"""


@pytest.fixture
async def ledger(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url, seconds=20.0) as ledger:
        for account in ACCOUNTS.values():
            await ledger.grant(Grant(account=account, amount=10_000))
        yield ledger


@pytest.fixture
def cleaners(ledger, database_url, redis_url) -> Iterator[None]:
    """Processes that clean up all the time; everything that has ended is old."""
    command = [sys.executable, "-c", CLEANER, database_url, redis_url]
    started = [subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.DEVNULL) for _ in range(CLEANERS)]
    yield
    assert [None] * CLEANERS == [each.poll() for each in started], "they went on to the end"
    for each in started:
        each.kill()
        each.wait()


EARLY = """
SELECT count(*) FROM journal
WHERE kind = 'expired' AND entry::json ->> 'deadline_ms' > entry::json ->> 'at_ms'
"""


async def cleaned(database) -> int:
    return await database.fetchval("SELECT coalesce(sum(old), 0) FROM cleanups")


async def reserve(ledger, number, ttl_ms):
    account = ACCOUNTS[number % SHARDS]
    id_ = await ledger.new_reservation_id(account)
    receipt = await ledger.reserve(Reserve(account=account, reservation=id_, amount=1, ttl_ms=ttl_ms))
    return receipt.reservation


async def test_a_clean_up_never_ends_what_is_confirmed_in_time(
    ledger, cleaners, database, database_url, redis_url
):
    await until(lambda: database.fetchval("SELECT count(*) FROM cleanups"))
    chance = random.Random(1)
    keeping = asyncio.create_task(drain(database_url, redis_url, 60.0, keep=None))
    confirmed, expired = {}, {}

    async def job(number):
        await asyncio.sleep(chance.uniform(0, 3))
        made = await reserve(ledger, number, 1_000)
        await asyncio.sleep(chance.uniform(0, 1.3))
        try:
            receipt = await ledger.confirm(Confirm(reservation=made.id))
        except ReservationExpired as error:
            expired[made.id] = error.facts["at_ms"] - made.expires_at_ms
        else:
            assert receipt.entry.at_ms < made.expires_at_ms
            confirmed[made.id] = receipt.transaction
            await asyncio.sleep(chance.uniform(0, 1))
            again = await ledger.confirm(Confirm(reservation=made.id))
            assert (True, receipt.transaction) == (again.replayed, again.transaction)

    async with asyncio.timeout(120):
        await asyncio.gather(*map(job, range(JOBS)))
    assert len(confirmed) > 10
    assert len(expired) > 10
    assert JOBS == len(confirmed) + len(expired)
    assert min(expired.values()) >= 0, "one was ended before its time"
    keeping.cancel()
    await asyncio.wait({keeping})
    await journal_all(database_url, redis_url)
    assert 0 == await database.fetchval(EARLY)
    assert await cleaned(database) > 0
    await proved(database)


async def test_what_ended_is_answered_the_same_at_any_moment_while_it_is_dropped(
    ledger, database, database_url, redis, redis_url, request
):
    """From the table before, from the journal afterwards; Redis has forgotten all of it."""
    first = {}
    for number in range(JOBS):
        made = await reserve(ledger, number, 60_000)
        first[made.id] = (await ledger.confirm(Confirm(reservation=made.id))).transaction
    await journal_all(database_url, redis_url)
    async for name in redis.scan_iter(match=keys.reservation(0, "*").replace("{0}", "{*}")):
        await redis.delete(name)
    before = {id_: await ledger.find(id_) for id_ in first}
    request.getfixturevalue("cleaners")
    ids, rounds, after = list(first), 0, 0
    chance = random.Random(2)
    async with asyncio.timeout(60):
        while after < 100:
            some = chance.sample(ids, 8)
            found = await ledger.find_all(some)
            assert [before[each] for each in some] == found
            again = await ledger.confirm(Confirm(reservation=some[0]))
            assert (True, first[some[0]]) == (again.replayed, again.transaction)
            rounds += 1
            after += await database.fetchval(ROWS) == 0
    assert JOBS == await cleaned(database)
    assert rounds >= 100


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)


async def test_a_worker_cleans_up_when_it_is_due_and_drops_what_is_old(
    ledger, database, database_url, redis_url
):
    await ledger.confirm(Confirm(reservation=(await reserve(ledger, 0, 60_000)).id))
    await journal_all(database_url, redis_url)
    work = Work(redis_url=redis_url, queue_url=redis_url, database_url=database_url, retention_days=-1)
    bench = Workbench(work)
    bench.open()
    try:
        await asyncio.to_thread(bench.run, partial(bench.call_for, "cleanup"))
        await until(lambda: cleaned(database))
    finally:
        bench.close()
    assert ["system"] == [row[0] for row in await database.fetch("SELECT by FROM cleanups")]


async def test_cron_and_workers_clean_up_by_themselves_and_once(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    work = Work(
        redis_url=redis_url, queue_url=redis_url, database_url=database_url, cleanup_seconds=3600
    )  # fmt: skip
    with children() as start:
        start(CRON, redis_url)
        for _ in range(2):
            start(WORKER, argument(work))
        await until(lambda: database.fetchval("SELECT count(*) FROM cleanups WHERE finished_at IS NOT NULL"))
        looked = SynchronousRedis.from_url(redis_url)
        await until(lambda: asyncio.to_thread(at_least, looked, 3))
        looked.close()
    rows = await database.fetch("SELECT by, error FROM cleanups")
    assert [("system", None)] == [tuple(row) for row in rows]


def at_least(queues, jobs: int) -> bool:
    """Whether so many jobs of clean-up were put in and have ended."""
    names = queues.keys("rq:job:*-cleanup-*")
    return sum(queues.hget(each, "status") == b"finished" for each in names) >= jobs

"""What Redis, PostgreSQL, the queues and what is between them tell: each cause, caused."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager

import pytest
from rq import Queue, SimpleWorker

from app.embedded import Postgres
from app.health import CHECKS
from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.operations import Grant, Reserve
from app.rules import RULES
from persistence import jobs
from persistence.doctor import Bounds
from persistence.fences import fence
from persistence.health.looking import ANSWER_SECONDS
from persistence.health.of_journal import Backlog
from persistence.lacking import Lacking
from persistence.pool import open_pool
from persistence.schedule import connect as queues_of
from tests.conftest import PASSWORD
from tests.integration.health.conftest import begin, begin_work, look_of
from tests.integration.ledgers import ACCOUNTS, process


async def check(looking, name) -> tuple[str, float | None, str]:
    seen = {each.name: each for each in (await looking._report()).checks}[name]
    return seen.status, seen.value, seen.message


@pytest.fixture
def durable(reachable_tmp_path, _made_postgres) -> Iterator[Postgres]:
    """A PostgreSQL that keeps what it says it has, and may be stopped."""
    folder = reachable_tmp_path / "durable"
    subprocess.run(["cp", "-a", _made_postgres, folder], check=True)  # noqa: S607 - the system's own
    server = Postgres(folder, folder.with_suffix(".log"), password=PASSWORD, durable=True)
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def standing(postgres: Postgres, valkey):
    """Who looks at a ledger that is well, on servers of its own."""
    async with (
        await open_pool(postgres.url) as pool,
        connect(valkey.url) as redis,
    ):
        await begin(pool, postgres.url, valkey.url)
        yield look_of(pool, redis, valkey.url), pool


async def test_a_ledger_that_is_well_is_healthy_in_everything(durable, own_valkey):
    async with standing(durable, own_valkey) as (looking, _):
        with queues_of(own_valkey.url) as queues:
            begin_work(queues, 2)
        report = await looking.report()
        assert [(name, "healthy") for name in CHECKS] == [(each.name, each.status) for each in report.checks]
        assert ("healthy", 0) == (report.status, report.lag_seconds)
        assert report is await looking.report(), "those who ask at once are answered once"


async def test_whoever_is_away_is_what_is_found(durable, own_valkey):
    async with standing(durable, own_valkey) as (looking, _):
        durable.kill()
        told = {each.name: each for each in (await looking._report()).checks}
        assert "critical" == told["postgres"].status
        assert {"warning"} == {told[name].status for name in ("below_floor", "cleanup", "fence")}
        assert ("healthy", 0) == (told["backlog"].status, told["backlog"].value), "Redis tells"
        own_valkey.kill()
        report = await looking._report()
        told = {each.name: each for each in report.checks}
        assert list(CHECKS) == list(told)
        critical = {name for name, each in told.items() if each.status == "critical"}
        assert {"postgres", "redis_persistence", "workers"} == critical
        assert ("critical", None) == (report.status, report.lag_seconds)


async def test_servers_that_are_silent_do_not_keep_the_answer_up(own_postgres, own_valkey):
    async with standing(own_postgres, own_valkey) as (looking, pool):
        await pool.expire_connections()
        stopped = own_postgres.pid, own_valkey.pid
        for each in stopped:
            os.kill(each, signal.SIGSTOP)
        try:
            began = time.monotonic()
            told = {each.name: each.status for each in (await looking._report()).checks}
            assert time.monotonic() - began < ANSWER_SECONDS + 1
            assert {"critical"} == {told[name] for name in ("postgres", "redis_persistence", "workers")}
        finally:
            for each in stopped:
                os.kill(each, signal.SIGCONT)


async def test_postgres_is_judged_by_what_it_keeps_and_by_its_tables(durable, own_valkey):
    async with standing(durable, own_valkey) as (looking, pool):
        await pool.execute("ALTER SYSTEM SET synchronous_commit = off")
        await pool.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(10):
            while "on" == await pool.fetchval("SHOW synchronous_commit"):
                await pool.expire_connections()
        assert "warning" == (await check(looking, "postgres"))[0]
        await pool.execute("DELETE FROM migrations WHERE name = (SELECT max(name) FROM migrations)")
        status, _, says = await check(looking, "postgres")
        assert ("critical", True) == (status, "lastro migrate" in says)
        assert "healthy" == (await check(looking, "cleanup"))[0]
        await pool.execute("DROP TABLE mishaps")
        status, value, says = await check(looking, "cleanup")
        assert ("warning", None, True) == (status, value, "cannot be told" in says)


REDIS = {
    "everysec": ({"appendfsync": "everysec"}, "redis_persistence", "warning"),
    "no append-only file": ({"appendonly": "no"}, "redis_persistence", "critical"),
    "eviction, without a bound": ({"maxmemory-policy": "allkeys-lru"}, "redis_eviction", "warning"),
    "eviction": ({"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}, "redis_eviction", "critical"),
    "full": ({"maxmemory": "1mb"}, "redis_eviction", "critical"),
}


@pytest.mark.parametrize("cause", REDIS)
async def test_how_redis_is_set_up(database, database_url, own_valkey, cause):
    settings, name, wanted = REDIS[cause]
    async with connect(own_valkey.url) as redis:
        await begin(database, database_url, own_valkey.url)
        looking = look_of(database, redis, own_valkey.url)
        assert "healthy" == (await check(looking, name))[0]
        for setting, value in settings.items():
            await redis.config_set(setting, value)
        assert wanted == (await check(looking, name))[0]


async def test_reservations_whose_end_is_missed_are_overdue(database, redis, redis_url, looking, well):
    async with process(database, redis_url) as ledger:
        reserved = await ledger.reserve(
            Reserve(
                reservation=await ledger.new_reservation_id(ACCOUNTS[1]),
                account=ACCOUNTS[1],
                amount=3,
                ttl_ms=1000,
            )
        )
    members = await redis.zrange(keys.due(1), 0, -1)
    (member,) = [each for each in members if each.startswith(b"reservation:")]
    assert ("healthy", 0) == (await check(looking, "overdue_reservations"))[:2]
    await redis.zadd(keys.due(1), {member: 1})
    status, value, says = await check(looking, "overdue_reservations")
    assert ("warning", 1, True) == (status, value, reserved.reservation.id in says)
    await redis.zadd(keys.due(2), {b"account:x": 1} | {b"reservation:%036d:x" % n: 1 for n in range(99)})
    assert ("critical", 100) == (await check(looking, "overdue_reservations"))[:2]


async def test_entries_that_nobody_journals_are_a_lag_and_a_backlog(database, redis, redis_url, well):
    bounds = Bounds(backlog_max=10)
    looking = look_of(database, redis, redis_url, bounds=bounds)
    async with process(database, redis_url) as ledger:
        for number, (wanted, value) in enumerate(
            [("healthy", 0.4), ("warning", 0.8), ("critical", 1.2)], start=1
        ):
            for _ in range(4):
                await ledger.grant(Grant(account=ACCOUNTS[2], amount=1))
            status, found, says = await check(looking, "backlog")
            assert (wanted, value) == (status, found), says
            assert f"{4 * number} entries" in says
    assert "shard 2" in says
    for seconds, wanted in ((5, "healthy"), (11, "warning"), (61, "critical")):
        now_ms = (await redis.time())[0] * 1000
        await redis.hset(keys.meta(2), "oldest_ms", str(now_ms - seconds * 1000))
        status, found, says = await check(looking, "journal_lag")
        assert (wanted, True) == (status, seconds - 1 < found < seconds + 9), says


async def test_the_backlog_says_for_how_many_minutes_there_is_room():
    now = [0.0]
    backlog = Backlog(Bounds(backlog_max=1000), clock=lambda: now[0])
    backlog.judged([Lacking(0, 100, 0, 1.0), Lacking(1, 0, 0, 0.0)], RULES)
    now[0] = 30
    says = backlog.judged([Lacking(0, 200, 0, 1.0), Lacking(1, 10, 0, 1.0)], RULES).message
    assert "reached in 4 minutes" in says, says
    now[0] = 60
    assert "minutes" not in backlog.judged([Lacking(0, 150, 0, 1.0), Lacking(1, 0, 0, 0.0)], RULES).message


async def test_workers_and_cron_and_failed_jobs(redis, redis_url, database, looking, well):
    status, value, says = await check(looking, "workers")
    assert ("critical", 0, True) == (status, value, "lastro cron" in says)
    with queues_of(redis_url) as queues:
        (first,) = begin_work(queues, 1)
        assert ("warning", 1) == (await check(looking, "workers"))[:2]
        (second,) = begin_work(queues, 1)
        assert ("healthy", 2) == (await check(looking, "workers"))[:2]
        for each in (first, second):
            each.register_death()
        assert ("critical", 0) == (await check(looking, "workers"))[:2]
        assert ("healthy", 0) == (await check(looking, "failed_jobs"))[:2]
        _fail(queues, 1)
        status, value, says = await check(looking, "failed_jobs")
        assert ("warning", 1, True) == (status, value, "ZeroDivisionError" in says)
        _fail(queues, 19)
        assert ("critical", 20) == (await check(looking, "failed_jobs"))[:2]


class Trying(SimpleWorker):
    """A real worker, in this process."""

    def _install_signal_handlers(self) -> None:
        """Signals are pytest's."""


def _fail(queues, number: int) -> None:
    """Jobs that a real worker has tried."""
    queue = Queue(jobs.TASKS_QUEUE, connection=queues)
    queue.empty()
    for _ in range(number):
        queue.enqueue("operator.truediv", 1, 0)
    Trying([queue], connection=queues).work(burst=True, logging_level="CRITICAL")


async def test_what_refuses_is_a_fence(database, redis, redis_url, looking, well):
    assert "healthy" == (await check(looking, "fence"))[0]
    await fence(database, redis, [1], "a new disk")
    status, _, says = await check(looking, "fence")
    assert ("warning", True) == (status, "a new disk" in says)
    await database.execute(
        "UPDATE shards SET fence = 'a fork', fenced_by = 'journal', fenced_at = now() WHERE shard = 2"
    )
    status, _, says = await check(looking, "fence")
    assert ("critical", True) == (status, "a fork" in says)


async def test_what_was_set_aside_is_critical(redis, looking, well):
    await redis.zadd(keys.aside(3), {"reservation:x:ana": 1})
    status, _, says = await check(looking, "fence")
    assert ("critical", True) == (status, "set aside" in says)


async def test_a_redis_that_is_not_the_one_that_is_served_is_critical(database, redis, looking, well):
    await redis.hset(keys.meta(1), "ledger", "00000000-0000-0000-0000-000000000000")
    assert "critical" == (await check(looking, "fence"))[0]


async def test_clocks_that_are_a_minute_apart_are_critical(looking, well, monkeypatch):
    ahead = time.time_ns() // 1_000_000 + 61_000
    monkeypatch.setattr("persistence.health.looking.this_machines_clock_ms", lambda: ahead)
    status, _, says = await check(looking, "fence")
    assert ("critical", True) == (status, "behind this one" in says)

"""While PostgreSQL is away an API process judges alone, tells, and says so when it is back."""

import pytest

from app.ledger.backing import BackingUnavailable
from app.ledger.connection import connect
from persistence.pool import open_pool
from persistence.schedule import connect as queues_of
from tests.integration.alerts.conftest import Ears, Watchman, hearing
from tests.integration.health.conftest import begin, begin_work

AWAY = "Lastro: critical: postgres"


@pytest.fixture
async def stage(own_postgres, own_valkey, clock):
    """Makes processes on servers that may be stopped; who is told; and both servers."""
    async with (
        await open_pool(own_postgres.url) as first,
        await open_pool(own_postgres.url) as second,
        connect(own_valkey.url) as redis,
        hearing() as ears,
    ):
        await begin(first, own_postgres.url, own_valkey.url)
        with queues_of(own_valkey.url) as queues:
            begin_work(queues, 2)
        pools = iter((first, second))

        def process(**options) -> Watchman:
            # The test's PostgreSQL may lose what it has, which would be critical from the beginning.
            return Watchman(
                next(pools),
                redis,
                own_valkey.url,
                urls=ears.url,
                is_worker=False,
                clock=clock,
                **options,
            )

        yield process, ears, own_postgres, own_valkey


async def rounds(*processes: Watchman, times: int) -> None:
    """Of each, one after the other; their clock is one. Without PostgreSQL no lease moves on."""
    for _ in range(times):
        for each in processes:
            await each.watching.turn()
            await each.watching.rest()
        processes[0].clock.move(seconds=15)


def about(ears: Ears, what: str) -> list[str]:
    return [title for title in ears.titles if what in title]


async def test_one_of_them_tells_once_and_what_it_told_is_kept_when_postgres_is_back(stage):
    process, ears, postgres, valkey = stage
    first, second = process(), process()
    await first.round(2)
    await second.round()
    fired = {each.rule for each in await first.alerts.alerts("firing")}
    assert {"postgres"} == fired, "that of tests is not durable"
    ears.got.clear()
    postgres.kill()
    async with connect(valkey.url) as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await redis.config_set("maxmemory", "1gb")
    await rounds(first, second, times=4)
    assert ["Lastro: critical: redis eviction"] == ears.titles, "and what fired before is not told again"
    postgres.start()
    await rounds(first, second, times=1)
    await first.round(2)
    found = {each.rule: each.id for each in await first.alerts.alerts("firing")}
    assert {"postgres", "redis_eviction"} == set(found)
    assert ["Lastro: critical: redis eviction"] == ears.titles
    notices = await first.pool.fetch(
        "SELECT told FROM alert_notices WHERE alert = $1::uuid", found["redis_eviction"]
    )
    assert [1] == [len(each["told"]) for each in notices]


async def test_that_postgres_is_away_is_told_and_that_it_is_back(stage, monkeypatch):
    process, ears, postgres, _ = stage
    monkeypatch.setattr("persistence.doctor.server.SERVER", DURABLE)
    only = process()
    await only.round(2)
    assert [] == ears.titles
    postgres.kill()
    await rounds(only, times=3)
    assert [AWAY] == ears.titles
    ears.status = 500
    postgres.start()
    await only.round(7)
    ears.status = 200
    only.clock.move(minutes=5)
    await only.round()
    assert {AWAY, "Lastro: over: postgres"} == set(ears.titles)
    assert 1 == len(about(ears, "critical"))
    (alert,) = [each for each in await only.alerts.alerts() if each.rule == "postgres"]
    assert "resolved" == alert.state
    assert "does not answer" in alert.message


async def test_what_could_not_be_told_alone_is_told_later(stage, monkeypatch):
    process, ears, postgres, _ = stage
    monkeypatch.setattr("persistence.doctor.server.SERVER", DURABLE)
    only = process()
    await only.round(2)
    postgres.kill()
    ears.status = 500
    await rounds(only, times=2)
    assert [AWAY] * 2 == ears.titles, "each round"
    ears.status = 200
    postgres.start()
    await only.round(2)
    assert [AWAY] * 3 == ears.titles
    await only.round(5)
    assert 3 == len(about(ears, "critical: postgres"))


async def test_with_both_stores_away_it_still_tells(stage, monkeypatch):
    process, ears, postgres, valkey = stage
    monkeypatch.setattr("persistence.doctor.server.SERVER", DURABLE)
    only = process()
    await only.round(2)
    postgres.kill()
    valkey.kill()
    await rounds(only, times=3)
    wanted = {f"Lastro: critical: {name}" for name in ("postgres", "redis persistence", "workers")}
    assert sorted(wanted) == sorted(ears.titles)


async def test_a_worker_judges_nothing_without_postgres(stage):
    process, ears, postgres, _ = stage
    worker = process()
    worker.watching._is_worker = True
    await worker.round(2)
    ears.got.clear()
    postgres.kill()
    with pytest.raises(BackingUnavailable):
        await worker.watching.turn()
    assert [] == ears.titles


DURABLE = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer AS number,
       'on' AS commit, 'on' AS fsync, 'on' AS pages
"""

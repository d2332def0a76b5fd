"""Real workers, cron and API: dead workers are told of by the API, and everything else by a worker."""

import asyncio

import pytest

from app.embedded.ports import free_port
from persistence.birth import give_birth
from tests.processes import children

LASTRO = "import sys; from app.cli import main; sys.argv = ['lastro', sys.argv[1]]; main()"


@pytest.fixture
async def start(monkeypatch, database_url, redis_url, ears):
    await give_birth(database_url, redis_url, 4)
    monkeypatch.setenv("LASTRO_DATABASE_URL", database_url)
    monkeypatch.setenv("LASTRO_REDIS_URL", redis_url)
    monkeypatch.setenv("LASTRO_ALERT_URLS", ears.url)
    monkeypatch.setenv("LASTRO_PORT", str(free_port()))
    with children() as begin:
        yield lambda part: begin(LASTRO, part)


async def told(ears, what: str) -> None:
    """Until it was."""
    async with asyncio.timeout(90):
        while not any(what in title for title in ears.titles):  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.05)


@pytest.mark.nightly("waits until workers are missed; test_alone.py judges without waiting")
async def test_a_worker_tells_and_when_all_are_dead_the_api_does(start, database, ears):
    worker, cron = start("worker"), start("cron")
    await database.execute("UPDATE shards SET fence = 'a fork', fenced_by = 'journal', fenced_at = now()")
    await told(ears, "critical: fence")
    for each in (worker, cron):
        each.kill()
        each.wait()
    assert await database.fetchval("SELECT is_worker FROM alert_judge")
    await database.execute("UPDATE alert_judge SET until = now()")  # what 45 seconds would do
    start("api")
    await told(ears, "critical: workers")
    assert await database.fetchval("SELECT NOT is_worker FROM alert_judge")
    assert 1 == sum("fence" in title for title in ears.titles), "it fired already"

"""Slow questions to the journal keep neither a revoked key in force nor the admission waiting."""

import asyncio
import contextlib

import httpx

from app.ledger.backing import BackingUnavailable
from app.settings import Settings
from persistence import api_keys
from persistence.birth import give_birth
from persistence.pool import answering, open_pool
from tests.http.conftest import running
from tests.http.serving import create_app

SHARDS = 2
READERS = 60


async def test_a_key_is_revoked_within_seconds_while_readers_keep_postgresql_busy(
    database, database_url, redis_url
):
    await give_birth(database_url, redis_url, SHARDS)
    token = await api_keys.create(database, "reader", ["read"])
    app = create_app(Settings(redis_url=redis_url, database_url=database_url, shards=SHARDS))
    async with (
        running(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://lastro.test",
            headers={"authorization": f"Bearer {token}"},
        ) as client,
        database.acquire() as other,
        other.transaction(),
    ):
        assert (await client.get("/api/credits/transactions")).status_code == 200
        await other.execute("LOCK TABLE notes")
        refused = asyncio.Event()

        async def read() -> None:
            while not refused.is_set():
                answer = await client.get("/api/credits/transactions")
                assert answer.status_code in (401, 503)
                if answer.status_code == 401:
                    refused.set()

        async with asyncio.TaskGroup() as readers:
            for _ in range(READERS):
                readers.create_task(read())
            await asyncio.sleep(0)
            await api_keys.revoke(database, "reader")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(refused.wait(), 6)
            in_time = refused.is_set()
            refused.set()
        assert in_time


async def test_postgresql_that_breaks_off_at_any_moment_is_unavailable_and_never_a_bug(own_postgres):
    """The driver has several words for it; one of them is that of an error of its own."""
    pool = await open_pool(own_postgres.url)
    answers: list[int] = []

    async def ask() -> None:
        while len(answers) < 8 or own_postgres.alive:
            try:
                async with answering(pool) as connection:
                    await connection.fetch("SELECT count(*) FROM journal")
            except BackingUnavailable:
                answers.append(503)
            await asyncio.sleep(0)

    for _ in range(5):
        answers.clear()
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
            await asyncio.sleep(0.05)
            own_postgres.kill()
        own_postgres.start()
    await pool.close()

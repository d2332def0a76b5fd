"""Slow questions to the journal keep neither a revoked key in force nor the admission waiting."""

import asyncio
import contextlib

import httpx

from app.main import create_app
from app.settings import Settings
from persistence import api_keys
from persistence.birth import give_birth
from tests.http.conftest import running

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

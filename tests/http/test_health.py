"""The service starts, answers and stops whatever is away, and says what is."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from redis.asyncio import Redis

from app.ledger import keys
from app.settings import Settings
from persistence import admission, api_keys
from persistence.birth import give_birth
from persistence.pool import answering, open_pool
from tests.http.conftest import ALL, running
from tests.http.serving import create_app
from tests.http.steps import grant

PATIENCE_SECONDS = 20.0


@pytest.fixture
async def own(own_valkey, own_postgres):
    """Settings of servers that the test may kill, and a key for everything."""
    settings = Settings(
        redis_url=own_valkey.url, database_url=own_postgres.url, shards=2, request_seconds=0.5
    )
    await give_birth(settings.database_url, settings.redis_url, 2)
    pool = await open_pool(settings.database_url)
    token = await api_keys.create(pool, "all", ALL)
    await pool.close()
    return settings, token


def client_of(app, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://lastro.test",
        headers={"authorization": f"Bearer {token}"},
    )


async def until(ask: Callable[[], Awaitable[httpx.Response]], status: int) -> httpx.Response:
    """Ask until the answer has this status."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (answer := await ask()).status_code != status:  # noqa: ASYNC110 - the answer is the event
            await asyncio.sleep(0.05)
    return answer


async def test_all_is_well(stranger):
    live, ready = await stranger.get("/health/live"), await until(lambda: stranger.get("/health/ready"), 200)
    assert {"status": "live"} == live.json()
    assert {"status": "ready", "degraded": []} == ready.json()


async def test_the_service_starts_while_redis_is_away_and_finds_it(own, own_valkey):
    settings, token = own
    own_valkey.kill()
    app = create_app(settings)
    async with running(app), client_of(app, token) as client:
        assert 200 == (await client.get("/health/live")).status_code
        ready = await client.get("/health/ready")
        assert (503, "unavailable") == (ready.status_code, ready.json()["status"])
        assert ["redis", "admission"] == ready.json()["degraded"]
        answer = await client.post("/api/credits/grant", json={"accountId": "a", "amount": 1})
        assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])
        assert int(answer.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in answer.text
        own_valkey.restart()
        await until(lambda: client.get("/health/ready"), 200)
        await grant(client)


async def test_credits_move_while_postgres_is_away_and_history_is_503(own, own_postgres):
    settings, token = own
    app = create_app(settings)
    async with running(app), client_of(app, token) as client:
        await grant(client)
        own_postgres.kill()
        await grant(client)
        assert 200 == (await client.get("/api/credits/balance?accountId=alice")).status_code
        ready = await client.get("/health/ready")
        assert (200, {"status": "degraded", "degraded": ["postgres"]}) == (ready.status_code, ready.json())
        for path in (
            "/api/credits/transactions",
            "/api/credits/transactions/1-1-1",
            "/api/credits/reservations/01a1ffa5-4956-7000-abd8-99c175348713",
            "/api/images/by-task-id?taskId=t",
            "/api/credits/balance?accountId=unknown",
        ):
            answer = await client.get(path)
            assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"]), path
            assert "retry-after" in answer.headers
        stranger = await client.get(
            "/api/credits/balance?accountId=alice",
            headers={"authorization": "Bearer lk_00000000_" + "A" * 43},
        )
        assert 503 == stranger.status_code, "nobody can tell whether this key exists"


async def test_the_service_starts_while_postgres_is_away_and_finds_it(own, own_postgres):
    settings, token = own
    own_postgres.kill()
    app = create_app(settings)
    async with running(app), client_of(app, token) as client:
        assert 503 == (await client.get("/health/ready")).status_code
        assert 503 == (await client.get("/api/credits/balance?accountId=alice")).status_code
        own_postgres.restart()
        await until(lambda: client.get("/health/ready"), 200)
        await grant(client)


async def test_a_fenced_shard_degrades_and_all_of_them_end_it(app, stranger, client, database):
    await grant(client)
    async with answering(database) as connection:
        await connection.execute("UPDATE shards SET fence = 'a test', fenced_at = now() WHERE shard = 1")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not app.state.parts.ledger.terms.fences:  # noqa: ASYNC110 - what it polls is polled
            await asyncio.sleep(0.05)
    ready = await stranger.get("/health/ready")
    assert (200, {"status": "degraded", "degraded": ["shard:1"]}) == (ready.status_code, ready.json())
    async with answering(database) as connection:
        await connection.execute("UPDATE shards SET fence = 'a test', fenced_at = now()")
    ready = await until(lambda: stranger.get("/health/ready"), 503)
    assert "unavailable" == ready.json()["status"]
    answer = await client.get("/api/credits/balance?accountId=alice")
    assert (503, "ledger_fenced", "a test") == (
        answer.status_code,
        answer.json()["code"],
        answer.json()["why"],
    )
    assert "retry-after" in answer.headers


async def test_clocks_that_are_a_minute_apart_degrade(stranger, monkeypatch):
    await until(lambda: stranger.get("/health/ready"), 200)
    here = admission.this_machines_clock_ms
    monkeypatch.setattr(admission, "this_machines_clock_ms", lambda: here() + 61_000)
    ready = await stranger.get("/health/ready")
    assert (200, {"status": "degraded", "degraded": ["clock"]}) == (ready.status_code, ready.json())


async def test_what_was_acknowledged_and_lost_degrades(app, client, stranger, database, settings):
    await grant(client)
    async with Redis.from_url(settings.redis_url) as redis:
        await redis.flushall()
    await until(lambda: client.get("/api/credits/balance?accountId=alice"), 503)
    async with answering(database) as connection:  # as a restore leaves it
        await connection.execute(
            "INSERT INTO incarnations SELECT shard, 9, 'x', 0, 'genesis', now(), now() FROM shards"
        )
        await connection.execute("UPDATE shards SET incarnation = 9")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            degraded = (await stranger.get("/health/ready")).json()["degraded"]
            if "acknowledged_lost" in degraded:
                return
            await asyncio.sleep(0.05)


async def test_an_account_that_redis_lost_is_fenced_never_opened_anew(app, client, settings, database):
    await grant(client, "carol")
    shard = int((await grant(client, "carol"))["transaction"]["id"].split("-")[0])
    async with answering(database) as connection:
        await connection.execute("INSERT INTO accounts VALUES ('carol', $1, 2, 200, 0, now(), now())", shard)
    async with Redis.from_url(settings.redis_url) as redis:
        await redis.delete(keys.account(shard, "carol"))
    for answer in (
        await client.post("/api/credits/grant", json={"accountId": "carol", "amount": 1}),
        await client.post("/api/credits/deduct", json={"accountId": "carol", "amount": 1}),
        await client.get("/api/credits/balance?accountId=carol"),
    ):
        assert (503, "ledger_fenced") == (answer.status_code, answer.json()["code"])


async def test_a_redis_that_may_evict_is_served_no_longer_until_it_may_not(own, own_valkey):
    settings, token = own
    async with running(app := create_app(settings)), client_of(app, token) as client:
        await until(lambda: client.get("/health/ready"), 200)
        await grant(client)
        async with Redis.from_url(own_valkey.url) as redis:
            await redis.config_set("maxmemory", "1gb")
            await redis.config_set("maxmemory-policy", "allkeys-lru")
            await until(lambda: client.get("/health/ready"), 503)
            answer = await client.post("/api/credits/deduct", json={"accountId": "a", "amount": 1})
            assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])
            await redis.config_set("maxmemory-policy", "noeviction")
        await until(lambda: client.get("/health/ready"), 200)
        await grant(client)

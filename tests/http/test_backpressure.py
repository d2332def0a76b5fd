"""I13 over HTTP: at each bound new work is refused with 503 and Retry-After, and later goes on by itself."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from app.settings import Settings
from persistence import api_keys
from persistence.birth import give_birth
from persistence.journal import Journal
from persistence.pool import open_pool
from persistence.session import connect
from tests.http.conftest import ALL, running
from tests.http.serving import create_app
from tests.http.test_health import client_of, until
from tests.integration.journal.workers import to_the_end

GRANT = {"accountId": "ana", "amount": 1}


class Shop:
    """What a shop asks of an account; `started` are reservations that it can still end."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.started: list[str] = []

    @classmethod
    async def opened(cls, client: httpx.AsyncClient, reservations: int) -> "Shop":
        shop = cls(client)
        await until(lambda: client.get("/health/ready"), 200)
        granted = await client.post("/api/credits/grant", json={"accountId": "ana", "amount": 1000})
        assert 201 == granted.status_code
        for _ in range(reservations):
            shop.started.append((await shop.reserve()).json()["reservation"]["id"])
        return shop

    async def grant(self) -> httpx.Response:
        return await self.client.post("/api/credits/grant", json=GRANT)

    async def deduct(self) -> httpx.Response:
        return await self.client.post("/api/credits/deduct", json=GRANT)

    async def reserve(self) -> httpx.Response:
        return await self.client.post("/api/credits/reserve", json=GRANT)

    async def balance(self) -> httpx.Response:
        return await self.client.get("/api/credits/balance?accountId=ana")

    async def begin(self) -> list[httpx.Response]:
        """All that takes on something new."""
        return [await self.grant(), await self.deduct(), await self.reserve()]

    async def end(self) -> list[httpx.Response]:
        """All that ends or shows what was begun."""
        confirmed, cancelled = self.started.pop(), self.started.pop()
        return [
            await self.client.post("/api/credits/confirm", json={"reservationId": confirmed}),
            await self.client.post("/api/credits/cancel", json={"reservationId": cancelled}),
            await self.balance(),
        ]


def assert_refused(answers: list[httpx.Response], code: str, cause: str | None = None) -> None:
    for answer in answers:
        problem = answer.json()
        assert (503, code, cause) == (answer.status_code, problem["code"], problem.get("cause"))
        assert int(answer.headers["retry-after"]) >= 1
        assert "epeat" in problem["detail"]


def assert_done(answers: list[httpx.Response]) -> None:
    assert all(each.is_success for each in answers), [each.text for each in answers]


async def test_a_backlog_is_refused_at_its_bounds_and_drained_away(database_url, redis_url, database, redis):
    ledger = await give_birth(database_url, redis_url, 1)
    token = await api_keys.create(database, "all", ALL)
    settings = Settings(redis_url=redis_url, database_url=database_url, shards=1, backlog_max=30)
    async with running(app := create_app(settings)), client_of(app, token) as client:
        shop = await Shop.opened(client, reservations=4)
        while (answer := await shop.grant()).is_success:
            pass
        assert_refused([answer], "journal_backlogged")
        assert_refused(await shop.begin(), "journal_backlogged")
        assert_done(await shop.end())
        await shop.client.post("/api/credits/cancel", json={"reservationId": shop.started.pop()})
        assert_refused([await shop.balance(), *await shop.begin()], "journal_backlogged")
        connection = await connect(database_url)
        journal = Journal(connection, redis, str(ledger), keep=None)
        await journal.lock([0])
        await to_the_end(journal, 0)
        await connection.close()
        assert_done(await shop.begin())


async def test_more_than_may_wait_are_refused_and_the_next_are_served(database_url, redis_url, database):
    await give_birth(database_url, redis_url, 1)
    token = await api_keys.create(database, "all", ALL)
    settings = Settings(redis_url=redis_url, database_url=database_url, shards=1, queue_max=5)
    async with running(app := create_app(settings)), client_of(app, token) as client:
        shop = await Shop.opened(client, reservations=0)
        answers = await asyncio.gather(*(shop.deduct() for _ in range(50)))
        served = [each for each in answers if each.is_success]
        refused = [each for each in answers if not each.is_success]
        assert served
        assert refused
        assert_refused(refused, "overloaded", "queue")
        assert 1000 - len(served) == (await shop.balance()).json()["available"]
        assert_done(await shop.begin())


@pytest.fixture
async def own_shop(own_valkey, database_url, database) -> AsyncIterator[tuple[Shop, Redis]]:
    """On a Valkey of its own, and a client of that."""
    await give_birth(database_url, own_valkey.url, 1)
    token = await api_keys.create(database, "all", ALL)
    settings = Settings(redis_url=own_valkey.url, database_url=database_url, shards=1)
    async with (
        running(app := create_app(settings)),
        client_of(app, token) as client,
        Redis.from_url(own_valkey.url) as redis,
    ):
        yield await Shop.opened(client, reservations=4), redis


async def used(redis: Redis) -> int:
    memory = await redis.info("memory")
    return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])


async def test_a_redis_that_is_nearly_full_takes_on_nothing_new_and_ends_what_was_begun(own_shop):
    shop, redis = own_shop
    await redis.config_set("maxmemory", await used(redis) * 100 // 93)
    await until(shop.grant, 503)
    assert_refused(await shop.begin(), "overloaded", "memory")
    assert_done(await shop.end())
    await redis.config_set("maxmemory", 0)
    await until(shop.grant, 201)
    assert_done(await shop.begin())


async def test_a_full_redis_refuses_all_and_loses_nothing(own_shop):
    shop, redis = own_shop
    before = (await shop.balance()).json()
    await redis.config_set("maxmemory", 1)
    assert_refused([await shop.balance(), *await shop.end()], "ledger_unavailable", "full")
    await redis.config_set("maxmemory", 0)
    assert before == (await until(shop.balance, 200)).json()
    await until(shop.grant, 201)
    assert_done(await shop.begin())


async def test_what_redis_refuses_is_refused_with_its_reason(own_shop):
    shop, redis = own_shop
    await redis.config_set("min-replicas-to-write", 1)
    answers = [*await shop.begin(), await shop.balance()]
    assert_refused(answers, "ledger_unavailable", "too_few_replicas")
    assert "changed nothing" in answers[0].json()["detail"]
    await redis.config_set("min-replicas-to-write", 0)
    assert_done(await shop.begin())


async def test_an_answer_that_too_few_replicas_have_may_have_been_carried_out(
    own_valkey, database_url, database
):
    await give_birth(database_url, own_valkey.url, 1)
    pool = await open_pool(database_url)
    token = await api_keys.create(pool, "all", ALL)
    await pool.close()
    settings = Settings(
        redis_url=own_valkey.url, database_url=database_url, shards=1, ack="replicated=1", request_seconds=0.3
    )
    async with running(app := create_app(settings)), client_of(app, token) as client:
        await until(lambda: client.get("/health/ready"), 200)
        keyed = {"idempotency-key": "k"}
        for _ in range(2):
            answer = await client.post("/api/credits/grant", json=GRANT, headers=keyed)
            assert_refused([answer], "ledger_unavailable", "not_replicated")
            assert "may have been carried out" in answer.json()["detail"]
        assert 1 == (await client.get("/api/credits/balance?accountId=ana")).json()["available"]

"""The real application in this process, over real servers; `client` speaks ASGI to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import httpx
import pytest
from litestar import Litestar
from redis.asyncio import Redis

from app.settings import Settings
from persistence.api_keys import create
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.pool import Pool
from tests.engine import Clock, script_with_clock
from tests.http.contract import Contract
from tests.http.serving import create_app

SHARDS = 4
ALL = ("spend", "grant", "read", "operate")


@pytest.fixture
async def settings(redis_url: str, database_url: str) -> Settings:
    await give_birth(database_url, redis_url, SHARDS)
    return Settings(redis_url=redis_url, database_url=database_url, shards=SHARDS)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Litestar]:
    application = create_app(settings)
    async with running(application):
        yield application


@asynccontextmanager
async def running(application: Litestar) -> AsyncIterator[None]:
    """Start and stop it in one task, as servers do; pytest starts and ends a fixture in two."""
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with application.lifespan():
            started.set()
            await stop.wait()

    life = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait({life, starting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if started.is_set():
            yield
    finally:
        stop.set()
        starting.cancel()
        await life


@pytest.fixture
async def stranger(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with _client(app, None) as client:
        yield client


@pytest.fixture
async def client(app: Litestar, database: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything."""
    async with _client(app, await create(database, "all", ALL)) as client:
        yield client


@pytest.fixture
async def client_of(app: Litestar, database: Pool) -> Callable[..., httpx.AsyncClient]:
    """Makes clients of some scopes, or of one account."""
    numbers = count(1)

    async def make(*scopes: str, account: str | None = None) -> httpx.AsyncClient:
        return _client(app, await create(database, f"key-{next(numbers)}", scopes, account=account))

    return make


@pytest.fixture
async def clients(
    stranger: httpx.AsyncClient, client: httpx.AsyncClient, client_of: Callable[..., Any]
) -> dict[str, httpx.AsyncClient]:
    """Those who climb a ladder (`tests.http.ladder`)."""
    return {
        "nobody": stranger,
        "wrong": await client_of("read"),
        "right": client,
        "bob's": await client_of("spend", "grant", "operate", account="bob"),
    }


@pytest.fixture
async def clock(app: Litestar, redis: Redis) -> Clock:
    """The time that the ledger goes by: it stands still until the test moves it on."""
    app.state.parts.ledger._batcher._only._carrier._script = script_with_clock()
    clock = Clock(redis)
    await clock.set(clock.now_ms)
    return clock


@pytest.fixture
async def journal(settings: Settings) -> AsyncIterator[None]:
    """A journal worker beside the test."""
    worker = asyncio.create_task(drain(settings.database_url, settings.redis_url, 60.0, keep=None))
    yield
    worker.cancel()
    await asyncio.wait({worker})


def _client(app: Litestar, token: str | None) -> httpx.AsyncClient:
    """A client whose every answer is held against the OpenAPI document."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://lastro.test",
        headers={"authorization": f"Bearer {token}"} if token else {},
        event_hooks={"response": [Contract.of(app).judge]},
    )

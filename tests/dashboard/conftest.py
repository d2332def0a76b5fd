"""The pages as a browser without scripts sees them: `operator` is signed in, `passerby` is not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from litestar import Litestar

from persistence.api_keys import create
from persistence.pool import Pool
from tests.dashboard.browsing import ORIGIN, Browser
from tests.http.conftest import ALL, app, clock, journal, settings, stranger  # noqa: F401 (fixtures)


@pytest.fixture
async def browsers(app: Litestar) -> AsyncIterator[Callable[..., Browser]]:  # noqa: F811
    """Makes browsers, each with cookies of its own."""
    made: list[Browser] = []

    def make(*, address: str = "127.0.0.1", of: Litestar = app) -> Browser:
        transport = httpx.ASGITransport(of, raise_app_exceptions=False, client=(address, 1))
        made.append(Browser(httpx.AsyncClient(transport=transport, base_url=ORIGIN)))
        return made[-1]

    yield make
    for each in made:
        await each.http.aclose()


@pytest.fixture
async def client(app: Litestar, database: Pool) -> AsyncIterator[httpx.AsyncClient]:  # noqa: F811
    """Of the API, with a key that may do everything: what is shown comes from somewhere."""
    headers = {"authorization": f"Bearer {await create(database, 'all', ALL)}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as asking:
        yield asking


@pytest.fixture
async def passerby(browsers: Callable[..., Browser]) -> Browser:
    return browsers()


@pytest.fixture
async def key(database: Pool) -> str:
    """A key that opens the dashboard; its name is `ana`."""
    return await create(database, "ana", ["operate"])


@pytest.fixture
async def operator(browsers: Callable[..., Browser], key: str) -> Browser:
    browser = browsers()
    await browser.sign_in(key)
    return browser


@pytest.fixture
def until_journaled(database: Pool) -> Callable[[int], Awaitable[None]]:
    """Waits until the journal has so many entries; wants the fixture `journal`."""

    async def wait(entries: int) -> None:
        async with asyncio.timeout(20):
            while entries > await database.fetchval("SELECT sum(cursor) FROM shards"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    return wait

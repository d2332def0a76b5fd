"""Fixtures that every test may use. Servers are real, start once per test process, and end with it.

| fixture | gives | lasts |
|---|---|---|
| `valkey_server`, `postgres_server` | `app.embedded` servers, shared: leave them as they are | the run |
| `redis_url` | the shared Valkey, emptied | a test |
| `redis` | a client of it: bytes, RESP2, one connection, no retries | a test |
| `database_url` | a database of its own, migrated, not born | a test |
| `empty_database_url` | the same without any tables | a test |
| `database` | a pool of at most 8 connections to `database_url` | a test |
| `fake_redis` | a fakeredis of its own with Lua, in the same client settings as `redis` | a test |
| `own_valkey` | a Valkey that the test may kill, stop, `restart()` or reconfigure; AOF `always` | a test |
| `own_postgres` | a PostgreSQL likewise; its database `lastro` is migrated | a test |
| `reachable_tmp_path` | a temporary folder that also `nobody` can enter (PostgreSQL as root) | a test |
| `until` | `until(condition, seconds=10)`: waits until it holds, fails the test when it does not | a test |
| `nightly` | whether the sizes are those of `make check` (`--nightly`) | the run |

Hypothesis takes its number of examples and steps from the profile `usual` or `nightly`, chosen the same way.
With xdist each process has its own servers, so that tests of different processes never meet.
"""

import asyncio
import gc
import secrets
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis import Redis as SynchronousRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.embedded import Postgres, Valkey
from persistence.migrate import migrate
from tests.folders import reachable_folder

PASSWORD = secrets.token_urlsafe(16)

LONGEST_FIRST = [
    "integration/runbooks",
    "browser",
    "chaos",
    "cluster",
    "integration",
    "property",
    "http",
    "dashboard",
]
"""Folders by how long a file of theirs takes: one that is begun last keeps nobody waiting for long."""

hypothesis.settings.register_profile("usual", max_examples=50, stateful_step_count=30, deadline=None)
hypothesis.settings.register_profile("nightly", max_examples=1000, stateful_step_count=100, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="sizes that take long: more examples, more steps")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("nightly" if config.getoption("--nightly") else "usual")
    config.addinivalue_line(
        "markers", "nightly(why): takes long, and quicker tests watch the same every day; run by --nightly"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--nightly"):
        for item in items:
            if long := item.get_closest_marker("nightly"):
                item.add_marker(pytest.mark.skip(f"with --nightly: {long.args[0]}"))
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = f"{item.path.parent.relative_to(here)}/"
        of = (at for at, longest in enumerate(LONGEST_FIRST) if folder.startswith(f"{longest}/"))
        return next(of, len(LONGEST_FIRST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: to look through it again and again for garbage takes
    a twentieth of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def nightly(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--nightly"))


@pytest.fixture(scope="session")
def _servers_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def reachable_tmp_path() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds:g} s"
        threading.Event().wait(0.01)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(scope="session")
def valkey_server(_servers_folder: Path) -> Iterator[Valkey]:
    server = Valkey(
        _servers_folder / "valkey", _servers_folder / "valkey.log", password=PASSWORD, appendfsync="everysec"
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _made_postgres(_servers_folder: Path) -> Path:
    """The files of a server that was migrated and stopped: to copy them is quicker than to make them."""
    folder = _servers_folder / "made"
    server = Postgres(folder, _servers_folder / "made.log", password=PASSWORD, durable=False)
    server.start()
    asyncio.run(migrate(server.url))
    server.stop()
    return folder


@pytest.fixture(scope="session")
def postgres_server(_servers_folder: Path, _made_postgres: Path) -> Iterator[Postgres]:
    server = _like(_made_postgres, _servers_folder / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(valkey_server: Valkey) -> str:
    with SynchronousRedis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture(name="redis")
async def _redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(
        redis_url, protocol=2, retry=Retry(NoBackoff(), 0), single_connection_client=True
    ) as client:
        yield client


@pytest.fixture
async def fake_redis() -> AsyncIterator[Redis]:
    async with FakeAsyncRedis(server=FakeServer(), protocol=2, retry=Retry(NoBackoff(), 0)) as client:
        yield client


@pytest.fixture
async def database_url(postgres_server: Postgres) -> AsyncIterator[str]:
    async for url in fresh_database(postgres_server, "lastro"):
        yield url


@pytest.fixture
async def empty_database_url(postgres_server: Postgres) -> AsyncIterator[str]:
    async for url in fresh_database(postgres_server, "template1"):
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture
def own_valkey(reachable_tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(reachable_tmp_path / "valkey", reachable_tmp_path / "valkey.log", password=PASSWORD)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_postgres(reachable_tmp_path: Path, _made_postgres: Path) -> Iterator[Postgres]:
    server = _like(_made_postgres, reachable_tmp_path / "postgres")
    server.start()
    yield server
    server.kill()


def _like(made: Path, folder: Path) -> Postgres:
    """A server on a copy of these files, whose owner stays who it was (for root's tests `nobody`)."""
    subprocess.run(["cp", "-a", made, folder], check=True)  # noqa: S607 - the system's own
    return Postgres(folder, folder.with_suffix(".log"), password=PASSWORD, durable=False)


async def fresh_database(server: Postgres, template: str) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(8)}"
    connection = await asyncpg.connect(server.database_url("postgres"))
    try:
        # Copying files is the fastest of the two ways where nothing waits for the disk.
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield server.database_url(name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()

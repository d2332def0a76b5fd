"""The script on fakeredis, on a real Valkey, and on the Redis 7 of the machine, if it has one."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis

from app.embedded import Valkey
from app.ledger.connection import connect
from tests.engine import Streams, script_with_clock
from tests.lua.direct import SHARDS, Direct


class RedisServer(Valkey):
    """The `redis-server` on PATH instead of our own Valkey."""

    def command(self) -> list[str]:
        return [shutil.which("redis-server") or "redis-server", str(self._write_configuration())]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on PATH")
    folder: Path = tmp_path_factory.mktemp("redis")
    server = RedisServer(folder, folder / "redis.log", password="sesame", appendonly="no")
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["fakeredis", "valkey", "redis-server"])
async def any_redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A client of each in turn, emptied."""
    if request.param == "fakeredis":
        async with FakeAsyncRedis(server=FakeServer(), protocol=2) as client:
            yield client
        return
    url = request.getfixturevalue("valkey_server" if request.param == "valkey" else "redis_server").url
    async with connect(url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def real_redis(redis_url: str) -> AsyncIterator[Redis]:
    """The shared Valkey, emptied, as the ledger reaches it."""
    async with connect(redis_url) as client:
        yield client


async def founded(redis: Redis) -> Direct:
    """A ledger that was just founded in `redis`, its clock standing still."""
    fake = isinstance(redis, FakeAsyncRedis)
    server = "" if fake else (await redis.info("replication"))["master_replid"]
    journal = Streams(redis, SHARDS, server)
    await journal.found()
    direct = Direct(redis, journal, script_with_clock())
    await direct.clock.advance(0)
    return direct


@pytest.fixture
async def direct(any_redis: Redis) -> Direct:
    """On each Redis in turn."""
    return await founded(any_redis)


@pytest.fixture
async def direct_valkey(real_redis: Redis) -> Direct:
    """On the shared Valkey alone."""
    return await founded(real_redis)


@pytest.fixture
async def direct_fake(fake_redis: Redis) -> Direct:
    """On fakeredis alone."""
    return await founded(fake_redis)

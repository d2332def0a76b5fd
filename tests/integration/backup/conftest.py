"""A ledger with a past: three shards, journaled to the end; and other databases to bring it to.

Most tests need what PostgreSQL has of it only, and get one that takes back what they do, or a copy. `living`
is a ledger with its Redis.
"""

import asyncio
import secrets
from functools import partial

import asyncpg
import pytest
from redis.asyncio import Redis

from persistence.admission import admit
from persistence.backup import snapshot
from persistence.backup.export import export
from persistence.backup.reading import Backup
from persistence.birth import give_birth
from persistence.pool import open_pool
from tests.conftest import fresh_database
from tests.integration import ledgers
from tests.integration.backup.books import SHARDS
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller


async def _live(database_url: str, redis_url: str) -> None:
    await give_birth(database_url, redis_url, SHARDS)
    async with (
        await open_pool(database_url, connections_max=2) as pool,
        Redis.from_url(redis_url, protocol=2) as redis,
    ):
        await Traffic(Caller(redis, await admit(pool, redis)), SHARDS, seed=7, accounts=12).run(90)
    await ledgers.journal_all(database_url, redis_url)


@pytest.fixture(scope="session")
def template(postgres_server, valkey_server):
    """The name of a database with a journal, to be copied."""
    name = f"past_{secrets.token_hex(8)}"

    async def make() -> None:
        async with Redis.from_url(valkey_server.url) as redis:
            await redis.flushall()
        connection = await asyncpg.connect(postgres_server.database_url("postgres"))
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE lastro STRATEGY file_copy")
        await connection.close()
        await _live(postgres_server.database_url(name), valkey_server.url)

    asyncio.run(make())
    return name


@pytest.fixture
async def past_url(postgres_server, template):
    async for url in fresh_database(postgres_server, template):
        yield url


@pytest.fixture(scope="session")
def shared_past_url(postgres_server, template):
    """For those who take back what they do to it."""
    name = f"shared_{template}"

    async def copy() -> None:
        connection = await asyncpg.connect(postgres_server.database_url("postgres"))
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        await connection.close()

    asyncio.run(copy())
    return postgres_server.database_url(name)


@pytest.fixture
async def connection(shared_past_url):
    """Of a database with a journal. What is done by it is taken back, and nobody else sees it."""
    connection = await asyncpg.connect(shared_past_url)
    # The isolation of a backup's moment, which a transaction within this one may ask for.
    taken_back = connection.transaction(isolation="repeatable_read")
    await taken_back.start()
    yield connection
    await taken_back.rollback()
    await connection.close()


@pytest.fixture
async def second_url(postgres_server):
    """A migrated database in which nothing is."""
    async for url in fresh_database(postgres_server, "lastro"):
        yield url


@pytest.fixture
async def second(second_url):
    connection = await asyncpg.connect(second_url)
    yield connection
    await connection.close()


@pytest.fixture
def journal_all(database_url, redis_url):
    """Journals what there is of the living ledger."""
    return partial(ledgers.journal_all, database_url, redis_url)


@pytest.fixture
async def living(database, database_url, redis_url, redis) -> Traffic:
    """A ledger with its Redis, and traffic for it."""
    await give_birth(database_url, redis_url, SHARDS)
    return Traffic(Caller(redis, await admit(database, redis)), SHARDS, seed=3, accounts=12)


@pytest.fixture
def small_pages(monkeypatch):
    """So that a backup of these few entries has many."""
    monkeypatch.setattr(snapshot, "PAGE_ROWS", 20)


@pytest.fixture
async def backup(connection, tmp_path) -> Backup:
    """Of a journal in which some notes are erased."""
    await connection.execute(
        """
        WITH gone AS (DELETE FROM notes WHERE seq < 20 RETURNING shard, seq)
        INSERT INTO erasures (shard, seq, by, reason) SELECT shard, seq, 'key:ops', 'asked to' FROM gone
        """
    )
    await export(connection, tmp_path / "a.gz")
    return Backup(tmp_path / "a.gz")

"""A born ledger with a past, workers that keep its journal, and what compares and repairs the two sides."""

import asyncio
from functools import partial

import pytest

from app.ledger.connection import connect as connect_redis
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.drain import drain
from persistence.reconcile.hands import hands as hands_of
from persistence.reconcile.position import begin
from persistence.reconcile.repair import Repairer
from persistence.reconcile.run import Run, by_account
from persistence.reconcile.sighting import Place
from persistence.session import connect
from tests.integration.books import Shop
from tests.integration.journal.conftest import caller, ledger, worker
from tests.integration.journal.workers import SHARDS, keep_journal
from tests.integration.reconcile.past import Past, shard_of_account

__all__ = ["caller", "ledger", "worker"]


@pytest.fixture
async def connection(database_url):
    connection = await connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def reconcile(connection, redis, ledger):
    """Makes a run to its end, and returns it."""

    async def made(*, full=True, **options):
        run = await Run(connection, redis, await begin(connection, "test", full=full), **options).load()
        while not run.is_at_end:
            await run.step()
        return run

    return made


@pytest.fixture
async def past(caller, redis, worker):
    """A ledger with two accounts whose past is known. All of it is journaled."""
    past = await Past(caller, redis).happen()
    await keep_journal(worker)
    return past


@pytest.fixture
async def shop(caller, worker):
    """A ledger with a past: accounts of several buckets, holds open and ended. All of it is journaled."""
    shop = Shop(caller, SHARDS, seed=7)
    await shop.trade(40)
    await keep_journal(worker)
    return shop


@pytest.fixture
async def kept(database_url, redis_url, ledger):
    """A worker that keeps the journal as long as the test runs."""
    keeping = asyncio.create_task(drain(database_url, redis_url, 60.0, keep=None))
    yield
    keeping.cancel()
    await asyncio.wait({keeping})


@pytest.fixture
async def hands(redis_url, redis, database):
    backing = PostgresBacking(database, partial(admission.admit, database, redis))
    async with connect_redis(redis_url) as own, hands_of(own, backing) as made:
        yield made


@pytest.fixture
def place(connection, ledger):
    """Where an account is to be looked at."""

    async def of(account):
        shard = shard_of_account(account)
        incarnation = await connection.fetchval("SELECT incarnation FROM shards WHERE shard = $1", shard)
        return Place(ledger, shard, incarnation)

    return of


@pytest.fixture
def repair(connection, redis, hands, place, kept):
    """Repairs every account of a run's drift, and returns what was repaired."""

    async def made(run, **options):
        repairer = Repairer(connection, redis, hands, "tester", **options)
        return [
            await repairer.repair(await place(account), account, drift)
            for account, drift in by_account(run.drift).items()
        ]

    return made

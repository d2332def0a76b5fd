"""A ledger that was founded a moment ago, and clean-up for which everything that has ended is old."""

import pytest

from app.ledger.operations import Grant
from persistence.birth import give_birth
from persistence.cleaning.cleaning import PostgresCleaning
from tests.integration.ledgers import ACCOUNTS, SHARDS, process

RUNS = "SELECT by, whole, expired, old, error, finished_at IS NOT NULL AS ended FROM cleanups ORDER BY id"


@pytest.fixture
async def ledger(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        for account in ACCOUNTS.values():
            await ledger.grant(Grant(account=account, amount=100))
        yield ledger


@pytest.fixture
def cleaning(ledger, database, redis):
    """Clean-up for which everything that has ended is old."""

    def made(days=-1, interval_seconds=600, **options):
        return PostgresCleaning(
            database, ledger, redis, days=days, interval_seconds=interval_seconds, **options
        )

    return made


async def runs(database):
    return [tuple(row) for row in await database.fetch(RUNS)]

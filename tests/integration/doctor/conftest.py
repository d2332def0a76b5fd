"""A ledger of which the doctor has nothing to say."""

import pytest

from app.ledger.operations import Grant
from persistence.birth import give_birth
from persistence.drain import drain
from tests.integration.doctor.findings import HEALTH
from tests.integration.ledgers import SHARDS, process


@pytest.fixture
async def healthy(database, database_url, redis, redis_url):
    """A ledger with some entries, journaled, verified, compared and backed up a moment ago."""
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        for number in range(8):
            await ledger.grant(Grant(account=f"account-{number}", amount=5))
    await drain(database_url, redis_url, 0.3, keep=None)
    await database.execute(HEALTH)

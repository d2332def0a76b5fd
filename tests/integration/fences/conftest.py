"""A ledger of which the shards are fenced."""

import pytest

from app.ledger.operations import Grant
from persistence.birth import give_birth
from tests.integration.ledgers import ACCOUNTS, SHARDS, process, watching


@pytest.fixture
async def ledger(database, database_url, redis_url):
    """As a process has it, with 100 credits in every shard."""
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger, watching(database, ledger):
        for name in ACCOUNTS.values():
            await ledger.grant(Grant(account=name, amount=100))
        yield ledger

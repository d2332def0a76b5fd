"""A born ledger of three shards, a caller of its script, and operators who say who listens."""

import pytest

from persistence.admission import admit
from persistence.birth import give_birth
from persistence.events.managed import PostgresEvents
from tests.integration.journal.workers import SHARDS
from tests.integration.streams import Caller


@pytest.fixture
async def born(database_url, redis_url) -> str:
    return str(await give_birth(database_url, redis_url, SHARDS))


@pytest.fixture
async def caller(database, redis, born) -> Caller:
    return Caller(redis, await admit(database, redis))


@pytest.fixture
def managed(database) -> PostgresEvents:
    """Endpoints may be of this machine."""
    return PostgresEvents(database, private=True)

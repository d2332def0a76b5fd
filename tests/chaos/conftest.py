"""A ledger behind a bad wire."""

from collections.abc import AsyncIterator

import pytest

from tests.chaos.proxy import Proxy


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    """In front of the shared Valkey, emptied."""
    async with Proxy(redis_url) as proxy:
        yield proxy

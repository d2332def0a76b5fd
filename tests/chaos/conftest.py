"""A ledger behind a bad wire, one that is restored, and a whole one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy
from tests.chaos.storm.inspection import Inspection, inspected
from tests.chaos.storm.stage import Stage
from tests.integration.restore.conftest import caller, ledger, restored

__all__ = ["caller", "inspection", "ledger", "proxy", "restored"]


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    """In front of the shared Valkey, emptied."""
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def inspection(reachable_tmp_path: Path) -> AsyncIterator[Inspection]:
    """A whole ledger with one API and one worker, and a town that may begin to ask."""
    async with Stage(reachable_tmp_path, apis=1, workers=1) as stage, inspected(stage, 1) as inspection:
        yield inspection

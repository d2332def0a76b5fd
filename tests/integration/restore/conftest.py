"""A born ledger, a caller of its script, and its restore."""

import json

import pytest

from persistence.restore import restore
from tests.integration.journal.conftest import caller, ledger, worker
from tests.integration.restore.looking import Looking

__all__ = ["caller", "ledger", "restored", "worker"]


@pytest.fixture
def restored(database_url, redis_url, tmp_path):
    """Restores, and gives back what came of it."""

    async def run(**options):
        path = tmp_path / "salvaged" / "orphans.jsonl"
        return await restore(database_url, redis_url, salvage=path, watch=Looking(), **options)

    return run


@pytest.fixture
def salvaging(restored, tmp_path):
    """Restores, and gives back what came of it and what was salvaged."""

    async def run(**options):
        found = await restored(**options)
        path = tmp_path / "salvaged" / "orphans.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return found, [json.loads(line) for line in lines]

    return run

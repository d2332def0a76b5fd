"""A born ledger, a caller of its script, and its restore."""

import pytest

from persistence.restore import restore
from tests.integration.journal.conftest import caller, ledger
from tests.integration.restore.looking import Looking

__all__ = ["caller", "ledger", "restored"]


@pytest.fixture
def restored(database_url, redis_url, tmp_path):
    """Restores, and gives back what came of it."""

    async def run(**options):
        path = tmp_path / "salvaged" / "orphans.jsonl"
        return await restore(database_url, redis_url, salvage=path, watch=Looking(), **options)

    return run

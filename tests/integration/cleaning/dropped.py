"""Clean-up as the tests have it: everything that has ended is old."""

from datetime import UTC, datetime, timedelta
from typing import Any

from persistence.cleaning.dropping import drop
from persistence.pool import Pool

TOMORROW = datetime.now(UTC) + timedelta(days=1)
ROWS = "SELECT count(*) FROM reservations WHERE status <> 'pending'"


async def drop_all(database: Pool, before: datetime = TOMORROW, **options: Any) -> int:
    """Drop what was settled before a moment, of which there is something. Returns how many went."""
    async with database.acquire() as connection:
        dropped = sum([rows async for rows in drop(connection, before, 60.0, **options)])
    assert dropped
    if before == TOMORROW:
        assert 0 == await database.fetchval(ROWS)
    return dropped

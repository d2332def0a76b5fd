"""A ledger that was imported has the monitoring of the one that was exported, made anew from its entries."""

from persistence.backup.importing import import_backup
from persistence.monitoring.counting import count
from tests.integration.backup.conftest import (
    backup,
    connection,
    second,
    second_url,
    shared_past_url,
    small_pages,
    template,
)

__all__ = ["backup", "connection", "second", "second_url", "shared_past_url", "small_pages", "template"]

TABLES = {
    "usage_kinds": "span, start, kind",
    "usage_models": "span, start, model",
    "usage_accounts": "account, start",
    "usage_pauses": "span, start, class",
    "usage_cursors": "shard",
    "usage_state": "one",
}


async def counted(connection) -> dict[str, list[tuple[object, ...]]]:
    """All that is counted."""
    while await count(connection, entries_max=100):
        pass
    return {
        table: [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY {order}")]
        for table, order in TABLES.items()
    }


async def test_an_import_is_counted_like_what_was_exported(connection, backup, small_pages, second, redis):
    was = await counted(connection)
    assert len(was["usage_kinds"]) > 10
    await import_backup(second, redis, backup)
    assert was == await counted(second)

"""What is asked again and again, second by second, walks along an index made for it."""

from datetime import UTC, datetime, timedelta

import pytest

from app.events import EventFilter
from persistence.asking import Asking
from persistence.events import balances, deriving, watching
from persistence.events.delivering import Delivering
from persistence.events.managed import PostgresEvents, _conditions
from tests.integration.plans import explained, scans
from tests.integration.reading.test_plans import FILL

NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)

MORE = """
INSERT INTO lots (account, bucket, expires_at_ms, priority, available, held, since)
SELECT 'user-' || n, 'plan', 1767323045000 + n * 60000, 100, 1, 0, 1 FROM generate_series(0, 9999) n;

INSERT INTO event_endpoints (url, secret, by, created_at)
SELECT 'https://a/', 's', 'k', now() FROM generate_series(1, 30);

INSERT INTO events (type, at, body, once) SELECT 'x', now(), '{}', 'x' || n FROM generate_series(1, 5000) n;

INSERT INTO event_deliveries (event, endpoint, due_at, state)
SELECT events.id, endpoints.id, now(), 'delivered' FROM events
CROSS JOIN LATERAL (SELECT id FROM event_endpoints ORDER BY id LIMIT 1) AS endpoints;

ANALYZE;
"""

ASKED = {
    "before": (
        balances.BEFORE, (["user-1", "user-2"], [7, 9], [NOW, NOW]),
        {"journal_thresholds", "journal_account_version_key"},
    ),
    "thresholds": (balances.THRESHOLDS, (["user-1", "user-2"], [7, 9]), {"journal_thresholds"}),
    "entries": (deriving.ENTRIES, (1, 2000, 2100, None), {"journal_pkey"}),
    "deadlines": (
        watching.COMES_DUE, (NOW, NOW + timedelta(seconds=120), 100), {"reservations_deadline"},
    ),
    "lots": (watching.LAPSES, (1767323045000, "", "", 1767323945000, 100), {"lots_expiry"}),
    "what is old": (watching.OLD, (NOW, 100), {"events_at"}),
    "deliveries": (Delivering.DUE, (NOW,), {"event_deliveries_waiting"}),
    "the log of what is dead": (
        PostgresEvents.LOG.format(conditions=_conditions(EventFilter(state="dead")).numbered(2)), (50,),
        {"event_deliveries_dead"},
    ),
    "silent tasks": (Asking.CLAIM, (["bfl"], NOW, 16, 15.0, 300.0, 5.0), {"reservations_asked"}),
}  # fmt: skip


@pytest.fixture
async def filled(database):
    async with database.acquire() as connection:
        await connection.execute(FILL)
        await connection.execute(MORE)
        yield connection


async def test_what_is_asked_every_second_walks_along_indexes(filled):
    for what, (statement, values, wanted) in ASKED.items():
        async with filled.transaction():
            seen = scans(await explained(filled, statement, values))
        assert wanted <= {index for *_, index in seen}, (what, seen)
        whole = {table for node, table, _ in seen if node == "Seq Scan"}
        assert not whole & {"journal", "reservations", "lots", "events", "event_deliveries"}, (what, seen)

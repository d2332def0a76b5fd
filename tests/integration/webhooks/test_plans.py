"""What is asked of the inbox again and again walks along an index made for it."""

import pytest

from app.webhooks.inbox import RowFilter
from persistence.inbox import retrying, rows
from persistence.inbox.inbox import PostgresInbox, _of
from tests.integration.plans import explained, scans

FILL = """
INSERT INTO webhook_inbox (provider, named, outcome, payload, status, due, deliveries, received_at, last_at)
SELECT 'stripe', 'stripe:pi_' || n || CASE WHEN n % 2 = 0 THEN ' charge.refunded 999' ELSE '' END,
  CASE WHEN n % 2 = 0 THEN 'reversed' ELSE 'succeeded' END, repeat('x', 200),
  CASE WHEN n % 1000 = 0 THEN 'unknown' ELSE 'verified' END, 5, CASE WHEN n % 5000 = 0 THEN 2 ELSE 1 END,
  now() - make_interval(secs => n), now() - make_interval(secs => n)
FROM generate_series(1, 20000) n;
ANALYZE webhook_inbox;
"""

DUPLICATES = _of(RowFilter(status="duplicate"))
ASKED = {
    "payloads that are too old": (retrying.FORGET, (30, 1000), "webhook_inbox_payload"),
    "rows that are too old": (retrying.REMOVE, (30, 1000), "webhook_inbox_passing"),
    "what went back": (
        rows.CLAIM, ("stripe:pi_8 charge.refunded 999", 5, 10, ["stripe:pi_8"]), "webhook_inbox_of_payment",
    ),
    "what came more than once": (
        PostgresInbox.PAGE.format(conditions=DUPLICATES.numbered(2)), (51,), "webhook_inbox_duplicate",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ASKED)
async def test_what_is_asked_of_many_rows_looks_at_few(database, what):
    statement, values, index = ASKED[what]
    async with database.acquire() as connection:
        await connection.execute(FILL)
        async with connection.transaction():
            seen = scans(await explained(connection, statement, values))
    assert index in {each for *_, each in seen}, seen
    assert "webhook_inbox" not in {table for node, table, _ in seen if node == "Seq Scan"}, seen

"""However much there is, a page of the dashboard looks at few rows: none reads a large table whole, and none
walks along an index for long.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from app.operators import ActionFilter
from app.reports import TransactionFilter
from app.rules import RULES
from app.searching import AccountFilter, ReservationFilter
from app.webhooks.inbox import RowFilter
from persistence import listing, searching
from persistence.alerts import inbox as inbox_alerts
from persistence.dashboard import ongoing
from persistence.dashboard.actions import PostgresActions
from persistence.dashboard.ongoing import PostgresOngoing
from persistence.doctor import records
from persistence.health import endings, mishaps, of_records
from persistence.history import PostgresHistory
from persistence.inbox import summary
from persistence.inbox.inbox import PostgresInbox
from persistence.reconcile.recorded import PostgresReconciliations
from persistence.searching import PostgresSearching
from tests.integration.plans import explained
from tests.integration.reading.test_plans import FILL, NOON, Noting

LARGE = {
    "journal",
    "reservations",
    "accounts",
    "webhook_inbox",
    "operator_actions",
    "reconciliations",
    "mishaps",
}
WALKED, VISITED = 500, 1_300
"""A page looks at so many rows at most, twice when it finds few; and at what it shows."""

MORE = """
UPDATE reservations SET settled_at = now() - substr(task, 6)::integer * interval '10 minutes'
WHERE status <> 'pending';

UPDATE reservations SET status = 'confirmed', cancel_cause = NULL, captured = 5, released = 0
WHERE status = 'cancelled' AND account = 'user-7';

INSERT INTO webhook_inbox (provider, named, outcome, status, task, received_at, last_at)
SELECT CASE WHEN n % 4000 = 1 THEN 'luma' ELSE 'fal' END, 'task-' || n,
  CASE WHEN n % 5 = 0 THEN 'rejected' ELSE 'succeeded' END,
  CASE WHEN n % 5 = 0 THEN 'rejected' WHEN n % 5000 = 2 THEN 'refused' ELSE 'verified' END, 'task-' || n,
  now() - (12000 - n) * interval '10 minutes', now() - (12000 - n) * interval '10 minutes'
FROM generate_series(0, 11999) n;

INSERT INTO operator_actions (key, act, by, reason, account, about)
SELECT 'k' || n, 'adjust', 'key:ana', 'why', CASE WHEN n % 2 = 0 THEN 'user-' || n % 400 END,
  CASE WHEN n < 30 THEN 'keys' WHEN n % 2 = 1 THEN 'webhook ' || n END
FROM generate_series(0, 11999) n;

INSERT INTO reconciliations (started_at, finished_at, status, by)
SELECT now() - n * interval '1 hour', now() - n * interval '1 hour', 'equal', 'job'
FROM generate_series(1, 6000) n;

INSERT INTO mishaps (what, minute, number, last)
SELECT what, date_trunc('minute', now()) - n * interval '1 minute', 1, 'x'
FROM generate_series(0, 5999) n, (VALUES ('confirm_conflict'), ('reservation_not_found')) AS of (what);
"""

Ask = Callable[[Any], Awaitable[Any]]


def reservations(**which: Any) -> Ask:
    return lambda pool: PostgresSearching(pool).reservations(ReservationFilter(**which))


def accounts(text: str) -> Ask:
    return lambda pool: PostgresSearching(pool).accounts(AccountFilter(text=text))


def transactions(**which: Any) -> Ask:
    return lambda pool: PostgresHistory(pool).transactions(TransactionFilter(**which))


def actions(**which: Any) -> Ask:
    return lambda pool: PostgresActions(pool).listed(ActionFilter(**which), 20)


def deliveries(**which: Any) -> Ask:
    return lambda pool: PostgresInbox(pool, pool).page(RowFilter(**which), limit=25)


ASKED: dict[str, Ask] = {
    "how fast it goes": lambda pool: PostgresOngoing(pool).per_second(),
    "open by model": lambda pool: PostgresOngoing(pool).open_by_model(),
    "open": reservations(status="pending"),
    "open of a model that has none": reservations(status="pending", model="none"),
    "open of an account": reservations(status="pending", account="user-0"),
    "overdue": reservations(status="pending", due_before=NOON),
    "of all": reservations(),
    "cancelled": reservations(status="cancelled"),
    "cancelled of an account that has none": reservations(status="cancelled", account="user-7"),
    "confirmed of a model": reservations(status="confirmed", model="model-7"),
    "cancelled of a model that has none": reservations(status="cancelled", model="none"),
    "expired": reservations(status="expired"),
    "expired of a model that has none": reservations(status="expired", model="none"),
    "of an age": reservations(made_since=NOON - timedelta(minutes=10), made_before=NOON),
    "accounts": accounts(""),
    "accounts that nobody is": accounts("nobody"),
    "a timeline": transactions(account="user-7"),
    "the journal's end": transactions(),
    "a reservation's entries": transactions(reservation="cfcd2084-95d5-65ef-66e7-dff9f98764da"),
    "a task": transactions(task="task-8"),
    "done to an account": actions(account="user-8"),
    "done long ago": actions(about="keys"),
    "never done": actions(about="reconciliation"),
    "webhooks": deliveries(),
    "webhooks of a provider": deliveries(provider="luma"),
    "webhooks of no provider": deliveries(provider="stripe"),
    "webhooks that were refused": deliveries(status="refused"),
    "webhooks of a task": deliveries(task="task-9"),
    "comparisons": lambda pool: PostgresReconciliations(pool).runs(20),
    "webhooks lately": summary.lately,
    "endings lately": endings.lately,
    "ran out of time": lambda connection: of_records.expired(connection, RULES),
    "below their floor": lambda connection: of_records.below_floor(connection, RULES),
    "the last comparison": records.reconciled,
    "not found lately": lambda connection: mishaps.lately(connection, "reservation_not_found"),
    "rejected lately": lambda connection: inbox_alerts.rejections(connection, RULES),
}


@pytest.fixture
async def large(database_url, monkeypatch):
    """As many rows against these bounds as a large ledger has against the usual ones."""
    monkeypatch.setattr(listing, "LOOKED_MAX", WALKED)
    monkeypatch.setattr(searching, "LOOKED_MAX", WALKED)
    monkeypatch.setattr(searching, "WALKED_MAX", WALKED)
    monkeypatch.setattr(ongoing, "OPEN_MAX", WALKED)
    monkeypatch.setattr(summary, "LATELY_ROWS_MAX", WALKED)
    monkeypatch.setattr(endings, "SAMPLE_MAX", WALKED)
    connection = await asyncpg.connect(database_url)
    await connection.execute(FILL)
    await connection.execute(MORE)
    await connection.execute("VACUUM ANALYZE")
    yield connection
    await connection.close()


async def test_no_page_looks_at_many_rows(large):
    for name, ask in ASKED.items():
        noting = Noting(large)
        await ask(noting)
        assert noting.asked, name
        for query, values in noting.asked:
            plan = await explained(large, query, values, ", ANALYZE, TIMING OFF")
            whole = {each["Relation Name"] for each in plan if each["Node Type"] == "Seq Scan"}
            assert set() == whole & LARGE, (name, query)
            assert sum(map(visited, plan)) <= VISITED, (name, query)


def visited(node: dict[str, Any]) -> float:
    """How many rows of a large table this node has looked at."""
    if node.get("Relation Name") not in LARGE:
        return 0
    rows: float = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return rows * float(node["Actual Loops"])

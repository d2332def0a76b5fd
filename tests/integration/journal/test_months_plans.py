"""What is asked again and again costs a look into each month at most, and reads none of two years through."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from app.reports import TransactionFilter
from app.settings import Settings
from app.stores import Stores
from persistence import listing
from persistence.backing import PostgresBacking
from persistence.events import balances, deriving
from persistence.history import PostgresHistory
from persistence.journaled import Journaled
from persistence.monitoring import endings, entries
from persistence.past import PostgresPast
from persistence.projections import dropped
from persistence.projections.refunds import Refunds
from persistence.proving import Walk
from persistence.rebuild.reservations import OF_IDS
from tests.integration.plans import explained, explained_once
from tests.integration.reading.test_plans import Noting

ROWS = 48_000
NOW = datetime.now(UTC)

FILL = f"""
SELECT make_journal_months(ARRAY(SELECT now() - n * interval '1 week' FROM generate_series(0, 104) AS n));

INSERT INTO shards (shard, head, cursor) SELECT n, decode(repeat('00', 32), 'hex'), {ROWS // 4}
FROM generate_series(0, 3) AS n;

INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held,
  reservation, task, model, operation_key, by, entry, hash)
SELECT n % 4, n / 4 + 1, 1, now() - (1 - n::float8 / {ROWS}) * interval '720 days',
  CASE n / 4 % 2 WHEN 0 THEN 'reserved' ELSE 'confirmed' END, 'user-' || n % 400, n / 400 + 1, 1, 1, 0,
  md5((n / 8 * 4 + n % 4)::text)::uuid, CASE n / 4 % 2 WHEN 0 THEN 'task-' || n END,
  (ARRAY['flux', 'video'])[n % 2 + 1], 'key-' || n, 'key:shop',
  '{{"v":1,"kind":"granted","at_ms":1,"account":"u","version":1,"amount":1,"available":1,"held":0,'
  '"legs":[],"incarnation":1,"nonce":"n"}}', decode(repeat('00', 32), 'hex')
FROM generate_series(0, {ROWS} - 1) AS n;

INSERT INTO reservations (id, shard, account, status, reserved, held, expires_at, created_at, reserved_seq)
SELECT reservation, shard, account, 'pending', 1, 1, at, at, seq FROM journal WHERE kind = 'reserved';

INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at)
SELECT 'user-' || n, n % 4, {ROWS // 400}, 0, 0, now(), now() FROM generate_series(0, 399) AS n;
"""

ID = "cfcd2084-95d5-65ef-66e7-dff9f98764da"
LAST = ROWS // 4
TAKEN = ([0, 1, 2, 3], [LAST - 10] * 4, [LAST] * 4)

ASKED = {
    "events: entries": (deriving.ENTRIES, (1, LAST - 100, LAST, None)),
    "events: before": (balances.BEFORE, (["user-1", "user-2"], [100, 100], [NOW, NOW])),
    "events: thresholds": (balances.THRESHOLDS, (["user-1", "user-2"], [100, 100])),
    "usage: entries": (entries.woven("{entries} SELECT * FROM entries"), TAKEN),
    "usage: endings": (endings.ENDINGS, TAKEN),
    "one transaction": (PostgresHistory.TRANSACTION, (1, LAST - 5, 1)),
    "a balance of the past": (PostgresPast.STANDING, ("user-7", 100)),
    "a statement": (PostgresPast.ENTRIES, ("user-7", 90, 100, 500)),
    "a reservation": (OF_IDS, ([ID],)),
    "a reservation by its entries": (dropped.ENTRIES, ([ID],)),
    "what is refunded": (Refunds.ORIGINALS, (1, [LAST - 5, LAST - 4])),
    "what is waited for": (Journaled.ENTRIES, ([1, 2], [LAST - 5, LAST - 4])),
    "a page of proof": (Walk.PAGE, (1, 100, 200)),
}

BY_KEYS = {
    "answers to keys": PostgresBacking.ANSWERED_TO["a"],
    "answers to keys of reservations": PostgresBacking.ANSWERED_TO["r"],
    "tasks": PostgresBacking.TASKS,
    "recorded": PostgresBacking.RECORDED,
    "refunded": PostgresBacking.REFUNDED,
    "reservations": OF_IDS,
    "reservations by their entries": dropped.ENTRIES,
    "what is waited for": Journaled.ENTRIES,
}

PAGES = [
    TransactionFilter(),
    TransactionFilter(since=NOW - timedelta(days=200), until=NOW - timedelta(days=199)),
    TransactionFilter(account="user-7"),
    TransactionFilter(account="user-7", since=NOW - timedelta(days=200)),
    TransactionFilter(task="task-40000"),
    TransactionFilter(reservation=ID),
]


async def test_two_years_are_looked_up_and_not_read(database, monkeypatch):
    """Months that are empty are not told of; of all others a way along an index is taken."""
    monkeypatch.setattr(listing, "LOOKED_MAX", 500)  # as few of these rows as usual of a large journal's
    async with database.acquire() as connection:
        await connection.execute(FILL)
        for name in [row[0] for row in await connection.fetch("SELECT name FROM journal_months")]:
            await connection.execute(f"ANALYZE {name}")
        await connection.execute("ANALYZE reservations; ANALYZE accounts")
        for what, (query, values) in ASKED.items():
            _demand_looked_up(what, await explained(connection, query, values))
        for what, query in BY_KEYS.items():
            _demand_looked_up(what, await explained_once(connection, query))
        for which in PAGES:
            noting = Noting(connection)
            await PostgresHistory(noting).transactions(which)
            for query, values in noting.asked:
                _demand_looked_up(str(which), await explained(connection, query, values))


def _demand_looked_up(what, plan) -> None:
    read = {each["Relation Name"] for each in plan if each["Node Type"] == "Seq Scan"}
    assert not read & {"journal", "reservations"}, (what, read)
    assert any(each.get("Index Name", "").startswith("journal") for each in plan), what


async def test_a_page_of_a_time_looks_into_the_months_of_that_time_only(database):
    async with database.acquire() as connection:
        await connection.execute(FILL)
        noting = Noting(connection)
        since = datetime(NOW.year - 1, 6, 3, tzinfo=UTC)
        which = TransactionFilter(since=since, until=since + timedelta(days=40))
        await PostgresHistory(noting).transactions(which)
        query, values = noting.asked[0]
        told = [row[0] for row in await connection.fetch(f"EXPLAIN {query}", *values)]
    year = NOW.year - 1
    assert any(f"journal_{year}_06" in line for line in told)
    assert any(f"journal_{year}_07" in line for line in told)
    assert not any(f"journal_{year}_08" in line or f"journal_{year}_05" in line for line in told)


@pytest.mark.parametrize("pool", ["credits", "pages"])
async def test_who_looks_up_by_keys_has_statements_planned_once(database_url, redis_url, pool):
    """Planning over two years takes milliseconds for each key, were it done again for each."""
    async with AsyncExitStack() as stack:
        stores = await Stores.opened(Settings(database_url=database_url, redis_url=redis_url), stack)
        mode = await getattr(stores, pool).fetchval("SHOW plan_cache_mode")
    assert mode == ("force_generic_plan" if pool == "credits" else "auto")

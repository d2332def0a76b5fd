"""Pages walk along indexes: what PostgreSQL plans for each of them, over tables that are worth it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg

from app.reports import TransactionFilter
from app.searching import AccountFilter, ReservationFilter
from persistence import listing, searching
from persistence.history import PostgresHistory
from persistence.searching import PostgresSearching
from tests.integration.plans import explained
from tests.integration.rows import MORNING

FILL = """
SELECT make_journal_months(ARRAY[timestamptz '2026-01-02 03:04:05Z']);

INSERT INTO shards (shard, head, cursor) SELECT n, decode(repeat('00', 32), 'hex'), 4000
FROM generate_series(0, 3) n;

INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held,
  reservation, task, model, by, entry, hash)
SELECT n % 4, n / 4 + 1, 1, timestamptz '2026-01-02 03:04:05Z' + n * interval '1 second',
  (ARRAY['granted', 'deducted', 'reserved'])[n % 3 + 1], 'user-' || n % 40, n / 40 + 1, 1, 1, 0,
  md5((n / 3)::text)::uuid, 'task-' || n, (ARRAY['flux', 'video'])[n % 2 + 1], 'key:shop',
  '{"v":1,"kind":"granted","at_ms":1767323045000,"account":"u","version":1,"amount":1,"available":1,"held":0,'
  '"legs":[],"incarnation":1,"nonce":"n"}', decode(repeat('00', 32), 'hex')
FROM generate_series(0, 15999) n;

INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at)
SELECT 'user-' || n, n % 4, 400, 0, 0, now(), now() FROM generate_series(0, 9999) n;

INSERT INTO reservations (id, shard, account, status, reserved, captured, released, held, expires_at,
  created_at, settled_at, cancel_cause, task, model, reserved_seq, ended_seq)
SELECT (lpad(to_hex(1767323045000 + n * 1000), 12, '0') || '70008' || substr(md5(n::text), 1, 15))::uuid,
  n % 4,
  'user-' || n % 400, s.status, 5, CASE WHEN s.status = 'confirmed' THEN 5 ELSE 0 END,
  CASE WHEN s.status = 'cancelled' THEN 5 ELSE 0 END, CASE WHEN s.status = 'pending' THEN 5 ELSE 0 END,
  timestamptz '2026-01-02 03:34:05Z' + n * interval '1 second', now(),
  CASE WHEN s.status <> 'pending' THEN now() END,
  CASE WHEN s.status = 'cancelled' THEN CASE WHEN n % 9 = 0 THEN 'expired' ELSE 'requested' END END,
  'task-' || n, 'model-' || n % 50, 1, CASE WHEN s.status <> 'pending' THEN 2 END
FROM generate_series(0, 11999) n, LATERAL (
  SELECT CASE WHEN n % 100 = 0 THEN 'pending' WHEN n % 3 = 0 THEN 'cancelled' ELSE 'confirmed' END AS status
) s;

ANALYZE;
"""

LARGE = {"journal", "accounts", "reservations"}
NOON = MORNING + timedelta(hours=1)


class Noting:
    """A pool of one connection that keeps what it is asked."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    async def acquire(self, timeout: float) -> "Noting":  # noqa: ASYNC109 - as asyncpg has it
        return self

    async def release(self, connection: "Noting", timeout: float) -> None:  # noqa: ASYNC109
        pass

    def __getattr__(self, name: str) -> Any:
        def noted(query: str, *values: object) -> Any:
            self.asked.append((query, values))
            return getattr(self._connection, name)(query, *values)

        return noted if name.startswith("fetch") else getattr(self._connection, name)


def transactions(**which: Any) -> Callable[[Noting], Awaitable[Any]]:
    return lambda pool: PostgresHistory(pool).transactions(TransactionFilter(**which))


def reservations(**which: Any) -> Callable[[Noting], Awaitable[Any]]:
    return lambda pool: PostgresSearching(pool).reservations(ReservationFilter(**which))


def accounts(**which: Any) -> Callable[[Noting], Awaitable[Any]]:
    return lambda pool: PostgresSearching(pool).accounts(AccountFilter(**which))


def export(**which: Any) -> Callable[[Noting], Awaitable[Any]]:
    return lambda pool: anext(PostgresHistory(pool).export(TransactionFilter(**which)))


OF_ACCOUNT = "journal_account_version_key"

WALKED = [
    (transactions(), "journal_at"),
    (transactions(kinds=("granted",)), "journal_at"),
    (transactions(model="flux"), "journal_at"),
    (transactions(since=MORNING, until=NOON), "journal_at"),
    (transactions(account="user-7"), OF_ACCOUNT),
    (transactions(account="user-7", kinds=("granted",), model="flux"), OF_ACCOUNT),
    (transactions(account="user-7", since=MORNING, until=NOON), OF_ACCOUNT),
    (transactions(task="task-7"), "journal_task"),
    (transactions(task="task-7"), "journal_reservation"),
    (transactions(reservation="cfcd2084-95d5-65ef-66e7-dff9f98764da"), "journal_reservation"),
    (export(), "journal_at"),
    (export(account="user-7"), OF_ACCOUNT),
    (reservations(), "reservations_pkey"),
    (reservations(status="confirmed"), "reservations_pkey"),
    (reservations(status="pending"), "reservations_open"),
    (reservations(status="expired"), "reservations_expired"),
    (reservations(status="pending", due_before=NOON), "reservations_deadline"),
    (reservations(due_before=NOON), "reservations_pkey"),
    (reservations(model="model-7"), "reservations_model"),
    (reservations(account="user-7"), "reservations_account"),
    (reservations(account="user-7", status="pending"), "reservations_pending"),
    (accounts(), "accounts_id"),
    (accounts(text="user-77"), "accounts_id"),
    (accounts(text="77"), "accounts_id"),
]


async def test_every_page_walks_along_an_index(database, monkeypatch):
    for module, bound in ((listing, "LOOKED_MAX"), (searching, "LOOKED_MAX"), (searching, "WALKED_MAX")):
        monkeypatch.setattr(module, bound, 500)  # as few of these rows as usual of a large journal's
    async with database.acquire() as connection:
        await connection.execute(FILL)
        for ask, index in WALKED:
            pool = Noting(connection)
            await ask(pool)
            used, read_through = set(), set()
            for query, values in pool.asked:
                for node in await explained(connection, query, values):
                    used.add(node.get("Index Name"))
                    if node["Node Type"] == "Seq Scan":
                        read_through.add(node["Relation Name"])
            assert index in used, (pool.asked[0], used)
            assert not read_through & LARGE, (pool.asked, read_through)

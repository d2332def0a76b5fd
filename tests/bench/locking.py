"""Deducts the way that PostgreSQL alone does it: lock the row, move it, write down that it was moved.

One transaction of three statements, as the application would write it, on a pool of prepared connections.
"""

import asyncpg

from app.ledger.errors import AccountNotFound, InsufficientCredits
from app.ledger.operations import Deduct
from app.ledger.receipts import Receipt
from persistence.pool import ssl_of
from tests.bench.bed import ACCOUNTS, CREDITS
from tests.bench.standins import receipt

CONNECTIONS = 16
"""64 requests take turns on 16 connections; more of those would wait for each other's locks and two cores."""

_TABLES = """
CREATE TABLE IF NOT EXISTS bench_accounts (
  account text PRIMARY KEY, available bigint NOT NULL, version bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS bench_entries (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account text NOT NULL, version bigint NOT NULL,
  amount bigint NOT NULL, available bigint NOT NULL, model text, by text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
"""

_STOCK = """
INSERT INTO bench_accounts SELECT account, $2, 0 FROM unnest($1::text[]) AS new (account)
ON CONFLICT DO NOTHING
"""

_LOCK = "SELECT available, version FROM bench_accounts WHERE account = $1 FOR UPDATE"

_MOVE = "UPDATE bench_accounts SET available = $2, version = $3 WHERE account = $1"

_NOTE = """
INSERT INTO bench_entries (account, version, amount, available, model, by) VALUES ($1, $2, $3, $4, $5, $6)
"""


class LockingLedger:
    """Answers a deduct when PostgreSQL has committed it."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def open(cls, database_url: str, *, durable: bool) -> "LockingLedger":
        pool = await asyncpg.create_pool(
            database_url,
            ssl=ssl_of(database_url),
            min_size=CONNECTIONS,
            max_size=CONNECTIONS,
            server_settings={"synchronous_commit": "on" if durable else "off"},
        )
        await pool.execute(_TABLES)
        await pool.execute(_STOCK, ACCOUNTS, CREDITS)
        return cls(pool)

    async def deduct(self, operation: Deduct) -> Receipt:
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_LOCK, operation.account)
            if row is None:
                raise AccountNotFound
            available, version = row["available"] - operation.amount, row["version"] + 1
            if available < 0:
                raise InsufficientCredits(required=operation.amount, available=row["available"])
            await connection.execute(_MOVE, operation.account, available, version)
            await connection.execute(
                _NOTE, operation.account, version, operation.amount, available, operation.model, operation.by
            )
        return receipt(operation, version, available)

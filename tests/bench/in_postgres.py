"""What the ledgers that keep their credits in PostgreSQL alone have in common: tables, stocked, and a pool of
prepared connections.
"""

from typing import Self

import asyncpg

from app.ledger.operations import Deduct
from app.ledger.receipts import Receipt
from persistence.pool import ssl_of
from tests.bench.bed import ACCOUNTS, CREDITS

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


class InPostgres:
    """How it deducts is said by those who inherit."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def open(cls, database_url: str, *, durable: bool) -> Self:
        """`durable`: a crash loses nothing that was answered."""
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
        """Answers when PostgreSQL has committed it."""
        raise NotImplementedError

    async def close(self) -> None:
        await self._pool.close()

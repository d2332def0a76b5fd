"""Deducts the way that PostgreSQL alone does it: lock the row, move it, write down that it was moved.

One transaction of three statements, as the application would write it, on a pool of prepared connections.
"""

from app.ledger.errors import AccountNotFound, InsufficientCredits
from app.ledger.operations import Deduct
from app.ledger.receipts import Receipt
from tests.bench.in_postgres import InPostgres
from tests.bench.standins import receipt

_LOCK = "SELECT available, version FROM bench_accounts WHERE account = $1 FOR UPDATE"

_MOVE = "UPDATE bench_accounts SET available = $2, version = $3 WHERE account = $1"

_NOTE = """
INSERT INTO bench_entries (account, version, amount, available, model, by) VALUES ($1, $2, $3, $4, $5, $6)
"""


class LockingLedger(InPostgres):
    """Answers a deduct when PostgreSQL has committed it."""

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

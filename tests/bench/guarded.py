"""Deducts by one guarded UPDATE: it moves the row if that has enough, and nothing is asked before.

The fastest that PostgreSQL alone has for it: one statement, which is its own transaction. `Guarded` writes
down in the same statement that the row was moved, as `LockingLedger` does; `Bare` writes down nothing, so
that nobody can tell afterwards what became of the credits.
"""

from typing import ClassVar

from app.ledger.errors import AccountNotFound, InsufficientCredits
from app.ledger.operations import Deduct
from app.ledger.receipts import Receipt
from tests.bench.in_postgres import InPostgres
from tests.bench.standins import receipt

_MOVE = """
UPDATE bench_accounts SET available = available - $1, version = version + 1
WHERE account = $2 AND available >= $1 RETURNING version, available
"""

_MOVE_AND_NOTE = f"""
WITH moved AS ({_MOVE})
INSERT INTO bench_entries (account, version, amount, available, model, by)
SELECT $2, version, $1, available, $3, $4 FROM moved RETURNING version, available
"""

_LOOK = "SELECT available FROM bench_accounts WHERE account = $1"


class Bare(InPostgres):
    """Answers a deduct when PostgreSQL has committed it."""

    MOVE: ClassVar = _MOVE

    async def deduct(self, operation: Deduct) -> Receipt:
        row = await self._pool.fetchrow(
            self.MOVE, operation.amount, operation.account, *self._noted(operation)
        )
        if row is None:
            raise await self._refusal(operation)
        return receipt(operation, row["version"], row["available"])

    def _noted(self, operation: Deduct) -> tuple[str | None, ...]:
        return ()

    async def _refusal(self, operation: Deduct) -> AccountNotFound | InsufficientCredits:
        """Why nothing was moved, as far as that can be seen afterwards."""
        available = await self._pool.fetchval(_LOOK, operation.account)
        if available is None:
            return AccountNotFound()
        return InsufficientCredits(required=operation.amount, available=available)


class Guarded(Bare):
    """The same, with an entry of each."""

    MOVE: ClassVar = _MOVE_AND_NOTE

    def _noted(self, operation: Deduct) -> tuple[str | None, ...]:
        return operation.model, operation.by

"""Runs as they are recorded: `app.reconciliations.Reconciliations` over a pool."""

import msgspec
from asyncpg import Record

from app.reconciliations import Difference, Reconciliation
from persistence.pool import Pool, answering
from persistence.reconcile.position import begin


class PostgresReconciliations:
    """Every method raises `BackingUnavailable` while PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    RUNS = """
    SELECT id::text AS id, started_at, finished_at, status, accounts, drift FROM reconciliations
    ORDER BY started_at DESC, id LIMIT $1
    """

    async def runs(self, limit: int) -> list[Reconciliation]:
        async with answering(self._pool) as connection:
            return [_run(row) for row in await connection.fetch(self.RUNS, limit)]

    # Whoever asks at the same moment waits here, and finds the run of the first.
    ONE_AT_A_TIME = "LOCK TABLE reconciliations IN SHARE ROW EXCLUSIVE MODE"

    RUNNING = """
    SELECT id::text AS id, started_at, finished_at, status, accounts, drift FROM reconciliations
    WHERE status = 'running' ORDER BY started_at LIMIT 1
    """

    async def start(self, by: str) -> Reconciliation:
        async with answering(self._pool) as connection, connection.transaction():
            await connection.execute(self.ONE_AT_A_TIME)
            running = await connection.fetchrow(self.RUNNING)
            if running is None:
                await begin(connection, by, full=False)
                running = await connection.fetchrow(self.RUNNING)
            assert running is not None, "a run that has begun"
            return _run(running)


def _run(row: Record) -> Reconciliation:
    drift = msgspec.json.decode(row["drift"], type=list[Difference])
    return Reconciliation(
        row["id"], row["started_at"], row["finished_at"], row["status"], row["accounts"], drift
    )

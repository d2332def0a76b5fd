"""What happened, page by page, newest first.

The listing of one account goes by its versions (1, 2, 3, ... without gaps, committed in this order), so that
its pages are exact: nothing is missing and nothing comes twice, whatever is journaled meanwhile. A listing
over accounts goes by (time, shard, sequence). There every entry that was journaled when the first page was
read comes once and in its place; one that is journaled later comes only where the reading has not passed its
time yet, because shards reach the journal independently, within the journal's lag of each other.
"""

from app.ledger.shards import TransactionId
from app.reports import PAGE_MAX, Transaction, TransactionFilter, TransactionPage, Transactions
from persistence import cursors, listing
from persistence.backing import decode_entry
from persistence.pool import Pool, answering

EXPORT_ROWS = 500
EXPORT_SECONDS = 10.0


class PostgresHistory:
    """`app.reports.History`. Every method raises `BackingUnavailable` while PostgreSQL is away.

    `exporting`: the pool of those who read much, so that they delay no pages.
    """

    def __init__(self, pool: Pool, exporting: Pool | None = None) -> None:
        self._pool = pool
        self._exporting = exporting or pool

    async def transactions(
        self, which: TransactionFilter, *, cursor: str | None = None, limit: int = 50
    ) -> TransactionPage:
        """A page of `limit` (1 to 200) transactions; `which.reservation` must be a UUID.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        if not 1 <= limit <= PAGE_MAX:
            raise ValueError(f"limit {limit}: 1 to {PAGE_MAX}")
        position = None if cursor is None else listing.read(which, cursor)
        async with answering(self._pool) as connection:
            found, behind, latest = await listing.step(connection, which, position, limit)
        return TransactionPage(found, None if behind is None else cursors.write(which, behind), latest)

    ENDS = "SELECT array_agg(cursor ORDER BY shard) FROM shards"

    async def export(self, which: TransactionFilter, *, cursor: str | None = None) -> Transactions:
        """All that is journaled now, newest first, from `cursor` on; `which.reservation` must be a UUID.

        The end is that of one statement, which reads every shard's cursor. Rows up to there never change, so
        that each step is a short query of its own and no transaction is held open for whoever reads slowly.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        position = None if cursor is None else listing.read(which, cursor)
        async with answering(self._exporting) as connection:
            ends = await connection.fetchval(self.ENDS) or []
        while True:
            async with answering(self._exporting, EXPORT_SECONDS) as connection:
                found, position, _ = await listing.step(connection, which, position, EXPORT_ROWS, ends)
            yield found
            if position is None:
                return

    TRANSACTION = """
    SELECT shard, seq, entry, text FROM journal LEFT JOIN notes USING (shard, seq)
    WHERE shard = $1 AND seq = $2 AND incarnation = $3
    """

    async def transaction(self, transaction: TransactionId) -> Transaction | None:
        """One transaction by its id; `None` also where the id names another incarnation's entry."""
        shard, incarnation, sequence = transaction
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(self.TRANSACTION, shard, sequence, incarnation)
        if row is None:
            return None
        return Transaction(row["shard"], row["seq"], decode_entry(row["entry"]), row["text"])

"""What happened, page by page, newest first.

The listing of one account goes by its versions (1, 2, 3, ... without gaps, committed in this order), so that
its pages are exact: nothing is missing and nothing comes twice, whatever is journaled meanwhile. A listing
over accounts goes by (time, shard, sequence). There every entry that was journaled when the first page was
read comes once and in its place; one that is journaled later comes only where the reading has not passed its
time yet, because shards reach the journal independently, within the journal's lag of each other.
"""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from asyncpg import Record
from msgspec import Meta

from app.ledger.shards import SHARDS_MAX, TransactionId
from app.reports import PAGE_MAX, Transaction, TransactionFilter, TransactionPage, Transactions
from persistence import cursors
from persistence.backing import decode_entry
from persistence.conditions import Conditions
from persistence.pool import Pool, answering
from persistence.projections import at

EXPORT_ROWS = 500
EXPORT_SECONDS = 30.0
"""How long a step may look for rows where hardly any is wanted."""

_Number = Annotated[int, Meta(ge=0, le=2**53)]
_Moment = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
_Shard = Annotated[int, Meta(ge=0, lt=SHARDS_MAX)]


class PostgresHistory:
    """`app.reports.History`. Every method raises `BackingUnavailable` while PostgreSQL is away.

    `exporting`: the pool of those who read much, so that they delay no pages.
    """

    def __init__(self, pool: Pool, exporting: Pool | None = None) -> None:
        self._pool = pool
        self._exporting = exporting or pool

    # One row at least, so that the version and the page are of one moment also where the page is empty.
    PAGE = """
    SELECT (SELECT version FROM accounts WHERE account = $1) AS latest, page.*
    FROM (VALUES (1)) AS once LEFT JOIN LATERAL (
      SELECT j.shard, j.seq, j.version, j.entry, notes.text
      FROM journal j LEFT JOIN notes USING (shard, seq)
      WHERE {conditions}
      ORDER BY {order} LIMIT $2
    ) AS page ON true
    """

    async def transactions(
        self, which: TransactionFilter, *, cursor: str | None = None, limit: int = 50
    ) -> TransactionPage:
        """A page of `limit` (1 to 200) transactions; `which.reservation` must be a UUID.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        if not 1 <= limit <= PAGE_MAX:
            raise ValueError(f"limit {limit}: 1 to {PAGE_MAX}")
        conditions = _conditions(which)
        if cursor is not None:
            _begin(conditions, which, _read(which, cursor))
        statement = self.PAGE.format(conditions=conditions.numbered(3), order=_order(which))
        async with answering(self._pool) as connection:
            rows = await connection.fetch(statement, which.account, limit + 1, *conditions.values)
        latest = rows[0]["latest"]
        found = [_transaction(row) for row in rows if row["seq"] is not None]
        more = len(found) > limit
        next_cursor = cursors.write(which, _position(which, found[limit - 1])) if more else None
        return TransactionPage(found[:limit], next_cursor, latest)

    ENDS = "SELECT array_agg(cursor ORDER BY shard) FROM shards"

    ROWS = """
    SELECT j.shard, j.seq, j.entry, notes.text
    FROM journal j LEFT JOIN notes USING (shard, seq)
    WHERE {conditions}
    ORDER BY {order} LIMIT $1
    """

    async def export(self, which: TransactionFilter, *, cursor: str | None = None) -> Transactions:
        """All that is journaled now, newest first, from `cursor` on; `which.reservation` must be a UUID.

        The end is that of one statement, which reads every shard's cursor. Rows up to there never change, so
        that each step is a short query of its own and no transaction is held open for whoever reads slowly.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        position = None if cursor is None else _read(which, cursor)
        async with answering(self._exporting) as connection:
            ends = await connection.fetchval(self.ENDS)
        while True:
            conditions = _conditions(which)
            conditions.add("j.seq <= ({}::bigint[])[j.shard + 1]", ends or [])
            if position is not None:
                _begin(conditions, which, position)
            statement = self.ROWS.format(conditions=conditions.numbered(2), order=_order(which))
            async with answering(self._exporting, EXPORT_SECONDS) as connection:
                rows = await connection.fetch(statement, EXPORT_ROWS, *conditions.values)
            found = [_transaction(row) for row in rows]
            if found:
                yield found
            if len(found) < EXPORT_ROWS:
                return
            position = _position(which, found[-1])

    TRANSACTION = """
    SELECT shard, seq, entry, text FROM journal LEFT JOIN notes USING (shard, seq)
    WHERE shard = $1 AND seq = $2 AND incarnation = $3
    """

    async def transaction(self, transaction: TransactionId) -> Transaction | None:
        """One transaction by its id; `None` also where the id names another incarnation's entry."""
        shard, incarnation, sequence = transaction
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(self.TRANSACTION, shard, sequence, incarnation)
        return None if row is None else _transaction(row)


_MOMENTS = ("j.at >= {}", "j.at < {}")
_VERSIONS = (
    "j.version > (SELECT version_before({}, {}))",
    "j.version <= (SELECT version_before({}, {}))",
)


def _conditions(which: TransactionFilter) -> Conditions:
    """What holds for the rows of a filter."""
    given = Conditions()
    if which.account is not None:
        given.add("j.account = {}", which.account)
    if which.reservation is not None:
        given.add("j.reservation = {}", UUID(which.reservation))
    if which.task is not None:
        given.add("j.reservation IN (SELECT id FROM reservations WHERE task = {})", which.task)
    if which.kinds:
        given.add("j.kind = ANY({}::text[])", list(which.kinds))
    if which.model is not None:
        given.add("j.model = {}", which.model)
    # In an account's listing a moment is a place, so that years are not walked through to come to it.
    bounds, place = (_MOMENTS, []) if which.account is None else (_VERSIONS, [which.account])
    for bound, moment in zip(bounds, (which.since, which.until), strict=True):
        if moment is not None:
            given.add(bound, *place, moment)
    return given


def _order(which: TransactionFilter) -> str:
    return "j.version DESC" if which.account is not None else "j.at DESC, j.shard DESC, j.seq DESC"


def _read(which: TransactionFilter, cursor: str) -> Sequence[int]:
    """The position behind which the page after `cursor` begins."""
    if which.account is not None:
        return cursors.read(which, cursor, tuple[_Number])
    return cursors.read(which, cursor, tuple[_Moment, _Shard, _Number])


def _begin(conditions: Conditions, which: TransactionFilter, position: Sequence[int]) -> None:
    """Only what stands behind `position`."""
    if which.account is not None:
        conditions.add("j.version < {}", *position)
    else:
        at_ms, shard, sequence = position
        conditions.add("(j.at, j.shard, j.seq) < ({}, {}, {})", at(at_ms), shard, sequence)


def _position(which: TransactionFilter, last: Transaction) -> Sequence[int]:
    """Where a transaction stands: by its version in an account's listing, by its time in others."""
    entry = last.entry
    return (entry.version,) if which.account is not None else (entry.at_ms, last.shard, last.sequence)


def _transaction(row: Record) -> Transaction:
    return Transaction(row["shard"], row["seq"], decode_entry(row["entry"]), row["text"])

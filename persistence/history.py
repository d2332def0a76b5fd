"""What happened, page by page, newest first.

The listing of one account goes by its versions (1, 2, 3, ... without gaps, committed in this order), so that
its pages are exact: nothing is missing and nothing comes twice, whatever is journaled meanwhile. A listing
over accounts goes by (time, shard, sequence). There every entry that was journaled when the first page was
read comes once and in its place; one that is journaled later comes only where the reading has not passed its
time yet, because shards reach the journal independently, within the journal's lag of each other.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from asyncpg import Record
from msgspec import Meta, Struct

from app.ledger.shards import SHARDS_MAX, TransactionId
from app.reports import PAGE_MAX, InvalidCursor, Transaction, TransactionFilter, TransactionPage
from persistence.backing import decode_entry
from persistence.pool import Pool, answering

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR_MAX = 200


class _Cursor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended: `[version]` in an account's listing, `[at_ms, shard, sequence]` in others.

    `filter`: a digest of the filter of that page, for which alone the position means something.
    """

    filter: Annotated[bytes, Meta(min_length=8, max_length=8)]
    position: Annotated[list[Annotated[int, Meta(ge=0, le=2**53)]], Meta(min_length=1, max_length=3)]


_decode = msgspec.msgpack.Decoder(_Cursor).decode


class PostgresHistory:
    """`app.reports.History`. Every method raises `BackingUnavailable` while PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

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
        conditions, values = _conditions(which)
        if cursor is not None:
            condition, position = _after(which, cursor)
            conditions.append(condition)
            values += position
        order = "j.version DESC" if which.account is not None else "j.at DESC, j.shard DESC, j.seq DESC"
        numbered = " AND ".join(conditions).format(*(f"${number}" for number in range(3, 3 + len(values))))
        statement = self.PAGE.format(conditions=numbered or "true", order=order)
        async with answering(self._pool) as connection:
            rows = await connection.fetch(statement, which.account, limit + 1, *values)
        latest = rows[0]["latest"]
        found = [_transaction(row) for row in rows if row["seq"] is not None]
        more = len(found) > limit
        return TransactionPage(found[:limit], _cursor(which, found[limit - 1]) if more else None, latest)

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


def _conditions(which: TransactionFilter) -> tuple[list[str], list[object]]:
    """What holds for the rows of a filter: conditions with `{}` for each of the values."""
    given: list[tuple[str, object]] = []
    if which.account is not None:
        given.append(("j.account = {}", which.account))
    if which.reservation is not None:
        given.append(("j.reservation = {}", UUID(which.reservation)))
    if which.task is not None:
        given.append(("j.reservation IN (SELECT id FROM reservations WHERE task = {})", which.task))
    if which.kinds:
        given.append(("j.kind = ANY({}::text[])", list(which.kinds)))
    if which.model is not None:
        given.append(("j.model = {}", which.model))
    if which.since is not None:
        given.append(("j.at >= {}", which.since))
    if which.until is not None:
        given.append(("j.at < {}", which.until))
    return [condition for condition, _ in given], [value for _, value in given]


def _after(which: TransactionFilter, cursor: str) -> tuple[str, Sequence[object]]:
    """The condition by which the next page begins, and its values."""
    values: list[object]
    try:
        text = cursor[:_CURSOR_MAX].encode("ascii")
        read = _decode(base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True))
        if which.account is not None:
            (version,) = read.position
            condition, values = "j.version < {}", [version]
        else:
            at_ms, shard, sequence = read.position
            at = _EPOCH + timedelta(milliseconds=at_ms)
            condition = "(j.at, j.shard, j.seq) < ({}, {}, {})"
            values = [at, min(shard, SHARDS_MAX), sequence]
    except (ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidCursor(f"not a cursor: {error}") from error
    if read.filter != _digest(which) or _encode(read) != cursor:
        raise InvalidCursor("not a cursor of this filter")
    return condition, values


def _cursor(which: TransactionFilter, last: Transaction) -> str:
    entry = last.entry
    position = [entry.version] if which.account is not None else [entry.at_ms, last.shard, last.sequence]
    return _encode(_Cursor(_digest(which), position))


def _encode(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode()


def _digest(which: TransactionFilter) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(which), digest_size=8).digest()


def _transaction(row: Record) -> Transaction:
    return Transaction(row["shard"], row["seq"], decode_entry(row["entry"]), row["text"])

"""One step along the journal, newest first: an account's entries by their versions, all entries by (time,
shard, sequence).

A filter that hardly anything passes does not make a step long: it looks at `LOOKED_MAX` rows at most, and
says how far it has come.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple
from uuid import UUID

from asyncpg import Record
from msgspec import Meta

from app.ledger.shards import SHARDS_MAX
from app.reports import Transaction, TransactionFilter
from persistence import cursors
from persistence.backing import decode_entry
from persistence.binding import binds
from persistence.conditions import Conditions
from persistence.pool import Connection
from persistence.projections import at

LOOKED_MAX = 50_000

Position = Sequence[int]
"""`[version]` in an account's listing, `[at_ms, shard, sequence]` in others."""

_Number = Annotated[int, Meta(ge=0, le=2**53)]
_Moment = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
_Shard = Annotated[int, Meta(ge=0, lt=SHARDS_MAX)]


class Step(NamedTuple):
    """`position`: where the next step begins, `None` where nothing is left. `latest`: the last journaled
    version of the account that the filter names.
    """

    found: list[Transaction]
    position: Position | None
    latest: int | None


# One row at least, so that the version and the rows are of one moment also where nothing is found. `behind`:
# the last row that was looked at, where there may be more behind it.
STEP = """
WITH found AS MATERIALIZED (
  SELECT j.* FROM (
    SELECT j.shard, j.seq, j.version, j.at, j.kind, j.model, j.entry FROM journal j
    WHERE {passed} ORDER BY {order} LIMIT $3
  ) AS j WHERE {wanted} ORDER BY {order} LIMIT $2
)
SELECT (SELECT version FROM accounts WHERE account = $1) AS latest,
  behind.version AS behind_version, behind.at_ms AS behind_at_ms, behind.shard AS behind_shard,
  behind.seq AS behind_seq, j.shard, j.seq, j.entry, notes.text
FROM (VALUES (1)) AS once
LEFT JOIN LATERAL (
  SELECT j.version, (extract(epoch FROM j.at) * 1000)::bigint AS at_ms, j.shard, j.seq FROM journal j
  WHERE {passed} AND (SELECT count(*) FROM found) < $2
  ORDER BY {order} OFFSET $3 - 1 LIMIT 1
) AS behind ON true
LEFT JOIN found AS j ON true LEFT JOIN notes ON (notes.shard, notes.seq) = (j.shard, j.seq)
ORDER BY {order}
"""


async def step(
    connection: Connection,
    which: TransactionFilter,
    position: Position | None,
    limit: int,
    ends: Sequence[int] | None = None,
) -> Step:
    """At most `limit` transactions behind `position`.

    Args:
        connection: Anywhere.
        which: Its `reservation` must be a UUID.
        position: `None` for the beginning.
        limit: At least 1.
        ends: The last sequence of each shard that counts.
    """
    passed, wanted = _conditions(which)
    if ends is not None:
        passed.add("j.seq <= ({}::bigint[])[j.shard + 1]", ends)
    if position is not None:
        _begin(passed, which, position)
    statement = STEP.format(
        passed=passed.numbered(4),
        wanted=wanted.numbered(4 + len(passed.values)),
        order="j.version DESC" if which.account is not None else "j.at DESC, j.shard DESC, j.seq DESC",
    )
    rows = await connection.fetch(
        statement, which.account, limit + 1, LOOKED_MAX, *passed.values, *wanted.values
    )
    first = rows[0]
    found = [_transaction(row) for row in rows if row["seq"] is not None]
    behind: Position | None = None
    if len(found) > limit:
        found = found[:limit]
        behind = position_of(which, found[-1])
    elif first["behind_seq"] is not None and which.account is not None:
        behind = (first["behind_version"],)
    elif first["behind_seq"] is not None:
        behind = (first["behind_at_ms"], first["behind_shard"], first["behind_seq"])
    return Step(found, behind, first["latest"])


def read(which: TransactionFilter, cursor: str) -> Position:
    """The position in a cursor.

    Raises:
        InvalidCursor: It is not one of this filter.
    """
    if which.account is not None:
        return cursors.read(which, cursor, tuple[_Number])
    return cursors.read(which, cursor, tuple[_Moment, _Shard, _Number])


def position_of(which: TransactionFilter, transaction: Transaction) -> Position:
    """Where a transaction stands."""
    entry = transaction.entry
    if which.account is not None:
        return (entry.version,)
    return entry.at_ms, transaction.shard, transaction.sequence


_MOMENTS = ("j.at >= {}", "j.at < {}")
_VERSIONS = (
    "j.version > (SELECT version_before({}, {}))",
    "j.version <= (SELECT version_before({}, {}))",
)


# Looked up first, so that the journal is not walked through in search of them.
OF_TASK = f"""
j.reservation = ANY (ARRAY(
  SELECT bound.reservation FROM journal bound WHERE bound.task = {{}} AND {binds("bound")}
))
"""  # noqa: S608


def _conditions(which: TransactionFilter) -> tuple[Conditions, Conditions]:
    """Which rows are passed by, by an index, and which of them are wanted."""
    passed, wanted = Conditions(), Conditions()
    if which.account is not None:
        passed.add("j.account = {}", which.account)
    if which.reservation is not None:
        passed.add("j.reservation = {}", UUID(which.reservation))
    if which.task is not None:
        passed.add(OF_TASK, which.task)
    # In an account's listing a moment is a place, so that years are not walked through to come to it.
    bounds, place = (_MOMENTS, []) if which.account is None else (_VERSIONS, [which.account])
    for bound, moment in zip(bounds, (which.since, which.until), strict=True):
        if moment is not None:
            passed.add(bound, *place, moment)
    if which.kinds:
        wanted.add("j.kind = ANY({}::text[])", list(which.kinds))
    if which.model is not None:
        wanted.add("j.model = {}", which.model)
    return passed, wanted


def _begin(passed: Conditions, which: TransactionFilter, position: Position) -> None:
    """Only what stands behind `position`."""
    if which.account is not None:
        passed.add("j.version < {}", *position)
    else:
        at_ms, shard, sequence = position
        passed.add("(j.at, j.shard, j.seq) < ({}, {}, {})", at(at_ms), shard, sequence)


def _transaction(row: Record) -> Transaction:
    return Transaction(row["shard"], row["seq"], decode_entry(row["entry"]), row["text"])

"""How much was given back of which transaction within the day for which Redis remembers it."""

from collections.abc import AsyncIterator, Collection, Sequence

import msgspec
from asyncpg import Record as Row
from msgspec import Struct

from app.ledger.loading import REMEMBER_MS, Refunded
from app.ledger.shards import TransactionId
from persistence.pool import Connection

PAGE = 2_000


class _Given(Struct):
    at_ms: int
    refund_of: str | None = None


_decode_given = msgspec.json.Decoder(_Given).decode

GIVEN = """
SELECT seq, kind, account, entry FROM journal
WHERE shard = $1 AND seq > $2 AND kind IN ('refunded', 'adjusted')
ORDER BY seq LIMIT $3
"""


async def pages_of_refunds(
    connection: Connection, shard: int, after: int, *, page: int = PAGE
) -> AsyncIterator[list[Refunded]]:
    """What was given back after sequence `after`, in order: of two with one transaction the later counts."""
    while rows := await connection.fetch(GIVEN, shard, after, page):
        yield await refunds_of(connection, shard, rows)
        after = rows[-1]["seq"]


async def refunds_of(connection: Connection, shard: int, rows: Sequence[Row]) -> list[Refunded]:
    """What those of these rows of the journal that give back have come to by now."""
    given = [_decode_given(row["entry"]) for row in rows if row["kind"] in ("refunded", "adjusted")]
    return await _totals(connection, shard, given)


GIVEN_TO = """
SELECT entry FROM journal
WHERE shard = $1 AND seq > $2 AND kind IN ('refunded', 'adjusted') AND account = ANY($3) ORDER BY seq
"""


async def refunds_to(
    connection: Connection, shard: int, accounts: Collection[str], after: int
) -> list[Refunded]:
    """What some accounts were given back after sequence `after`."""
    rows = await connection.fetch(GIVEN_TO, shard, after, list(accounts))
    return await _totals(connection, shard, [_decode_given(row["entry"]) for row in rows])


TOTALS = "SELECT seq, refunded FROM refunds WHERE shard = $1 AND seq = ANY($2)"


async def _totals(connection: Connection, shard: int, given: Sequence[_Given]) -> list[Refunded]:
    named: list[tuple[str, int, int]] = []
    for each in given:
        transaction = TransactionId.parse(each.refund_of or "")
        if transaction is not None:
            named.append((str(transaction), transaction.sequence, each.at_ms))
    if not named:
        return []
    rows = await connection.fetch(TOTALS, shard, list({sequence for _, sequence, _ in named}))
    totals = {row["seq"]: row["refunded"] for row in rows}
    return [
        Refunded(transaction, totals[sequence], at_ms + REMEMBER_MS)
        for transaction, sequence, at_ms in named
        if sequence in totals
    ]

"""What Redis remembers of refunds, held against the journal: how much was given back of which transaction.

Redis remembers it for a day after the last refund. A total that is too small, or forgotten too early, would
give the same credits back a second time.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from typing import Any

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.clock import time_ms
from app.ledger.loading import REMEMBER_MS
from app.ledger.shards import TransactionId
from persistence import rebuild
from persistence.pool import Connection
from persistence.reconcile.drift import Drift, Value
from persistence.reconcile.sides import Sides, wait
from persistence.reconcile.sighting import read_together
from persistence.reconcile.strays import scanned

PAGE = 500
BEYOND = 2**63 - 1
"""No sequence is as high."""

EARLY_MS = 3_600_000
"""What will be forgotten within an hour is not missed."""

DIGITS_MAX = 16
"""Of an amount."""

PREFIX = "refunded."
"""How the fields of such drift begin."""

# As of the shard's sequence $2. Of a transaction whose entry is lost nobody can be given anything back.
TOTALS = """
WITH later AS (
  SELECT entry::jsonb->>'refund_of' AS transaction, sum(amount::numeric) AS amount FROM journal
  WHERE shard = $1 AND seq > $2 AND kind = 'refunded' GROUP BY 1
)
SELECT wanted.transaction, j.account, coalesce(r.refunded, 0) - coalesce(later.amount, 0) AS total
FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS wanted (transaction, incarnation, seq)
LEFT JOIN journal j ON (j.shard, j.seq, j.incarnation) = ($1, wanted.seq, wanted.incarnation)
  AND j.kind IN ('deducted', 'confirmed')
LEFT JOIN refunds r ON (r.shard, r.seq) = ($1, wanted.seq)
LEFT JOIN later USING (transaction)
"""


async def compare(sides: Sides, transactions: Collection[str], missed: Collection[str] = ()) -> list[Drift]:
    """The differences, of one moment.

    Args:
        sides: As for a page of accounts.
        transactions: Of that shard.
        missed: Those that Redis must not have forgotten yet.

    Raises:
        NotExaminable, Behind: As a page of accounts does.
    """
    shard = sides.place.shard
    named = {each: TransactionId.parse(each) for each in transactions}
    wanted = {text: each for text, each in named.items() if each is not None and each.shard == shard}
    if not wanted:
        return []
    names = [keys.refunded(shard, each) for each in wanted]
    sequence, values = await read_together(sides.redis, sides.place, names)
    await wait(sides, sequence)
    rows = await sides.connection.fetch(
        TOTALS, shard, sequence, list(wanted), [each.incarnation for each in wanted.values()],
        [each.sequence for each in wanted.values()],
    )  # fmt: skip
    journal = {row["transaction"]: (row["account"], int(row["total"])) for row in rows}
    found = []
    for transaction, value in zip(wanted, values, strict=True):
        account, total = journal[transaction]
        if account is None or (value is None and transaction not in missed):
            continue  # nobody can ask for it; or it was forgotten in time
        redis = _number(value)
        if redis != total and not (value is None and total == 0):
            found.append(Drift(account, f"{PREFIX}{transaction}", redis, total))
    return found


def _number(value: bytes | None) -> Value:
    if value is None:
        return None
    return int(value) if value.isdigit() and len(value) <= DIGITS_MAX else "unreadable"


async def _moment(redis: Redis, shard: int) -> int:
    """A shard's time, a little early: what was given back after it must be remembered."""
    return await time_ms(redis, shard) - REMEMBER_MS + EARLY_MS


async def begins(connection: Connection, redis: Redis, shard: int) -> int:
    """The sequence after which whatever was given back must be remembered."""
    first = await rebuild.first_since(connection, shard, await _moment(redis, shard))
    return BEYOND if first is None else first - 1


GIVEN = """
SELECT seq, entry::jsonb->>'refund_of' AS transaction FROM journal
WHERE shard = $1 AND seq > $2 AND seq <= $3 AND kind IN ('refunded', 'adjusted') ORDER BY seq LIMIT $4
"""


async def given_after(
    connection: Connection, shard: int, after: int, until: int = BEYOND, page: int = PAGE
) -> tuple[set[str], int]:
    """Some of what was given back between two sequences, and where to go on, 0 at the end."""
    rows = await connection.fetch(GIVEN, shard, after, until, page)
    given = {row["transaction"] for row in rows if row["transaction"] is not None}
    return given, rows[-1]["seq"] if rows else 0


async def compare_given(sides: Sides) -> list[Drift]:
    """Everything that a shard must still remember."""
    found: list[Drift] = []
    connection, shard = sides.connection, sides.place.shard
    after = await begins(connection, sides.redis, shard)
    while True:
        given, after = await given_after(connection, shard, after)
        if not after:
            return found
        found += await compare(sides, given, given)


SPENT = """
SELECT shard, incarnation, seq, version FROM journal
WHERE account = $1 AND version > $2 AND kind IN ('deducted', 'confirmed') ORDER BY version LIMIT $3
"""

GIVEN_TO = """
SELECT DISTINCT entry::jsonb->>'refund_of' AS transaction FROM journal
WHERE account = $1 AND at > to_timestamp($2::double precision / 1000) AND kind IN ('refunded', 'adjusted')
"""


async def compare_account(sides: Sides, account: str, *, page: int = PAGE) -> list[Drift]:
    """Everything that Redis remembers of what an account has spent. This costs as much as it has entries."""
    connection = sides.connection
    rows = await connection.fetch(GIVEN_TO, account, await _moment(sides.redis, sides.place.shard))
    given = {row["transaction"] for row in rows if row["transaction"] is not None}
    found = await compare(sides, given, given)
    async for transactions in _spent(connection, account, page):
        found += await compare(sides, [each for each in transactions if each not in given])
    return found


async def _spent(connection: Connection, account: str, page: int) -> AsyncIterator[list[str]]:
    version = 0
    while rows := await connection.fetch(SPENT, account, version, page):
        yield [str(TransactionId(*row[:3])) for row in rows]
        version = rows[-1]["version"]


_REFUNDED = keys.refunded(0, "")

KNOWN = "SELECT seq, refunded FROM refunds WHERE shard = $1 AND seq = ANY($2)"


async def totals_in_redis(
    connection: Connection, redis: Redis, scan: int, shards: int
) -> tuple[int, dict[int, list[str]]]:
    """Some totals that Redis remembers and the journal does not have alike, by shard; only a filter, as those
    of `strays`.
    """
    scan, named = await scanned(redis, scan, _REFUNDED, shards)
    suspicious: dict[int, list[str]] = defaultdict(list)
    for shard, transactions in named.items():
        values: list[Any] = await redis.mget([keys.refunded(shard, each) for each in transactions])
        parsed = [TransactionId.parse(each) for each in transactions]
        sequences = [each.sequence for each in parsed if each is not None]
        known = {row["seq"]: row["refunded"] for row in await connection.fetch(KNOWN, shard, sequences)}
        for text, transaction, value in zip(transactions, parsed, values, strict=True):
            total = known.get(transaction.sequence, 0) if transaction is not None else 0
            if transaction is not None and value is not None and _number(value) != total:
                suspicious[shard].append(text)
    return scan, suspicious


# As of a version of the account.
TOTALS_THEN = """
WITH later AS (
  SELECT entry::jsonb->>'refund_of' AS transaction, sum(amount::numeric) AS amount FROM journal
  WHERE account = $1 AND version > $2 AND kind = 'refunded' GROUP BY 1
)
SELECT wanted.transaction, coalesce(r.refunded, 0) - coalesce(later.amount, 0) AS total
FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS wanted (transaction, shard, seq)
LEFT JOIN refunds r USING (shard, seq)
LEFT JOIN later USING (transaction)
"""


async def totals_then(
    connection: Connection, account: str, version: int, transactions: Collection[str]
) -> list[tuple[str, int]]:
    """What the transactions of an account had been given back when it had some version."""
    named = [each for text in transactions if (each := TransactionId.parse(text)) is not None]
    rows = await connection.fetch(
        TOTALS_THEN, account, version, list(map(str, named)), [each.shard for each in named],
        [each.sequence for each in named],
    )  # fmt: skip
    return [(row["transaction"], int(row["total"])) for row in rows]

"""The table `refunds` against the entries that give back, in sets.

Sums are `numeric`: what stands in the table may be anybody's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from persistence.pool import Connection
from persistence.reconcile.drift import Drift

Change = tuple[int | None, int | None]
"""What a row said and what it should say; `None`: nothing."""

# What each transaction was given back by the entries of some accounts. Where it is told what had been given
# back, because entries were lost, that includes whatever was before.
_GIVEN = """
given AS (
  SELECT wanted.account, j.version, j.amount::numeric AS amount, e.entry->>'refund_of' AS transaction,
    (e.entry->>'refunded')::numeric AS told
  FROM unnest($1::text[], $2::bigint[]) AS wanted (account, last)
  JOIN journal j ON j.account = wanted.account AND j.version <= wanted.last
    AND j.kind IN ('refunded', 'adjusted')
  CROSS JOIN LATERAL (SELECT j.entry::jsonb AS entry) AS e
  WHERE e.entry->>'refund_of' IS NOT NULL
), told AS (
  SELECT *, max(version) FILTER (WHERE told IS NOT NULL) OVER (PARTITION BY account, transaction) AS since
  FROM given
), should AS (
  SELECT account, transaction, split_part(transaction, '-', 1)::integer AS shard,
    split_part(transaction, '-', 3)::bigint AS seq, sum(coalesce(told, amount)) AS refunded
  FROM told WHERE since IS NULL OR version >= since GROUP BY 1, 2
)"""

WRONG = f"""
WITH {_GIVEN}, has AS (
  SELECT j.account, r.shard, r.seq, r.refunded,
    format('%s-%s-%s', r.shard, j.incarnation, r.seq) AS transaction
  FROM unnest($1::text[], $2::bigint[]) AS wanted (account, last)
  JOIN journal j ON j.account = wanted.account AND j.version <= wanted.last
    AND j.kind IN ('deducted', 'confirmed')
  JOIN refunds r ON (r.shard, r.seq) = (j.shard, j.seq)
)
SELECT should.account, should.transaction, should.shard, should.seq, r.refunded, should.refunded AS should
FROM should LEFT JOIN refunds r USING (shard, seq) WHERE r.refunded IS DISTINCT FROM should.refunded
UNION ALL
SELECT has.account, has.transaction, has.shard, has.seq, has.refunded, NULL
FROM has WHERE NOT EXISTS (SELECT FROM should WHERE (should.shard, should.seq) = (has.shard, has.seq))
ORDER BY 1, 3, 4
"""  # noqa: S608


class Wrong(NamedTuple):
    """A row that is not what the entries lead to. `None`: it is not there, or should not be."""

    account: str
    transaction: str
    shard: int
    sequence: int
    refunded: int | None
    should: int | None

    @property
    def drift(self) -> Drift:
        field = f"projection.refunded.{self.transaction}"
        return Drift(self.account, field, self.refunded, self.should)


async def wrong(connection: Connection, accounts: Sequence[str], versions: Sequence[int]) -> list[Wrong]:
    """The rows of what some accounts have spent, or were given back up to a version, that are not right."""
    return [
        Wrong(account, transaction, shard, sequence, refunded, None if should is None else int(should))
        for account, transaction, shard, sequence, refunded, should in await connection.fetch(
            WRONG, list(accounts), list(versions)
        )
    ]


LAST = "SELECT coalesce(max(version), 0) FROM journal WHERE account = $1"

PUT = """
INSERT INTO refunds (shard, seq, refunded) VALUES ($1, $2, $3)
ON CONFLICT (shard, seq) DO UPDATE SET refunded = $3
"""

DROP = "DELETE FROM refunds WHERE shard = $1 AND seq = $2"


async def rewrite(connection: Connection, account: str) -> dict[str, Change]:
    """Make the rows of an account what its entries lead to, inside the caller's transaction. Returns those
    that were not, by name.
    """
    changed: dict[str, Change] = {}
    for each in await wrong(connection, [account], [await connection.fetchval(LAST, account)]):
        if each.should is None:
            await connection.execute(DROP, each.shard, each.sequence)
        else:
            await connection.execute(PUT, each.shard, each.sequence, each.should)
        changed[f"refunded.{each.transaction}"] = each.refunded, each.should
    return changed

"""Adds entries of the journal to the sums of monitoring, each exactly once: the sums of some entries and the
cursors behind them move in one transaction, and one at a time makes such.

It reads what is committed, after the journal's own work and beside it: what is late here is late for nobody
else. A shard without a cursor is counted from its first entry on, so that an upgrade, an import or entries
that took the place of lost ones need nothing else. PostgreSQL adds up; only what is seldom is done here.
"""

from persistence.monitoring.activity import FIRST, LIMITS
from persistence.monitoring.endings import count_reservations
from persistence.monitoring.entries import Taken, woven
from persistence.pool import Connection

ENTRIES_MAX = 20_000

LOCK = "SELECT FROM usage_state FOR UPDATE SKIP LOCKED"

TAKE = """
SELECT shard, coalesce(seq, 0) AS after, cursor FROM shards LEFT JOIN usage_cursors USING (shard)
WHERE cursor > coalesce(seq, 0)
"""

ADVANCE = """
INSERT INTO usage_cursors (shard, seq) SELECT * FROM unnest($1::integer[], $2::bigint[])
ON CONFLICT (shard) DO UPDATE SET seq = excluded.seq
"""

COUNTED = "UPDATE usage_state SET counted = counted + $1"


async def count(connection: Connection, *, entries_max: int = ENTRIES_MAX) -> int:
    """Count some entries of every shard. Returns how many these were; 0: there are none, or others are at it.

    Args:
        connection: Outside any transaction.
        entries_max: How many are counted in one transaction, but for one of each shard.
    """
    async with connection.transaction():
        if await connection.fetchrow(LOCK) is None:
            return 0
        rows = await connection.fetch(TAKE)
        if not rows:
            return 0
        each_max = max(1, entries_max // len(rows))
        taken: Taken = (
            [row["shard"] for row in rows],
            [row["after"] for row in rows],
            [min(row["cursor"], row["after"] + each_max) for row in rows],
        )
        await connection.execute(KINDS, *taken)
        await connection.execute(MODELS, *taken)
        await connection.execute(ACCOUNTS, *taken, list(LIMITS), FIRST)
        await count_reservations(connection, taken)
        await connection.execute(ADVANCE, taken[0], taken[2])
        counted = sum(taken[2]) - sum(taken[1])
        await connection.execute(COUNTED, counted)
    return counted


KINDS = woven("""
{entries}, quarters AS (
  SELECT start, kind, count(*) AS count, sum(amount) AS credits FROM entries GROUP BY start, kind
)
INSERT INTO usage_kinds AS u (span, start, kind, count, credits)
SELECT span, begin, kind, sum(count), sum(credits) FROM quarters, {spans} GROUP BY span, begin, kind
ON CONFLICT (span, start, kind) DO UPDATE
SET count = u.count + excluded.count, credits = u.credits + excluded.credits
""")

MODELS = woven("""
{entries}, quarters AS (
  SELECT start, model, count(*) AS transactions,
    coalesce(sum(amount) FILTER (WHERE kind IN ('deducted', 'confirmed')), 0) AS credits
  FROM entries WHERE model IS NOT NULL GROUP BY start, model
)
INSERT INTO usage_models AS u (span, start, model, transactions, credits,
  confirmed, ended, reserved, captured, milliseconds)
SELECT span, begin, model, sum(transactions), sum(credits), 0, 0, 0, 0, 0
FROM quarters, {spans} GROUP BY span, begin, model
ON CONFLICT (span, start, model) DO UPDATE
SET transactions = u.transactions + excluded.transactions, credits = u.credits + excluded.credits
""")

# In a shard time never goes back: a quarter that is new to an account comes after all that it has had.
ACCOUNTS = woven("""
{entries}, active AS (
  SELECT account, start, count(*) AS transactions, count(*) FILTER (WHERE kind = 'reserved') AS reservations,
    coalesce(sum(amount) FILTER (WHERE kind IN ('deducted', 'confirmed')), 0) AS spent,
    coalesce(sum(amount) FILTER (WHERE kind = 'refunded'), 0) AS refunded, max(at) AS last_at
  FROM entries GROUP BY account, start
), placed AS (
  SELECT active.*, coalesce(lag(active.start) OVER (PARTITION BY account ORDER BY active.start), known.start)
    AS before
  FROM active LEFT JOIN LATERAL (
    SELECT start FROM usage_accounts WHERE account = active.account ORDER BY start DESC LIMIT 1
  ) AS known ON true
), pauses AS (
  SELECT before, start, (extract(epoch FROM start - before) / 900)::integer AS pause
  FROM placed WHERE before IS DISTINCT FROM start
), added AS (
  INSERT INTO usage_accounts AS u (account, start, pause, spent, refunded, transactions, reservations,
    last_at)
  SELECT account, start, (extract(epoch FROM start - before) / 900)::integer, spent, refunded, transactions,
    reservations, last_at
  FROM placed
  ON CONFLICT (account, start) DO UPDATE
  SET spent = u.spent + excluded.spent, refunded = u.refunded + excluded.refunded,
    transactions = u.transactions + excluded.transactions,
    reservations = u.reservations + excluded.reservations, last_at = greatest(u.last_at, excluded.last_at)
), ends AS (
  SELECT start, coalesce(width_bucket(pause, $4::integer[]), $5::integer) AS class, 0 AS began, 1 AS ended
  FROM pauses
  UNION ALL
  SELECT before, width_bucket(pause, $4::integer[]), 1, 0 FROM pauses WHERE before IS NOT NULL
), quarters AS (
  SELECT start, class, sum(began) AS began, sum(ended) AS ended FROM ends GROUP BY start, class
)
INSERT INTO usage_pauses AS u (span, start, class, began, ended)
SELECT span, begin, class, sum(began), sum(ended) FROM quarters, {spans} WHERE span <> 'ever'
GROUP BY span, begin, class
ON CONFLICT (span, start, class) DO UPDATE
SET began = u.began + excluded.began, ended = u.ended + excluded.ended
""")

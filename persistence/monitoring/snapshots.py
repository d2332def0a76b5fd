"""What is looked at as a whole, again and again: how all accounts stand, and which of them spent most.

To add up all accounts takes as long as there are accounts, and whoever asks does not wait for it: it is done
beside the journal, and the answer kept. It rests for much longer than it took.
"""

import time
from datetime import datetime

import msgspec
from msgspec import Struct

from app.monitoring import PERIODS, TOP_MAX, AccountCounts, AccountUse, BucketSum
from app.periods import RECENT, quarter
from persistence.pool import Connection

BALANCES = "balances"

BUCKETS_MAX = 1_000

RESTS = 20.0
"""For so many times as long as it took."""


class Balances(Struct, frozen=True, kw_only=True):
    """How all accounts stand. Buckets by name; of very many those with the most credits."""

    accounts: AccountCounts
    available: int
    held: int
    liability: int
    buckets: list[BucketSum]


class Snapshots:
    """Made anew when there is something new to see, each at its own pace."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    async def renew(self, connection: Connection, now: datetime) -> None:
        """Make anew what is due and no longer as it is.

        Args:
            connection: Outside any transaction.
            now: When the periods end.
        """
        await self._renew(connection, BALANCES, None)
        for period in PERIODS:
            await self._renew(connection, period, quarter(now - RECENT[period]))

    STALE = """
    SELECT counted, as_of FROM usage_state AS state
    WHERE NOT EXISTS (
      SELECT FROM usage_snapshots
      WHERE name = $1 AND counted = state.counted AND since IS NOT DISTINCT FROM $2::timestamptz
    )
    """

    # Others may have made it meanwhile, and of later.
    PUT = """
    INSERT INTO usage_snapshots AS known (name, since, counted, as_of, body) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (name) DO UPDATE
    SET since = excluded.since, counted = excluded.counted, as_of = excluded.as_of, body = excluded.body
    WHERE known.counted <= excluded.counted AND (known.since <= excluded.since OR known.since IS NULL)
    """

    async def _renew(self, connection: Connection, name: str, since: datetime | None) -> None:
        began = time.monotonic()
        if began < self._next.get(name, 0.0):
            return
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            seen = await connection.fetchrow(self.STALE, name, since)
            if seen is None:
                return
            body = await (_balances(connection) if since is None else _top(connection, since))
        text = msgspec.json.encode(body).decode()
        await connection.execute(self.PUT, name, since, seen["counted"], seen["as_of"], text)
        self._next[name] = time.monotonic() + RESTS * (time.monotonic() - began)


ACCOUNTS = """
SELECT count(*) AS total, count(*) FILTER (WHERE available > 0 OR held > 0) AS with_balance,
  coalesce(sum(available), 0) AS available, coalesce(sum(held), 0) AS held,
  coalesce(sum(held::numeric + greatest(available, 0)), 0) AS liability
FROM accounts
"""

BUCKETS = """
SELECT bucket, sum(available) AS available, sum(held) AS held,
  sum(held::numeric + greatest(available, 0)) AS liability
FROM lots GROUP BY bucket ORDER BY liability DESC, bucket COLLATE "C" LIMIT $1
"""


async def _balances(connection: Connection) -> Balances:
    row = await connection.fetchrow(ACCOUNTS)
    assert row is not None, "sums without a row"
    buckets = [
        BucketSum(each["bucket"], int(each["available"]), int(each["held"]), int(each["liability"]))
        for each in await connection.fetch(BUCKETS, BUCKETS_MAX)
    ]
    return Balances(
        accounts=AccountCounts(row["total"], row["with_balance"]),
        available=int(row["available"]),
        held=int(row["held"]),
        liability=int(row["liability"]),
        buckets=sorted(buckets, key=lambda each: each.bucket),
    )


TOP = """
SELECT account, sum(spent) AS spent, sum(refunded) AS refunded, sum(transactions) AS transactions,
  sum(reservations) AS reservations, max(last_at) AS last_at
FROM usage_accounts WHERE start >= $1
GROUP BY account HAVING sum(spent) > 0 ORDER BY spent DESC, account COLLATE "C" LIMIT $2
"""


async def _top(connection: Connection, since: datetime) -> list[AccountUse]:
    return [
        AccountUse(
            account=row["account"],
            spent=int(row["spent"]),
            refunded=int(row["refunded"]),
            transactions=int(row["transactions"]),
            reservations=int(row["reservations"]),
            last_activity_at=row["last_at"],
        )
        for row in await connection.fetch(TOP, since, TOP_MAX)
    ]

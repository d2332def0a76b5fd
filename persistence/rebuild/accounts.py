"""Accounts with their lots and settings, as the script stores them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from asyncpg import Record

from app.ledger.replies import Account, Lot
from persistence.folding import Status
from persistence.pool import Connection

PAGE = 1_000

# A default is left out of a text; it is known as one by its identity.
_STATUS: dict[str, Status] = {"active": "active", "frozen": "frozen", "closed": "closed"}

# One statement is one moment: sums, lots and open holds belong together.
_WITH_LOTS = """
SELECT page.*, bucket, priority, expires_at_ms, lots.available, lots.held, since
FROM (
  SELECT a.account, a.version, a.available, a.held, a.overdraft_limit, a.status, a.low_balance, (
    SELECT count(*) FROM reservations r
    WHERE r.shard = a.shard AND r.account = a.account AND r.status = 'pending'
  ) AS open_holds
  FROM accounts a WHERE {which}
) AS page
LEFT JOIN lots USING (account)
ORDER BY account, priority, expires_at_ms = 0, expires_at_ms, since, bucket COLLATE "C"
"""

OF_IDS = _WITH_LOTS.format(which="account = ANY($1)")

OF_SHARD = _WITH_LOTS.format(which="shard = $1 AND account > $2 ORDER BY account LIMIT $3")


async def accounts(connection: Connection, ids: Sequence[str]) -> dict[str, Account]:
    """Those of `ids` that the journal knows."""
    return _grouped(await connection.fetch(OF_IDS, list(ids)))


async def pages_of_accounts(
    connection: Connection, shard: int, *, page: int = PAGE
) -> AsyncIterator[dict[str, Account]]:
    """Every account of a shard, `page` at a time."""
    last = ""
    while found := _grouped(await connection.fetch(OF_SHARD, shard, last, page)):
        yield found
        last = next(reversed(found))


def _grouped(rows: Iterable[Record]) -> dict[str, Account]:
    return {account: _account(list(group)) for account, group in groupby(rows, key=itemgetter(0))}


def _account(rows: list[Record]) -> Account:
    _, version, available, held, overdraft_limit, status, low_balance, open_holds = rows[0][:8]
    lots = [Lot(*row[8:]) for row in rows if row[8] is not None]
    lapses_at_ms = (lot.expires_at_ms for lot in lots if lot.expires_at_ms and lot.available)
    return Account(
        format=1,
        version=version,
        available=available,
        held=held,
        lots=lots,
        open_holds=open_holds,
        lapses_at_ms=min(lapses_at_ms, default=0),
        overdraft_limit=overdraft_limit,
        status=_STATUS[status],
        low_balance=low_balance,
    )

"""What is told of entries after which an account has little, or nothing."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asyncpg import Record

from app.events import BalanceDepleted, BalanceLow, EventType
from persistence.backing import decode_entry
from persistence.events.endings import transaction_of
from persistence.events.levels import Level, implied, moved
from persistence.events.outbox import Made
from persistence.pool import Connection

_CHANGES = """kind IN ('configured', 'adjusted') AND strpos(entry, '"low_balance"') > 0"""
"""As the index `journal_thresholds` has it."""

# An account before its first version of some entries, of the moment $3: what it had, what was told of it, and
# its threshold, which is the present one; NULL: it has changed since. The entry before is looked for in the
# month before that moment, and in all of them only where it is not there.
BEFORE = f"""
SELECT asked.account, told.low, told.depleted,
  CASE WHEN asked.version = 1 THEN 0 ELSE coalesce(
    (SELECT j.available FROM journal j WHERE (j.account, j.version) = (asked.account, asked.version - 1)
     AND j.at BETWEEN asked.at - interval '31 days' AND asked.at),
    (SELECT j.available FROM journal j WHERE (j.account, j.version) = (asked.account, asked.version - 1)), 0
  ) END AS available,
  CASE WHEN NOT EXISTS (
    SELECT FROM journal j
    WHERE j.account = asked.account AND j.version >= asked.version AND j.at >= asked.at AND {_CHANGES}
  ) THEN present.low_balance END AS threshold
FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS asked (account, version, at)
LEFT JOIN accounts present ON present.account = asked.account
LEFT JOIN event_levels told ON told.account = asked.account
"""  # noqa: S608

THRESHOLDS = f"""
SELECT asked.account, changed.entry
FROM unnest($1::text[], $2::bigint[]) AS asked (account, version), LATERAL (
  SELECT entry FROM journal j WHERE j.account = asked.account AND j.version < asked.version AND {_CHANGES}
  ORDER BY j.version DESC LIMIT 1
) AS changed
"""  # noqa: S608

KEEP = """
INSERT INTO event_levels (account, low, depleted)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::boolean[])
ON CONFLICT (account) DO UPDATE SET low = excluded.low, depleted = excluded.depleted
"""

DROP = "DELETE FROM event_levels WHERE account = ANY ($1)"


class _Account:
    """An account on its way through some entries."""

    __slots__ = ("available", "is_kept", "level", "threshold")

    def __init__(self, row: Record, threshold: int) -> None:
        self.available: int = row["available"]
        self.threshold = threshold
        self.is_kept: bool = row["low"] is not None
        self.level = (
            Level(row["low"], row["depleted"]) if self.is_kept else implied(self.available, self.threshold)
        )

    def pass_by(self, row: Record) -> Iterable[EventType]:
        """What is to be told after an entry."""
        if row["kind"] in ("configured", "adjusted"):
            changed = decode_entry(row["entry"]).low_balance
            self.threshold = self.threshold if changed is None else changed
        self.available = row["available"]
        before, self.level = self.level, moved(self.level, self.available, self.threshold)
        if self.level.low and not before.low:
            yield "balance.low"
        if self.level.depleted and not before.depleted:
            yield "balance.depleted"

    @property
    def says_itself(self) -> bool:
        """Whether the balance alone says what was told."""
        return self.level == implied(self.available, self.threshold)


class _Told(NamedTuple):
    account: str
    low: bool
    depleted: bool


async def falls(connection: Connection, shard: int, rows: Sequence[Record]) -> list[tuple[int, Made]]:
    """What is told of balances that fell, by sequence; what was told of which account is kept."""
    accounts = await _before(connection, rows)
    made: list[tuple[int, Made]] = []
    for row in rows:
        account = accounts[row["account"]]
        for type_ in account.pass_by(row):
            told = Made(type_, row["account"], row["at"], _fallen(shard, row, account, type_))
            made += [(row["seq"], told)]
    kept = [_Told(id_, *each.level) for id_, each in accounts.items() if not each.says_itself]
    if kept:
        await connection.execute(KEEP, *map(list, zip(*kept, strict=True)))
    if gone := [id_ for id_, each in accounts.items() if each.is_kept and each.says_itself]:
        await connection.execute(DROP, gone)
    return made


async def _before(connection: Connection, rows: Sequence[Record]) -> dict[str, _Account]:
    """The accounts of some entries as they stood before these."""
    firsts: dict[str, Record] = {}
    for row in rows:
        firsts.setdefault(row["account"], row)
    versions = [row["version"] for row in firsts.values()]
    before = await connection.fetch(BEFORE, list(firsts), versions, [row["at"] for row in firsts.values()])
    thresholds = {row["account"]: row["threshold"] for row in before}
    if changed := [id_ for id_, threshold in thresholds.items() if threshold is None]:
        thresholds |= dict.fromkeys(changed, 0)
        for id_, entry in await connection.fetch(
            THRESHOLDS, changed, [firsts[each]["version"] for each in changed]
        ):
            thresholds[id_] = decode_entry(entry).low_balance or 0
    return {row["account"]: _Account(row, thresholds[row["account"]]) for row in before}


def _fallen(shard: int, row: Record, account: _Account, type_: EventType) -> BalanceLow | BalanceDepleted:
    transaction = transaction_of(shard, row)
    if type_ == "balance.depleted":
        return BalanceDepleted(
            account_id=row["account"],
            available=row["available"],
            held=row["held"],
            version=row["version"],
            transaction_id=transaction,
        )
    return BalanceLow(
        account_id=row["account"],
        available=row["available"],
        held=row["held"],
        low_balance=account.threshold,
        version=row["version"],
        transaction_id=transaction,
    )

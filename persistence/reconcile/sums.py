"""Holds the projections against the journal's entries, in PostgreSQL alone and in sets: sums of legs,
versions without gaps, each entry's balance, settings, what was granted against what is there, each
reservation, and what was given back.

Sums are `numeric`: some thousand of the largest grants overflow a bigint.
"""

from collections.abc import Mapping

from msgspec import Struct

from persistence.pool import Connection
from persistence.reconcile import holds, refunds
from persistence.reconcile.drift import Drift
from persistence.reconcile.state import State


class Totals(Struct):
    """granted + refunded + adjusted = available + held + spent + lapsed."""

    granted: int = 0
    refunded: int = 0
    adjusted: int = 0
    available: int = 0
    held: int = 0
    spent: int = 0
    lapsed: int = 0

    def add(self, other: "Totals") -> None:
        for field in self.__struct_fields__:
            setattr(self, field, getattr(self, field) + getattr(other, field))

    @property
    def came(self) -> int:
        return self.granted + self.refunded + self.adjusted

    @property
    def there_or_gone(self) -> int:
        return self.available + self.held + self.spent + self.lapsed


async def faults(connection: Connection, states: Mapping[str, State]) -> tuple[list[Drift], Totals]:
    """What of `states` (a snapshot of the projections, which are not yet folded on) the entries do not lead
    to, and what they add up to together. Inside the transaction of the snapshot.
    """
    accounts = [name for name, state in states.items() if state.account.version]
    if not accounts:
        return [], Totals()
    versions = [states[name].account.version for name in accounts]
    found = [
        *await _of_rows(connection, accounts, versions),
        *await _of_lots(connection, accounts, versions, states),
        *await _of_settings(connection, accounts, versions, states),
        *await holds.faults(connection, accounts),
        *(each.drift for each in await refunds.wrong(connection, accounts, versions)),
    ]
    more, totals = await _conserved(connection, accounts, versions, states)
    return found + more, totals


# Each entry is read once, and only what is compared of it goes on: sorting whole entries would need the disk.
# `*_before` and `by_*`: what the entry before and its own legs lead to.
ROWS = """
WITH rows AS MATERIALIZED (
  SELECT j.account, j.version, j.available, j.held, j.amount, j.kind, by_available, by_held,
    entry.amount AS entry_amount,
    (entry.account, entry.version) IS DISTINCT FROM (j.account, j.version::numeric) OR entry.amount IS NULL
      AS is_another,
    entry.kind IS DISTINCT FROM j.kind AS is_of_another_kind
  FROM unnest($1::text[], $2::bigint[]) AS wanted (account, last)
  JOIN journal j ON j.account = wanted.account AND j.version <= wanted.last
  CROSS JOIN LATERAL jsonb_to_record(j.entry::jsonb)
    AS entry (account text, version numeric, kind text, amount numeric, legs jsonb)
  CROSS JOIN LATERAL (
    SELECT coalesce(sum((leg->>2)::numeric), 0) AS by_available,
      coalesce(sum((leg->>3)::numeric), 0) AS by_held
    FROM jsonb_array_elements(entry.legs) AS leg
  ) AS sums
), lead AS (
  SELECT rows.*, lag(version, 1, 0::bigint) OVER each AS version_before,
    lag(available, 1, 0::bigint) OVER each AS available_before,
    lag(held, 1, 0::bigint) OVER each AS held_before
  FROM rows WINDOW each AS (PARTITION BY account ORDER BY version)
), wrong AS (
  SELECT account, version, CASE
    WHEN version <> version_before + 1 THEN 'version'
    WHEN available <> available_before + by_available THEN 'available'
    WHEN held <> held_before + by_held THEN 'held'
    WHEN amount <> entry_amount THEN 'amount'
    WHEN is_of_another_kind THEN 'kind'
    WHEN is_another THEN 'entry'
    END AS field,
    version_before + 1 AS version_expected, available, available_before + by_available AS available_expected,
    held, held_before + by_held AS held_expected, amount, entry_amount AS amount_expected
  FROM lead
)
SELECT DISTINCT ON (account) * FROM wrong WHERE field IS NOT NULL ORDER BY account, version
"""


async def _of_rows(connection: Connection, accounts: list[str], versions: list[int]) -> list[Drift]:
    """The first row of each account that does not follow from the one before it."""
    found = []
    for row in await connection.fetch(ROWS, accounts, versions):
        field = row["field"]
        said, expected = (
            (int(row[field]), int(row[f"{field}_expected"]))
            if f"{field}_expected" in row
            else ("column", "entry")
        )
        found.append(Drift(row["account"], f"journal.{row['version']}.{field}", said, expected))
    return found


LOTS = """
SELECT j.account, leg->>0 AS bucket, (leg->>1)::bigint AS expires_at_ms,
  sum((leg->>2)::numeric) AS available, sum((leg->>3)::numeric) AS held
FROM unnest($1::text[], $2::bigint[]) AS wanted (account, last)
JOIN journal j ON j.account = wanted.account AND j.version <= wanted.last,
  jsonb_array_elements(j.entry::jsonb->'legs') AS leg
GROUP BY 1, 2, 3 HAVING sum((leg->>2)::numeric) <> 0 OR sum((leg->>3)::numeric) <> 0
"""


async def _of_lots(
    connection: Connection, accounts: list[str], versions: list[int], states: Mapping[str, State]
) -> list[Drift]:
    journal: dict[tuple[str, str, int], tuple[int, int]] = {
        (account, bucket, expires_at_ms): (int(available), int(held))
        for account, bucket, expires_at_ms, available, held in await connection.fetch(
            LOTS, accounts, versions
        )
    }
    projected = {
        (account, lot.bucket, lot.expires_at_ms): (lot.available, lot.held)
        for account in accounts
        for lot in states[account].account.lots
        if not lot.is_empty
    }
    found = []
    for key in sorted(journal.keys() | projected.keys()):
        has, should = projected.get(key, (0, 0)), journal.get(key, (0, 0))
        for name, its, expected in zip(("available", "held"), has, should, strict=True):
            if its != expected:
                lot = key[1] + (f".{key[2]}" if key[2] else "")
                found.append(Drift(key[0], f"projection.lot.{lot}.{name}", its, expected))
    return found


SETTINGS = """
SELECT j.account,
  (array_agg(e.entry->>'overdraft_limit' ORDER BY j.version DESC)
    FILTER (WHERE e.entry ? 'overdraft_limit'))[1]::numeric AS overdraft_limit,
  (array_agg(e.entry->>'status' ORDER BY j.version DESC) FILTER (WHERE e.entry ? 'status'))[1] AS status,
  (array_agg(e.entry->>'low_balance' ORDER BY j.version DESC)
    FILTER (WHERE e.entry ? 'low_balance'))[1]::numeric AS low_balance
FROM unnest($1::text[], $2::bigint[]) AS wanted (account, last)
JOIN journal j ON j.account = wanted.account AND j.version <= wanted.last
  AND j.kind IN ('configured', 'adjusted')
CROSS JOIN LATERAL (SELECT j.entry::jsonb AS entry) AS e
WHERE j.kind = 'configured' OR e.entry ? 'adopted'
GROUP BY 1
"""


async def _of_settings(
    connection: Connection, accounts: list[str], versions: list[int], states: Mapping[str, State]
) -> list[Drift]:
    rows = {row["account"]: row for row in await connection.fetch(SETTINGS, accounts, versions)}
    found = []
    for name in accounts:
        limit, status, low = tuple(rows[name])[1:] if name in rows else (None, None, None)
        should = int(limit or 0), status or "active", int(low or 0)
        for field, its, expected in zip(
            ("overdraftLimit", "status", "lowBalance"), states[name].account.settings, should, strict=True
        ):
            if its != expected:
                found.append(Drift(name, f"projection.{field}", its, expected))
    return found


SPENT = """
SELECT j.account, j.kind, sum(j.amount::numeric) AS amount
FROM unnest($1::text[], $2::bigint[]) AS wanted (account, last)
JOIN journal j ON j.account = wanted.account AND j.version <= wanted.last
WHERE j.kind IN ('granted', 'refunded', 'adjusted', 'deducted', 'confirmed', 'lapsed')
GROUP BY 1, 2
"""

_TOTAL_OF = {"deducted": "spent", "confirmed": "spent"}


async def _conserved(
    connection: Connection, accounts: list[str], versions: list[int], states: Mapping[str, State]
) -> tuple[list[Drift], Totals]:
    by_account = {
        account: Totals(available=states[account].account.available, held=states[account].account.held)
        for account in accounts
    }
    for account, kind, amount in await connection.fetch(SPENT, accounts, versions):
        totals, field = by_account[account], _TOTAL_OF.get(kind, kind)
        setattr(totals, field, getattr(totals, field) + int(amount))
    found, whole = [], Totals()
    for account, totals in by_account.items():
        whole.add(totals)
        if totals.came != totals.there_or_gone:
            found.append(Drift(account, "projection.conserved", totals.there_or_gone, totals.came))
    return found, whole

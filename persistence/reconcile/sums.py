"""Holds the projections against the journal's entries, in PostgreSQL alone and in sets: sums of legs,
versions without gaps, each entry's balance, what was granted against what is there, legs of each
reservation.

Sums are `numeric`: some thousand of the largest grants overflow a bigint.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec
from msgspec import Struct

from persistence.pool import Connection
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
        *await _of_reservations(connection, accounts),
    ]
    more, totals = await _conserved(connection, accounts, versions, states)
    return found + more, totals


# `said`: what the columns say. `lead`: what the entry before and its own legs lead to.
ROWS = """
WITH rows AS (
  SELECT j.account, j.version, j.available, j.held, j.amount, j.kind, j.entry::jsonb AS entry
  FROM unnest($1::text[], $2::bigint[]) AS wanted (account, last)
  JOIN journal j ON j.account = wanted.account AND j.version <= wanted.last
), legs AS (
  SELECT rows.*, lag(version, 1, 0::bigint) OVER each AS version_before,
    lag(available, 1, 0::bigint) OVER each AS available_before,
    lag(held, 1, 0::bigint) OVER each AS held_before,
    (SELECT coalesce(sum((leg->>2)::numeric), 0) FROM jsonb_array_elements(entry->'legs') leg)
      AS by_available,
    (SELECT coalesce(sum((leg->>3)::numeric), 0) FROM jsonb_array_elements(entry->'legs') leg) AS by_held
  FROM rows WINDOW each AS (PARTITION BY account ORDER BY version)
), wrong AS (
  SELECT account, version, CASE
    WHEN version <> version_before + 1 THEN 'version'
    WHEN available <> available_before + by_available THEN 'available'
    WHEN held <> held_before + by_held THEN 'held'
    WHEN amount <> (entry->>'amount')::numeric THEN 'amount'
    WHEN kind <> entry->>'kind' THEN 'kind'
    WHEN account <> entry->>'account' OR version <> (entry->>'version')::numeric THEN 'entry'
    END AS field,
    version_before + 1 AS version_expected, available, available_before + by_available AS available_expected,
    held, held_before + by_held AS held_expected, amount, (entry->>'amount')::numeric AS amount_expected
  FROM legs
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


# What the entries of each reservation say, against its row; both of one snapshot. Where it is said how a
# reservation `stands`, that includes whatever was before.
RESERVATIONS = """
WITH entries AS (
  SELECT account, reservation, shard, seq, version, kind, amount, entry::jsonb AS entry FROM journal
  WHERE account = ANY($1) AND reservation IS NOT NULL
), rows AS (
  SELECT entries.*, version < coalesce(max(version) FILTER (WHERE entry->'stands' IS NOT NULL)
    OVER (PARTITION BY account, reservation), 0) AS is_included
  FROM entries
), said AS (
  SELECT account, reservation AS id,
    sum((SELECT coalesce(sum((leg->>3)::numeric), 0) FROM jsonb_array_elements(entry->'legs') leg)) AS held,
    coalesce(
      sum(amount::numeric) FILTER (WHERE kind = 'reserved'), max((entry#>>'{stands,reserved}')::numeric)
    ) AS reserved,
    sum(coalesce((entry->>'captured')::numeric, (entry#>>'{stands,captured}')::numeric, 0))
      FILTER (WHERE NOT is_included) AS captured,
    sum(coalesce((entry->>'released')::numeric, (entry#>>'{stands,released}')::numeric, 0))
      FILTER (WHERE NOT is_included) AS released,
    sum(coalesce((entry->>'charged')::numeric, (entry#>>'{stands,charged}')::numeric, 0))
      FILTER (WHERE NOT is_included) AS charged,
    (array_agg(coalesce(entry#>>'{stands,status}', CASE kind
      WHEN 'confirmed' THEN 'confirmed' WHEN 'cancelled' THEN 'cancelled' WHEN 'expired' THEN 'cancelled' END)
      ORDER BY version DESC) FILTER (WHERE kind NOT IN ('reserved', 'bound')))[1] AS ending,
    (array_agg(coalesce(entry->>'deadline_ms', entry#>>'{stands,deadline_ms}')::numeric ORDER BY version DESC)
      FILTER (WHERE coalesce(entry->>'deadline_ms', entry#>>'{stands,deadline_ms}') IS NOT NULL))[1]
      AS expires_at_ms,
    (array_agg(CASE kind WHEN 'reserved' THEN seq ELSE (entry#>>'{stands,reserved_sequence}')::numeric END
      ORDER BY version DESC)
      FILTER (WHERE kind = 'reserved' OR entry#>'{stands,reserved_sequence}' IS NOT NULL))[1]
      AS reserved_seq,
    max(shard) AS shard
  FROM rows GROUP BY 1, 2
)
SELECT coalesce(r.account, said.account) AS account, coalesce(r.id, said.id)::text AS id,
  r.reserved, r.captured, r.charged, r.released, r.held, r.status, r.expires_at_ms, r.reserved_seq, r.shard,
  said.expires_at_ms AS expires_at_ms_said, said.reserved_seq AS reserved_seq_said, said.shard AS shard_said,
  said.reserved AS reserved_said,
  said.captured AS captured_said, said.charged AS charged_said, said.released AS released_said,
  said.held AS held_said, CASE WHEN said.held = 0 THEN said.ending ELSE 'pending' END AS status_said
FROM said FULL JOIN (
  SELECT *, extract(epoch FROM expires_at) * 1000 AS expires_at_ms FROM reservations WHERE account = ANY($1)
) r USING (id)
WHERE (
  r.account, r.reserved, r.captured, r.charged, r.released, r.held, r.status, r.expires_at_ms, r.reserved_seq,
  r.shard
) IS DISTINCT FROM (
  said.account, said.reserved, said.captured, said.charged, said.released, said.held,
  CASE WHEN said.held = 0 THEN said.ending ELSE 'pending' END, said.expires_at_ms, said.reserved_seq,
  said.shard
)
"""


async def _of_reservations(connection: Connection, accounts: list[str]) -> list[Drift]:
    """One that clean-up has dropped is in the journal alone; it has ended, and is no drift."""
    found = []
    for row in await connection.fetch(RESERVATIONS, accounts):
        name, prefix = row["account"], f"projection.reservation.{row['id']}"
        if row["reserved"] is None:
            if row["held_said"] != 0:
                found.append(Drift(name, prefix, None, "open"))
            continue
        if row["reserved_said"] is None:
            found.append(Drift(name, prefix, "there", None))
            continue
        for field in ("reserved", "captured", "charged", "released", "held"):
            said: Decimal = row[f"{field}_said"]
            if row[field] != said:
                found.append(Drift(name, f"{prefix}.{field}", row[field], int(said)))
        for field, name_of_it in (
            ("expires_at_ms", "expiresAt"),
            ("reserved_seq", "reservedSequence"),
            ("shard", "shard"),
        ):
            if row[field] != row[f"{field}_said"]:
                its, expected = int(row[field]), row[f"{field}_said"]
                found.append(
                    Drift(name, f"{prefix}.{name_of_it}", its, None if expected is None else int(expected))
                )
        if row["status"] != row["status_said"]:
            found.append(Drift(name, f"{prefix}.status", row["status"], row["status_said"]))
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


GAPS = """
SELECT count(*) AS rows, min(seq) AS first, max(seq) AS last FROM journal
WHERE shard = $1 AND seq > $2 AND seq <= $3
"""

FIRST_GAP = """
SELECT seq FROM (
  SELECT seq, lag(seq, 1, $2::bigint) OVER (ORDER BY seq) AS before FROM journal
  WHERE shard = $1 AND seq > $2 AND seq <= $3
) AS rows WHERE seq <> before + 1 ORDER BY seq LIMIT 1
"""


async def gap(connection: Connection, shard: int, after: int, cursor: int) -> int | None:
    """The first sequence between `after` and `cursor` that the journal of a shard lacks."""
    row = await connection.fetchrow(GAPS, shard, after, cursor)
    assert row is not None
    if row["rows"] == cursor - after:
        return None
    following: int | None = await connection.fetchval(FIRST_GAP, shard, after, cursor)
    if following is None:  # what is there is whole, and ends too early
        return int(row["last"] or after) + 1
    before: int | None = await connection.fetchval(
        "SELECT max(seq) FROM journal WHERE shard = $1 AND seq < $2", shard, following
    )
    return max(after, before or 0) + 1


# One statement is one moment.
END = """
SELECT s.cursor, s.link, s.head, j.entry, j.hash,
  (SELECT min(seq) FROM journal beyond WHERE beyond.shard = s.shard AND beyond.seq > s.cursor) AS beyond
FROM shards s LEFT JOIN journal j ON (j.shard, j.seq) = (s.shard, s.cursor)
WHERE s.shard = $1
"""


class _Linked(Struct):
    nonce: str


_decode_linked = msgspec.json.Decoder(_Linked).decode


async def end_faults(connection: Connection, shard: int) -> list[Drift]:
    """Where a shard does not end with its last row; a row that is missing is for `gap` to find."""
    row = await connection.fetchrow(END, shard)
    assert row is not None, "a shard without a row"
    found = []
    if row["beyond"] is not None:
        found.append(Drift("", f"journal.{shard}.{row['beyond']}", "there", f"the end is {row['cursor']}"))
    if row["entry"] is None:
        return found
    try:
        nonce = _decode_linked(row["entry"]).nonce
    except msgspec.MsgspecError:
        nonce = "unreadable"
    head, hashed = row["head"].hex(), row["hash"].hex()
    for field, said, expected in (("link", row["link"], nonce), ("head", head, hashed)):
        if said != expected:
            found.append(Drift("", f"projection.{shard}.{field}", said, expected))
    return found

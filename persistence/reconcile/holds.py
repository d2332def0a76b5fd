"""Holds the rows of reservations against the entries that are about them, in sets."""

from decimal import Decimal

from persistence.pool import Connection
from persistence.reconcile.drift import Drift, Value

# What the entries of each reservation say, against its row; both of one snapshot. Where it is said how a
# reservation `stands`, that includes whatever was before. A refund names one and changes nothing of it.
RESERVATIONS = """
WITH entries AS (
  SELECT account, reservation, shard, seq, version, kind, at, amount, entry::jsonb AS entry FROM journal
  WHERE account = ANY($1) AND reservation IS NOT NULL AND kind <> 'refunded'
), moved AS (
  SELECT entries.*, entry->'stands' AS stands,
    (SELECT coalesce(sum((leg->>3)::numeric), 0) FROM jsonb_array_elements(entry->'legs') leg) AS held
  FROM entries
), rows AS (
  SELECT moved.*, sum(held) OVER each AS left_held,
    version < coalesce(
      max(version) FILTER (WHERE stands IS NOT NULL) OVER (PARTITION BY account, reservation), 0
    ) AS is_included
  FROM moved WINDOW each AS (PARTITION BY account, reservation ORDER BY version)
), said AS (
  SELECT account, reservation AS id,
    sum(held) AS held,
    coalesce(sum(amount::numeric) FILTER (WHERE kind = 'reserved'), max((stands->>'reserved')::numeric))
      AS reserved,
    sum(coalesce((entry->>'captured')::numeric, (stands->>'captured')::numeric, 0))
      FILTER (WHERE NOT is_included) AS captured,
    sum(coalesce((entry->>'released')::numeric, (stands->>'released')::numeric, 0))
      FILTER (WHERE NOT is_included) AS released,
    sum(coalesce((entry->>'charged')::numeric, (stands->>'charged')::numeric, 0))
      FILTER (WHERE NOT is_included) AS charged,
    (array_agg(coalesce(stands->>'status', CASE kind
      WHEN 'confirmed' THEN 'confirmed' WHEN 'cancelled' THEN 'cancelled' WHEN 'expired' THEN 'cancelled' END)
      ORDER BY version DESC) FILTER (WHERE kind NOT IN ('reserved', 'bound', 'extended')))[1] AS ending,
    (array_agg(coalesce((stands->>'settled_at_ms')::numeric, extract(epoch FROM at) * 1000)
      ORDER BY version DESC)
      FILTER (WHERE kind NOT IN ('reserved', 'bound', 'extended')))[1] AS settled_at_ms,
    (array_agg(coalesce(entry->>'deadline_ms', stands->>'deadline_ms')::numeric ORDER BY version DESC)
      FILTER (WHERE coalesce(entry->>'deadline_ms', stands->>'deadline_ms') IS NOT NULL))[1]
      AS expires_at_ms,
    (array_agg(CASE kind WHEN 'reserved' THEN seq ELSE (stands->>'reserved_sequence')::numeric END
      ORDER BY version DESC)
      FILTER (WHERE kind = 'reserved' OR stands->'reserved_sequence' IS NOT NULL))[1]
      AS reserved_seq,
    coalesce(bool_or(coalesce((entry->>'late')::boolean, (stands->>'late')::boolean))
      FILTER (WHERE NOT is_included), false) AS late,
    coalesce(sum(CASE kind WHEN 'extended' THEN 1 ELSE (stands->>'extensions')::numeric END)
      FILTER (WHERE NOT is_included), 0) AS extensions,
    coalesce((array_agg(stands->'parts' ORDER BY version DESC) FILTER (WHERE stands ? 'parts'
      AND NOT is_included))[1], '[]')
    || coalesce(jsonb_agg(jsonb_build_array(seq, entry->'key', entry->'fingerprint') ORDER BY version)
      FILTER (WHERE kind = 'confirmed' AND left_held > 0 AND NOT is_included), '[]') AS parts,
    (array_agg(jsonb_build_array(coalesce(entry->>'over_capture', 'reject'),
      coalesce(entry->>'on_expired', 'reject'), entry->'price') ORDER BY version DESC)
      FILTER (WHERE kind = 'reserved' OR stands IS NOT NULL))[1] AS terms,
    max(shard) AS shard
  FROM rows GROUP BY 1, 2
), both_sides AS (
  SELECT coalesce(r.account, said.account) AS account, coalesce(r.id, said.id)::text AS id,
    r.account AS has_account, said.account AS says_account,
    r.reserved, said.reserved AS reserved_said, r.captured, said.captured AS captured_said,
    r.charged, said.charged AS charged_said, r.released, said.released AS released_said,
    r.held, said.held AS held_said, r.expires_at_ms, said.expires_at_ms AS expires_at_ms_said,
    r.reserved_seq, said.reserved_seq AS reserved_seq_said, r.shard, said.shard AS shard_said,
    r.extensions, said.extensions AS extensions_said, r.late, said.late AS late_said,
    r.status, CASE WHEN said.held = 0 THEN said.ending ELSE 'pending' END AS status_said,
    said.held = 0 AND said.settled_at_ms < (SELECT extract(epoch FROM kept_from) * 1000 FROM cleanup)
      AS may_be_dropped,
    coalesce(r.parts::jsonb, '[]') AS parts, said.parts AS parts_said,
    jsonb_build_array(r.over_capture, r.on_expired, r.price::jsonb) AS terms, said.terms AS terms_said
  FROM said FULL JOIN (
    SELECT *, extract(epoch FROM expires_at) * 1000 AS expires_at_ms FROM reservations WHERE account = ANY($1)
  ) r USING (id)
)
SELECT * FROM both_sides
WHERE (
  has_account, reserved, captured, charged, released, held, status, expires_at_ms, reserved_seq, shard,
  extensions, late, parts, terms
) IS DISTINCT FROM (
  says_account, reserved_said, captured_said, charged_said, released_said, held_said, status_said,
  expires_at_ms_said, reserved_seq_said, shard_said, extensions_said, late_said, parts_said, terms_said
) AND NOT (has_account IS NULL AND may_be_dropped IS TRUE)
"""

_FIELDS = {
    "reserved": "reserved", "captured": "captured", "charged": "charged", "released": "released",
    "held": "held", "expires_at_ms": "expiresAt", "reserved_seq": "reservedSequence", "shard": "shard",
    "status": "status", "extensions": "extensions", "late": "late", "parts": "parts", "terms": "terms",
}  # fmt: skip


async def faults(connection: Connection, accounts: list[str]) -> list[Drift]:
    """One that clean-up may have dropped is in the journal alone, which is no drift."""
    found = []
    for row in await connection.fetch(RESERVATIONS, accounts):
        name, prefix = row["account"], f"projection.reservation.{row['id']}"
        if row["reserved"] is None:
            found.append(Drift(name, prefix, None, "open" if row["held_said"] != 0 else row["status_said"]))
        elif row["reserved_said"] is None:
            found.append(Drift(name, prefix, "there", None))
        else:
            for field, shown in _FIELDS.items():
                its, said = row[field], row[f"{field}_said"]
                if its != said:
                    found.append(Drift(name, f"{prefix}.{shown}", _value(its), _value(said)))
    return found


def _value(its: Decimal | bool | str | int | None) -> Value:
    if isinstance(its, bool):
        return str(its).lower()
    return int(its) if isinstance(its, Decimal) else its

"""Counts how reservations stand, and what came of those of each model."""

from collections import Counter
from collections.abc import Sequence

from asyncpg import Record

from persistence.backing import decode_entry
from persistence.folding import Reservation
from persistence.monitoring.entries import Taken, woven
from persistence.pool import Connection

# What ended, by its kind. A confirm ends its reservation when it came late, gave something back, or took all
# that was still held: what was reserved, or stood there when an entry took the place of lost ones, but for
# the parts that were captured since. Both are looked for in the months since it was made: a row that clean-up
# has dropped does not say when, and then it is all of them.
ENDINGS = woven("""
{entries}, confirms AS (
  SELECT entries.start, entries.model, entries.at, origin.at AS made_at, origin.reserved,
    its.captured + origin.captured + parts.captured AS captured, its.released, its.late
  FROM entries LEFT JOIN reservations known ON known.id = entries.reservation, LATERAL (
    SELECT coalesce(captured, 0) AS captured, coalesce(released, 0) AS released, coalesce(late, false) AS late
    FROM jsonb_to_record(entries.text::jsonb) AS its (captured bigint, released bigint, late boolean)
  ) AS its, LATERAL (
    SELECT seq, at AS since, coalesce(to_timestamp((stands ->> 'created_at_ms')::numeric / 1000), at) AS at,
      coalesce((stands ->> 'reserved')::bigint, amount) AS reserved,
      coalesce((stands ->> 'captured')::bigint, 0) AS captured
    FROM (
      SELECT seq, at, amount, CASE WHEN kind = 'adjusted' THEN entry::jsonb -> 'stands' END AS stands
      FROM journal
      WHERE reservation = entries.reservation AND seq < entries.seq AND kind IN ('reserved', 'adjusted')
        AND at >= coalesce(known.created_at, '-infinity') AND at <= entries.at
      ORDER BY seq DESC LIMIT 1
    ) AS origin
  ) AS origin, LATERAL (
    SELECT coalesce(sum((entry::jsonb ->> 'captured')::bigint), 0) AS captured
    FROM journal
    WHERE reservation = entries.reservation AND kind = 'confirmed' AND seq > origin.seq AND seq < entries.seq
      AND at >= origin.since AND at <= entries.at
  ) AS parts
  WHERE entries.kind = 'confirmed'
)
SELECT start, model, CASE WHEN late THEN 'late' ELSE 'confirmed' END AS ending, count(*) AS count,
  sum(reserved) AS reserved, sum(captured) AS captured,
  sum(floor(extract(epoch FROM at - made_at) * 1000)) AS milliseconds
FROM confirms WHERE late OR released > 0 OR captured = reserved
GROUP BY start, model, ending
UNION ALL
SELECT start, model, kind, count(*), 0, 0, 0 FROM entries WHERE kind IN ('cancelled', 'expired')
GROUP BY start, model, kind
UNION ALL
SELECT NULL, NULL, kind, count(*), 0, 0, 0 FROM entries WHERE kind = 'reserved' GROUP BY kind
""")

ENDED = woven("""
WITH quarters AS (
  SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::bigint[], $5::numeric[],
    $6::numeric[], $7::numeric[])
    AS quarters (start, model, confirmed, ended, reserved, captured, milliseconds)
)
INSERT INTO usage_models AS u (span, start, model, transactions, credits,
  confirmed, ended, reserved, captured, milliseconds)
SELECT span, begin, model, 0, 0, sum(confirmed), sum(ended), sum(reserved), sum(captured), sum(milliseconds)
FROM quarters, {spans} GROUP BY span, begin, model
ON CONFLICT (span, start, model) DO UPDATE
SET confirmed = u.confirmed + excluded.confirmed, ended = u.ended + excluded.ended,
  reserved = u.reserved + excluded.reserved, captured = u.captured + excluded.captured,
  milliseconds = u.milliseconds + excluded.milliseconds
""")

STAND = """
UPDATE usage_state SET pending = pending + $1, confirmed = confirmed + $2, cancelled = cancelled + $3,
  expired = expired + $4
"""


async def count_reservations(connection: Connection, taken: Taken) -> None:
    """How many there are of each status, and what came of those of each model."""
    endings = await connection.fetch(ENDINGS, *taken)
    stand = await _adopted(connection, taken)
    for row in endings:
        stand.update(_moves(row["ending"], row["count"]))
    rows = [
        (
            row["start"], row["model"], row["count"] if row["ending"] in ("confirmed", "late") else 0,
            row["count"], row["reserved"], row["captured"], row["milliseconds"],
        )
        for row in endings
        if row["model"] is not None
    ]  # fmt: skip
    if rows:
        await connection.execute(ENDED, *map(list, zip(*rows, strict=True)))
    if any(stand.values()):
        await connection.execute(STAND, *(stand[each] for each in STATUSES))


STATUSES = ("pending", "confirmed", "cancelled", "expired")


def _moves(ending: str, count: int) -> dict[str, int]:
    """How many more there are of each status. Who comes late had expired."""
    if ending == "reserved":
        return {"pending": count}
    if ending == "late":
        return {"confirmed": count, "expired": -count}
    return {ending: count, "pending": -count}


# Few, if any: what stands at the place of entries that PostgreSQL has lost.
ADOPTED = woven("""
{entries} SELECT seq, reservation FROM entries WHERE kind = 'adjusted' AND reservation IS NOT NULL
""")

ENTRIES_OF = """
SELECT seq, entry FROM journal
WHERE reservation = $1 AND seq <= $2 AND kind <> 'refunded' ORDER BY seq
"""


async def _adopted(connection: Connection, taken: Taken) -> Counter[str]:
    """How many more there are of each status because an entry says how its reservation stands."""
    stand: Counter[str] = Counter()
    for row in await connection.fetch(ADOPTED, *taken):
        rows = await connection.fetch(ENTRIES_OF, row["reservation"], row["seq"])
        before, after = _told(rows)
        if before is not None:
            stand[_status(before)] -= 1
        stand[_status(after)] += 1
    return stand


def _told(rows: Sequence[Record]) -> tuple[Reservation | None, Reservation]:
    """A reservation before the last of its entries, which adopts it, and after."""
    before: Reservation | None = None
    for row in rows[:-1]:
        entry = decode_entry(row["entry"])
        held = sum(leg.held for leg in entry.legs)
        if entry.stands is not None:
            before = Reservation.adopted_by(entry, before, held)
        elif before is None:
            before = Reservation.made_by(entry, row["seq"], held)
        else:
            before.fold(entry, row["seq"], held)
    entry = decode_entry(rows[-1]["entry"])
    return before, Reservation.adopted_by(entry, before, sum(leg.held for leg in entry.legs))


def _status(reservation: Reservation) -> str:
    return "expired" if reservation.cancel_cause == "expired" else reservation.status

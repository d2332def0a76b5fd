"""Reservations: deadlines, what is held of which lot, parts, and the personal text that belongs to them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec
from asyncpg import Record
from msgspec import Struct

from app.ledger.entries import Leg, Notes
from app.ledger.operations import OnExpired, OverCapture
from app.ledger.replies import HeldLeg, Reservation
from persistence.folding import still_held
from persistence.pool import Connection
from persistence.projections.dropped import Told, of_entries
from persistence.projections.reservations import as_text, decode_parts, decode_price

PAGE = 1_000

# A default is left out of a text; it is known as one by its identity.
_OVER_CAPTURE: dict[str, OverCapture] = {"reject": "reject", "cap": "cap", "charge": "charge"}
_ON_EXPIRED: dict[str, OnExpired] = {"reject": "reject", "charge": "charge"}

NOWHERE = "00000000-0000-0000-0000-000000000000"


class _Made(Struct):
    """What of a reserved entry says which lots it holds."""

    legs: list[Leg]


_decode_made = msgspec.json.Decoder(_Made).decode
_decode_notes = msgspec.json.Decoder(Notes).decode
_NOTHING_NOTED = Notes(salt="")

# Microseconds are never lost in a float: `extract` gives a numeric. What made a reservation is looked for in
# the months since then, and in all of them only where it is not there.
_ROWS = """
SELECT r.id::text AS id, r.account, r.status, r.reserved, r.captured, r.charged, r.released, r.held,
  (extract(epoch FROM r.expires_at) * 1000)::bigint AS expires_at_ms,
  (extract(epoch FROM r.created_at) * 1000)::bigint AS created_at_ms,
  (extract(epoch FROM r.settled_at) * 1000)::bigint AS settled_at_ms,
  r.reserved_seq, r.bound_seq, r.ended_seq, r.cancel_cause, r.late, r.extensions, r.parts, r.over_capture,
  r.on_expired, r.price, r.task, r.provider, r.model,
  CASE WHEN r.status = 'pending' THEN coalesce(
    (SELECT entry FROM journal made
     WHERE (made.shard, made.seq) = (r.shard, r.reserved_seq) AND made.at >= r.created_at),
    (SELECT entry FROM journal made WHERE (made.shard, made.seq) = (r.shard, r.reserved_seq))
  ) END AS made,
  made_notes.text AS made_notes, bound_notes.text AS bound_notes, ended_notes.text AS ended_notes
FROM {source} r
LEFT JOIN notes made_notes ON (made_notes.shard, made_notes.seq) = (r.shard, r.reserved_seq)
LEFT JOIN notes bound_notes ON (bound_notes.shard, bound_notes.seq) = (r.shard, r.bound_seq)
LEFT JOIN notes ended_notes ON (ended_notes.shard, ended_notes.seq) = (r.shard, r.ended_seq)
ORDER BY {order}
"""

OF_IDS = _ROWS.format(source="(SELECT * FROM reservations WHERE id = ANY($1::uuid[]))", order="r.id")


async def reservations(connection: Connection, ids: Sequence[str]) -> dict[str, Reservation]:
    """Those of `ids` that the journal knows, open or ended; by its entries where clean-up has dropped one.

    Raises:
        Contradiction: What the entries of such a one say does not follow.
    """
    found = {row["id"]: _reservation(row) for row in await connection.fetch(OF_IDS, list(ids))}
    # What was dropped, or is made, after the first look is found by the second: entries stay.
    if missing := [each for each in ids if each not in found]:
        found |= {
            id_: _reservation(_as_row(told)) for id_, told in (await of_entries(connection, missing)).items()
        }
    return found


def _as_row(told: Told) -> Mapping[str, Any]:
    """What `_ROWS` would have of it."""
    its = told.reservation
    return {each.name: getattr(its, each.name) for each in fields(its)} | {
        "parts": as_text(its.parts),
        "price": as_text(its.price),
        "made": told.entries.get(its.reserved_seq) if its.status == "pending" else None,
        "made_notes": told.notes.get(its.reserved_seq),
        "bound_notes": None if its.bound_seq is None else told.notes.get(its.bound_seq),
        "ended_notes": None if its.ended_seq is None else told.notes.get(its.ended_seq),
    }


OPEN_OF = _ROWS.format(
    source="""(
  SELECT open.* FROM accounts a
  JOIN reservations open
    ON open.shard = a.shard AND open.account = a.account AND open.status = 'pending'
  WHERE a.account = ANY($1)
)""",
    order="r.expires_at, r.id",
)


async def open_reservations_of(
    connection: Connection, accounts: Sequence[str]
) -> dict[str, list[Reservation]]:
    """The pending reservations of each of `accounts`, by deadline (an account has 10,000 at most)."""
    found: dict[str, list[Reservation]] = {account: [] for account in accounts}
    for row in await connection.fetch(OPEN_OF, list(accounts)):
        found[row["account"]].append(_reservation(row))
    return found


OPEN_IN = _ROWS.format(
    source="""(
  SELECT * FROM reservations
  WHERE shard = $1 AND status = 'pending' AND (account, id) > ($2, $3::uuid)
  ORDER BY account, id LIMIT $4
)""",
    order="r.account, r.id",
)


async def pages_of_open_reservations(
    connection: Connection, shard: int, *, page: int = PAGE
) -> AsyncIterator[dict[str, Reservation]]:
    """Every pending reservation of a shard, `page` at a time; also those whose deadline has passed."""
    account, last = "", NOWHERE
    while rows := await connection.fetch(OPEN_IN, shard, account, last, page):
        yield {row["id"]: _reservation(row) for row in rows}
        account, last = rows[-1]["account"], rows[-1]["id"]


ENDINGS = """
SELECT seq, reservation::text AS reservation FROM journal
WHERE shard = $1 AND seq > $2 AND kind IN ('confirmed', 'cancelled', 'expired', 'adjusted')
  AND reservation IS NOT NULL
ORDER BY seq LIMIT $3
"""


async def pages_of_settled_reservations(
    connection: Connection, shard: int, after: int, *, page: int = PAGE
) -> AsyncIterator[dict[str, Reservation]]:
    """The reservations of a shard that ended after sequence `after`, at most `page` at a time."""
    while endings := await connection.fetch(ENDINGS, shard, after, page):
        after = endings[-1]["seq"]
        ended = {row["seq"]: row["reservation"] for row in endings}
        found = await reservations(connection, list(set(ended.values())))
        yield {
            id_: each
            for id_, each in found.items()
            if each.ended_sequence is not None and ended.get(each.ended_sequence) == id_
        }


def _reservation(row: Record | Mapping[str, Any]) -> Reservation:
    made, bound, ended = (_notes(row[each]) for each in ("made_notes", "bound_notes", "ended_notes"))
    made_legs = [] if row["made"] is None else _decode_made(row["made"]).legs
    legs = [HeldLeg(leg.bucket, leg.expires_at_ms, leg.held) for leg in made_legs if leg.held > 0]
    parts, price = row["parts"], row["price"]
    return Reservation(
        format=1,
        id=row["id"],
        account=row["account"],
        status=row["status"],
        reserved=row["reserved"],
        captured=row["captured"],
        charged=row["charged"],
        released=row["released"],
        held=row["held"],
        legs=still_held(legs, row["held"]) if legs else [],
        expires_at_ms=row["expires_at_ms"],
        created_at_ms=row["created_at_ms"],
        reserved_sequence=row["reserved_seq"],
        bound_sequence=row["bound_seq"],
        ended_sequence=row["ended_seq"],
        settled_at_ms=row["settled_at_ms"],
        cancel_cause=row["cancel_cause"],
        cancel_reason=ended.reason if row["status"] == "cancelled" else None,
        late=row["late"],
        extensions=row["extensions"],
        parts=[] if parts is None else decode_parts(parts),
        task=row["task"],
        provider=row["provider"],
        resource=bound.resource or made.resource,
        model=row["model"],
        metadata=made.metadata,
        over_capture=_OVER_CAPTURE[row["over_capture"]],
        on_expired=_ON_EXPIRED[row["on_expired"]],
        price=None if price is None else decode_price(price),
    )


def _notes(text: str | None) -> Notes:
    return _NOTHING_NOTED if text is None else _decode_notes(text)

"""Reservations as their entries lead to them, whatever the table `reservations` has: what clean-up has
dropped from it is in the journal for ever.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import msgspec
from asyncpg import Record
from msgspec import Struct

from app.ledger.entries import Entry
from persistence.folding import Contradiction, Reservation, takes_a_lost_place
from persistence.pool import Connection

_decode = msgspec.json.Decoder(Entry).decode


class Told(Struct):
    """A reservation, and of each entry of it by sequence its text and its notes (`None`: it has none, or they
    were erased).
    """

    reservation: Reservation
    entries: dict[int, str]
    notes: dict[int, str | None]


# A refund names a reservation and changes nothing of it.
ENTRIES = """
SELECT j.reservation::text AS id, j.seq, j.entry, notes.text AS notes
FROM journal j LEFT JOIN notes USING (shard, seq)
WHERE j.reservation = ANY($1::uuid[]) AND j.kind <> 'refunded'
ORDER BY j.reservation, j.seq
"""


async def of_entries(connection: Connection, ids: Sequence[str]) -> dict[str, Told]:
    """Those of `ids` that the journal has ever made, as of their last entries.

    Raises:
        Contradiction: What the entries say of one of them does not follow.
    """
    rows = await connection.fetch(ENTRIES, list(ids))
    return {id_: _told(list(of)) for id_, of in groupby(rows, key=itemgetter("id"))}


def _told(rows: Sequence[Record]) -> Told:
    reservation: Reservation | None = None
    for row in rows:
        reservation = _after(reservation, _decode(row["entry"]), row["seq"])
    assert reservation is not None, "a group without a row"
    return Told(
        reservation,
        {row["seq"]: row["entry"] for row in rows},
        {row["seq"]: row["notes"] for row in rows},
    )


def _after(reservation: Reservation | None, entry: Entry, sequence: int) -> Reservation:
    held = sum(leg.held for leg in entry.legs)
    if takes_a_lost_place(entry):
        return Reservation.adopted_by(entry, reservation, held)
    if reservation is None:
        if entry.kind != "reserved":
            raise Contradiction(f"is about reservation {entry.reservation}, which nobody made")
        return Reservation.made_by(entry, sequence, held)
    reservation.fold(entry, sequence, held)
    return reservation

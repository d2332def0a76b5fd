"""What is told of entries that end a reservation."""

from collections.abc import Sequence

import msgspec
from asyncpg import Record
from msgspec import UNSET, UnsetType

from app.events import EventType, ReservationEnded
from app.ledger.entries import Notes
from app.ledger.replies import Reservation
from app.ledger.shards import TransactionId
from persistence import rebuild
from persistence.backing import decode_entry
from persistence.events.outbox import Made
from persistence.pool import Connection

ENDINGS = ("confirmed", "cancelled", "expired")

_decode_notes = msgspec.json.Decoder(Notes).decode


async def endings(connection: Connection, shard: int, rows: Sequence[Record]) -> list[tuple[int, Made]]:
    """What is told of entries that end a reservation, by sequence."""
    ended_by = [row for row in rows if row["kind"] in ENDINGS]
    if not ended_by:
        return []
    # Whatever ends a reservation is what it says of itself, but for one that came late, after it had expired.
    known = await rebuild.reservations(connection, list({row["reservation"] for row in ended_by}))
    return [
        (row["seq"], ended)
        for row in ended_by
        if (ended := _ended(shard, row, known[row["reservation"]])) is not None
    ]


def _ended(shard: int, row: Record, its: Reservation) -> Made | None:
    """`None`: it captured a part, and the rest is held on."""
    entry = None if row["entry"] is None else decode_entry(row["entry"])
    spent, type_ = its.captured, f"reservation.{row['kind']}"
    if row["kind"] == "confirmed":
        if its.ended_sequence != row["seq"]:
            return None
        spent += its.charged
        if entry is not None and entry.late:
            type_ = "reservation.confirmed_late"
    told: EventType = type_  # type: ignore[assignment] # the kinds of ENDINGS
    payload = ReservationEnded(
        account_id=row["account"],
        reservation_id=row["reservation"],
        transaction_id=transaction_of(shard, row),
        reserved=its.reserved,
        spent=spent,
        released=its.released,
        task_id=UNSET if its.task is None else its.task,
        provider=UNSET if its.provider is None else its.provider,
        resource_id=UNSET if its.resource is None else its.resource,
        model_id=UNSET if its.model is None else its.model,
        cause=UNSET if entry is None or entry.cause is None else entry.cause,
        available=row["available"],
        held=row["held"],
        version=row["version"],
    )
    return Made(told, row["account"], row["at"], payload)


def resource_of(*notes: str | None) -> str | UnsetType:
    """The caller's id of what a job makes, in the first of the notes that names one."""
    named = (_decode_notes(text).resource for text in notes if text is not None)
    return next((each for each in named if each is not None), UNSET)


def transaction_of(shard: int, row: Record) -> str:
    """The id of the transaction that an entry is."""
    return str(TransactionId(shard, row["incarnation"], row["seq"]))

"""The table `reservations`."""

import msgspec

from app.ledger.entries import Entry, Price
from app.ledger.replies import Part
from app.ledger.stream import Line
from persistence.folding import Contradiction, Reservation
from persistence.pool import Connection
from persistence.projections.dropped import of_entries
from persistence.projections.moments import at

_encode = msgspec.json.Encoder().encode
decode_price = msgspec.json.Decoder(Price).decode
decode_parts = msgspec.json.Decoder(list[Part]).decode


def as_text(stored: Price | list[Part] | None) -> str | None:
    """As a column has it; nothing is NULL."""
    return _encode(stored).decode() if stored else None


class Reservations:
    """The rows of the reservations that a batch touches."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._reservations: dict[str, Reservation] = {}
        self._known: set[str] = set()
        self._amended: set[str] = set()

    # Policies and price are for good: they are not read, and not written again.
    RESERVATIONS = """
    SELECT id::text, account, reserved, held, (extract(epoch FROM expires_at) * 1000)::bigint, 0,
      reserved_seq, status, captured, charged, released, (extract(epoch FROM settled_at) * 1000)::bigint,
      cancel_cause, task, provider, model, bound_seq, ended_seq, late, extensions, parts
    FROM reservations WHERE id = ANY($1::uuid[])
    """

    async def load(self, connection: Connection, ids: list[str]) -> None:
        """Read them as they are; one that clean-up has dropped comes back by its entries.

        Raises:
            Contradiction: What the entries of such a one say does not follow.
        """
        for row in await connection.fetch(self.RESERVATIONS, ids):
            *sums, parts = row
            reservation = Reservation(*sums)
            if parts is not None:
                reservation.parts = decode_parts(parts)
            self._reservations[reservation.id] = reservation
            self._known.add(reservation.id)
        if missing := [each for each in ids if each not in self._known]:
            for id_, told in (await of_entries(connection, missing)).items():
                self._reservations[id_] = told.reservation

    def fold(self, line: Line, held: int) -> None:
        """Raises `Contradiction`."""
        entry = line.entry
        assert entry.reservation is not None
        reservation = self._reservations.get(entry.reservation)
        if entry.kind == "reserved":
            if reservation is not None:
                raise Contradiction(f"makes reservation {entry.reservation} a second time")
            self._reservations[entry.reservation] = Reservation.made_by(entry, line.sequence, held)
        elif reservation is None:
            raise Contradiction(f"is about reservation {entry.reservation}, which nobody made")
        else:
            reservation.fold(entry, line.sequence, held)
            if reservation.extensions or reservation.parts or reservation.late:
                self._amended.add(entry.reservation)

    def adopt(self, entry: Entry, held: int) -> None:
        """As an entry says that it stands. Raises `Contradiction`."""
        assert entry.reservation is not None
        before = self._reservations.get(entry.reservation)
        self._reservations[entry.reservation] = Reservation.adopted_by(entry, before, held)
        self._amended.add(entry.reservation)

    COLUMNS = (
        "id", "shard", "account", "reserved", "expires_at", "created_at", "reserved_seq", "held", "status",
        "captured", "charged", "released", "settled_at", "cancel_cause", "task", "provider", "model",
        "bound_seq", "ended_seq",
    )  # fmt: skip
    TERMS = ("late", "extensions", "parts", "over_capture", "on_expired", "price")

    MOVE = """
    UPDATE reservations
    SET held = new.held, status = new.status, captured = new.captured, charged = new.charged,
      released = new.released, settled_at = new.settled_at, cancel_cause = new.cancel_cause, task = new.task,
      provider = new.provider, model = new.model, bound_seq = new.bound_seq, ended_seq = new.ended_seq
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[])
      AS new (id, held, status, captured, charged, released, settled_at, cancel_cause, task, provider, model,
        bound_seq, ended_seq)
    WHERE reservations.id = new.id
    """

    AMEND = """
    UPDATE reservations
    SET expires_at = new.expires_at, late = new.late, extensions = new.extensions, parts = new.parts
    FROM unnest($1::uuid[], $2::timestamptz[], $3::boolean[], $4::integer[], $5::text[])
      AS new (id, expires_at, late, extensions, parts)
    WHERE reservations.id = new.id
    """

    async def store(self, connection: Connection) -> None:
        made, special, moved, amended = [], [], [], []
        for each in self._reservations.values():
            settled_at = None if each.settled_at_ms is None else at(each.settled_at_ms)
            ending = (
                each.held, each.status, each.captured, each.charged, each.released, settled_at,
                each.cancel_cause, each.task, each.provider, each.model, each.bound_seq, each.ended_seq,
            )  # fmt: skip
            if each.id in self._known:
                moved.append((each.id, *ending))
                if each.id in self._amended:
                    parts = as_text(each.parts)
                    amended.append((each.id, at(each.expires_at_ms), each.late, each.extensions, parts))
                continue
            expires_at, created_at = at(each.expires_at_ms), at(each.created_at_ms)
            beginning = (each.account, each.reserved, expires_at, created_at, each.reserved_seq)
            row = (each.id, self._shard, *beginning, *ending)
            if each.id in self._amended or _has_terms(each):
                special.append((*row, *terms_of(each)))
            else:
                made.append(row)
        if made:
            await connection.copy_records_to_table("reservations", records=made, columns=self.COLUMNS)
        if special:
            columns = (*self.COLUMNS, *self.TERMS)
            await connection.copy_records_to_table("reservations", records=special, columns=columns)
        if moved:
            await connection.execute(self.MOVE, *map(list, zip(*moved, strict=True)))
        if amended:
            await connection.execute(self.AMEND, *map(list, zip(*amended, strict=True)))


def _has_terms(each: Reservation) -> bool:
    return each.price is not None or each.over_capture != "reject" or each.on_expired != "reject"


def terms_of(each: Reservation) -> tuple[object, ...]:
    """What the columns `TERMS` have of a reservation."""
    return (
        each.late, each.extensions, as_text(each.parts), each.over_capture, each.on_expired,
        as_text(each.price),
    )  # fmt: skip

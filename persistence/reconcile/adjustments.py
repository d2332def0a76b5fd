"""Makes the entries `adjusted` that take the places of lost ones, from what PostgreSQL has to what Redis had.

- They have the sequences and versions of the lost ones (`placing`), so that sequences stay 1, 2, 3 ... and
  versions too, unique as ever.
- The rows carry the nonce of the call before the first entry that Redis' stream still has, and the first of
  them names the call of the cursor: the links are whole, and the worker and the admission find in the stream
  what they demand.
- The legs of an account's first entry bring what is available, its sum is the entry's signed amount, and it
  says what the settings are; a reservation that has changed meanwhile has an entry of its own, at the very
  sequence at which Redis says that it was, if it does, which moves what is held. Each entry proves itself,
  conservation holds with `adjusted`, and a reservation's legs are found where they always are.
- Of a transaction of which more was given back meanwhile, one of the account's entries says how much.
- An account's last entry carries its lots word for word: the order in which they are spent is nothing that
  legs tell.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from app.ledger.entries import FORMAT, Entry, Leg, Sealed, Stands, seal
from app.ledger.replies import Account, HeldLeg, Reservation
from app.ledger.stream import Line
from persistence.folding import still_held
from persistence.reconcile.lost import Loss, NotAdoptable, Then
from persistence.reconcile.placing import Placed, Placing, Stored
from persistence.reconcile.taking_back import SETTINGS

REASON = "adopted: PostgreSQL lost this entry, and Redis has what it came to"

_encode = msgspec.json.Encoder().encode


class Adjustments:
    """Makes the entries of a shard's loss.

    Args:
        loss: What is lost.
        then: What Redis had just before the first entry that it still has.
        link: The nonce of the call on which PostgreSQL's cursor stands.
        incarnation: A number that was never given.
        by: Who wants it.
    """

    def __init__(self, loss: Loss, then: Then, link: str, incarnation: int, by: str) -> None:
        self._loss = loss
        self._then = then
        self._link = link
        self._incarnation = incarnation
        self._by = by

    def replace(self, stored: Stored) -> list[Line]:
        """All of them, in order, onto what PostgreSQL has.

        Raises:
            NotAdoptable: The two do not belong to one history.
        """
        loss = self._loss
        lines: dict[int, Line] = {}
        for name, placed in Placing(loss, self._then, stored).placed.items():
            for line in self._of_account(name, placed, stored):
                lines[line.sequence] = line
        return self._linked([lines[sequence] for sequence in range(loss.first, loss.last + 1)])

    def _of_account(self, name: str, placed: Mapping[int, Placed], stored: Stored) -> Iterable[Line]:
        theirs, known = self._then.accounts[name], stored.accounts.get(name)
        moves = {place: _held_legs(its.reservation, stored) for place, its in placed.items()}
        legs = _rest(known, theirs, moves.values())
        version, available, held = (known.version, known.available, known.held) if known else (0, 0, 0)
        amount = theirs.available + theirs.held - available - held
        told = self._settings(name, known, theirs)
        last = max(placed)
        for place in sorted(placed):
            version += 1
            legs = legs + moves[place]
            available += sum(leg.available for leg in legs)
            held += sum(leg.held for leg in legs)
            if place == last:
                told["lots"] = [
                    (lot.bucket, lot.priority, lot.expires_at_ms, lot.available, lot.held, lot.since)
                    for lot in theirs.lots
                ]
            yield self._line(
                place, placed[place], account=name, version=version, amount=amount, available=available,
                held=held, legs=legs, **told,
            )  # fmt: skip
            amount, legs, told = 0, [], {}
        if (available, held) != (theirs.available, theirs.held):
            raise NotAdoptable(f"The holds of {name} do not add up to what it has held; repair Redis first.")

    def _settings(self, name: str, known: Account | None, theirs: Account) -> dict[str, Any]:
        """Those that were changed meanwhile. Of one that was changed later nobody knows what it was: it stays
        as PostgreSQL has it, but that what is owed was allowed.
        """
        known = known or Account(format=FORMAT, version=0, available=0, held=0, lots=[])
        unsure = self._then.unsure
        settings = {each: getattr(known if (name, each) in unsure else theirs, each) for each in SETTINGS}
        owed = max(-theirs.available, self._then.owed.get(name, 0))
        settings["overdraft_limit"] = max(settings["overdraft_limit"], owed)
        return {each: value for each, value in settings.items() if value != getattr(known, each)}

    def _line(self, place: int, placed: Placed, **fields: Any) -> Line:
        """The entry at one place."""
        reservation, sealed = placed.reservation, _notes(place, placed.was)
        if reservation is not None:
            fields |= {
                "reservation": reservation.id,
                "task": reservation.task,
                "provider": reservation.provider,
                "model": reservation.model,
                "over_capture": None if reservation.over_capture == "reject" else reservation.over_capture,
                "on_expired": None if reservation.on_expired == "reject" else reservation.on_expired,
                "price": reservation.price,
                "stands": _stands(reservation),
            }
        if placed.refund is not None:
            fields["refund_of"], fields["refunded"] = placed.refund
        entry = Entry(
            format=FORMAT,
            kind="adjusted",
            at_ms=self._then.at_ms,
            incarnation=self._incarnation,
            nonce=self._then.link,
            by=self._by,
            notes=sealed.hash if sealed else None,
            adopted=(self._loss.first, self._loss.last),
            **fields,
        )
        return Line(place, entry, _encode(entry), sealed.text.encode() if sealed else None)

    def _linked(self, lines: list[Line]) -> list[Line]:
        """The first one names the call of the cursor."""
        entry = msgspec.structs.replace(lines[0].entry, previous_nonce=self._link)
        return [lines[0]._replace(entry=entry, text=_encode(entry)), *lines[1:]]


def _rest(known: Account | None, theirs: Account, moves: Iterable[Sequence[Leg]]) -> list[Leg]:
    """What is available from the first entry on: also what later ones will set aside."""
    available = {(lot.bucket, lot.expires_at_ms): -lot.available for lot in (known.lots if known else [])}
    for lot in theirs.lots:
        key = (lot.bucket, lot.expires_at_ms)
        available[key] = available.get(key, 0) + lot.available
    for legs in moves:
        for leg in legs:
            key = (leg.bucket, leg.expires_at_ms)
            available[key] = available.get(key, 0) - leg.available
    return [Leg(bucket, expires, by, 0) for (bucket, expires), by in available.items() if by]


def _held_legs(reservation: Reservation | None, stored: Stored) -> list[Leg]:
    """A reservation that was opened sets aside; what one that has ended, or was captured in part, gave back
    or spent is in the rest.
    """
    if reservation is None:
        return []
    ours = stored.reservations.get(reservation.id)
    before = ours.legs if ours is not None else []
    if ours is None and reservation.status == "pending":
        return [Leg(leg.bucket, leg.expires_at_ms, -leg.held, leg.held) for leg in reservation.legs]
    return [
        Leg(leg.bucket, leg.expires_at_ms, 0, -leg.held)
        for leg in _taken(before, sum(leg.held for leg in before) - reservation.held)
    ]


def _taken(legs: Sequence[HeldLeg], amount: int) -> list[HeldLeg]:
    """The first `amount` of what was held."""
    held = sum(leg.held for leg in legs) - amount
    rest = {(leg.bucket, leg.expires_at_ms): leg.held for leg in still_held(legs, held)}
    taken = [replace(leg, held=leg.held - rest.get((leg.bucket, leg.expires_at_ms), 0)) for leg in legs]
    return [leg for leg in taken if leg.held]


def _notes(place: int, was: Reservation | None) -> Sealed | None:
    """What stood beside the lost entry, where Redis remembers it: a restore finds it there."""
    reason: str | None = REASON
    resource = metadata = None
    if was is not None:
        if place == was.ended_sequence and was.status == "cancelled":
            reason = was.cancel_reason
        if place in (was.reserved_sequence, was.bound_sequence):
            resource = was.resource
        if place == was.reserved_sequence:
            metadata = was.metadata
    return seal(reason, resource, metadata)


def _stands(each: Reservation) -> Stands:
    return Stands(
        status=each.status,
        reserved=each.reserved,
        captured=each.captured,
        charged=each.charged,
        released=each.released,
        held=each.held,
        deadline_ms=each.expires_at_ms,
        created_at_ms=each.created_at_ms,
        reserved_sequence=each.reserved_sequence,
        bound_sequence=each.bound_sequence,
        ended_sequence=each.ended_sequence,
        settled_at_ms=each.settled_at_ms,
        cause=each.cancel_cause,
        late=each.late,
        extensions=each.extensions,
        parts=[(part.sequence, part.key, part.fingerprint) for part in each.parts],
    )

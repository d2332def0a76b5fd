"""What entries lead to: an account with its lots, and the reservations that they touch."""

from collections.abc import Iterable
from uuid import UUID

from msgspec import Struct

from app.ledger.entries import Entry
from app.ledger.replies import Account, HeldLeg, Reservation
from persistence import folding
from persistence.folding import Contradiction, still_held


def is_reservation_id(text: str) -> bool:
    """Whether PostgreSQL can be asked for it; Redis may have anything in such a place."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


class State(Struct):
    """An account as of a version, and reservations as of the same moment: all that are open, and those that
    were asked for or ended since. `legs`: what the open ones hold of which lot.
    """

    account: folding.Account
    reservations: dict[str, folding.Reservation]
    legs: dict[str, list[HeldLeg]]

    @classmethod
    def of_nothing(cls, account: str, shard: int) -> "State":
        """Before the first entry."""
        return cls(folding.Account(account, shard, 0, 0), {}, {})

    @classmethod
    def of(cls, name: str, shard: int, account: Account, reservations: Iterable[Reservation]) -> "State":
        """As `persistence.rebuild` gives it."""
        lots = [
            folding.Lot(each.bucket, each.expires_at_ms, each.priority, each.available, each.held, each.since)
            for each in account.lots
        ]
        folded = folding.Account(
            name, shard, 0, 0, account.version, account.available, account.held, lots,
            account.overdraft_limit, account.status, account.low_balance,
        )  # fmt: skip
        state = cls(folded, {}, {})
        state.add(reservations)
        return state

    def add(self, reservations: Iterable[Reservation]) -> None:
        """Take in more reservations of the account, as of the same moment."""
        for each in reservations:
            self.reservations[each.id] = _folded(each)
            if each.status == "pending":
                self.legs[each.id] = each.legs

    @property
    def open(self) -> list[folding.Reservation]:
        return [each for each in self.reservations.values() if each.status == "pending"]

    @property
    def lapses_at_ms(self) -> int:
        """When the next of its lots lapses that has something available; 0: none."""
        return min(
            (lot.expires_at_ms for lot in self.account.lots if lot.expires_at_ms and lot.available), default=0
        )

    def fold(self, entry: Entry, sequence: int) -> None:
        """Move on by one entry of the account.

        Raises:
            Contradiction: It does not follow. The state is not to be used any more.
        """
        held = self.account.fold(entry)
        if entry.reservation is None or entry.kind == "refunded":
            return
        if entry.kind == "reserved":
            self.reservations[entry.reservation] = folding.Reservation.made_by(entry, sequence, held)
            self.legs[entry.reservation] = _held(entry)
            return
        reservation = self.reservations.get(entry.reservation)
        if entry.kind == "adjusted":
            adopted = folding.Reservation.adopted_by(entry, reservation, held)
            self.reservations[entry.reservation] = adopted
            if reservation is None:
                self.legs[entry.reservation] = _held(entry)
            self._keep_legs(adopted)
        elif reservation is not None:
            reservation.fold(entry, sequence, held)
            self._keep_legs(reservation)
        # One that has ended may be bound or confirmed later, and nobody asked for it.
        elif entry.kind != "bound" and not entry.late:
            raise Contradiction(f"is about reservation {entry.reservation}, which is not open")

    def _keep_legs(self, reservation: folding.Reservation) -> None:
        """What it holds now of what it held before."""
        legs = self.legs.pop(reservation.id, [])
        if reservation.status == "pending":
            self.legs[reservation.id] = still_held(legs, reservation.held)


def _held(entry: Entry) -> list[HeldLeg]:
    return [HeldLeg(each.bucket, each.expires_at_ms, each.held) for each in entry.legs if each.held > 0]


def _folded(each: Reservation) -> folding.Reservation:
    return folding.Reservation(
        id=each.id,
        account=each.account,
        reserved=each.reserved,
        held=each.held,
        expires_at_ms=each.expires_at_ms,
        created_at_ms=each.created_at_ms,
        reserved_seq=each.reserved_sequence,
        status=each.status,
        captured=each.captured,
        charged=each.charged,
        released=each.released,
        settled_at_ms=each.settled_at_ms,
        cancel_cause=each.cancel_cause,
        task=each.task,
        provider=each.provider,
        model=each.model,
        bound_seq=each.bound_sequence,
        ended_seq=each.ended_sequence,
        late=each.late,
        extensions=each.extensions,
        parts=list(each.parts),
        over_capture=each.over_capture,
        on_expired=each.on_expired,
        price=each.price,
    )

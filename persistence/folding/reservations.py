"""A reservation, from the entry that makes it to the one that ends it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.ledger.entries import Entry, Price
from app.ledger.replies import HeldLeg, Part
from persistence.folding.proof import Contradiction


@dataclass(slots=True)
class Reservation:
    """A reservation as of its last entry. The sequences name the entries that made, bound and ended it."""

    id: str
    account: str
    reserved: int
    held: int
    expires_at_ms: int
    created_at_ms: int
    reserved_seq: int
    status: str = "pending"
    captured: int = 0
    charged: int = 0
    released: int = 0
    settled_at_ms: int | None = None
    cancel_cause: str | None = None
    task: str | None = None
    provider: str | None = None
    model: str | None = None
    bound_seq: int | None = None
    ended_seq: int | None = None
    late: bool = False
    extensions: int = 0
    parts: list[Part] = field(default_factory=list)
    over_capture: str = "reject"
    on_expired: str = "reject"
    price: Price | None = None

    @classmethod
    def made_by(cls, entry: Entry, sequence: int, held: int) -> "Reservation":
        """Raises `Contradiction` when the entry does not hold what it reserves."""
        if entry.reservation is None or entry.deadline_ms is None or not 0 < entry.amount == held:
            raise Contradiction(f"reserves {entry.amount} and holds {held}")
        return cls(
            id=entry.reservation,
            account=entry.account,
            reserved=entry.amount,
            held=entry.amount,
            expires_at_ms=entry.deadline_ms,
            created_at_ms=entry.at_ms,
            reserved_seq=sequence,
            task=entry.task,
            provider=entry.provider,
            model=entry.model,
            bound_seq=None if entry.task is None else sequence,
            over_capture=entry.over_capture or "reject",
            on_expired=entry.on_expired or "reject",
            price=entry.price,
        )

    @classmethod
    def adopted_by(cls, entry: Entry, before: "Reservation | None", held: int) -> "Reservation":
        """As an entry says that it stands, which changes what is held by `held`.

        Raises:
            Contradiction: It held something else before.
        """
        stands = entry.stands
        if entry.reservation is None or stands is None:
            raise Contradiction("does not say how its reservation stands")
        if (before.held if before is not None else 0) + held != stands.held:
            raise Contradiction(f"says that {stands.held} are held, and changes what is held by {held}")
        return cls(
            id=entry.reservation,
            account=entry.account,
            reserved=stands.reserved,
            held=stands.held,
            expires_at_ms=stands.deadline_ms,
            created_at_ms=stands.created_at_ms,
            reserved_seq=stands.reserved_sequence,
            status=stands.status,
            captured=stands.captured,
            charged=stands.charged,
            released=stands.released,
            settled_at_ms=stands.settled_at_ms,
            cancel_cause=stands.cause,
            task=entry.task,
            provider=entry.provider,
            model=entry.model,
            bound_seq=stands.bound_sequence,
            ended_seq=stands.ended_sequence,
            late=stands.late,
            extensions=stands.extensions,
            parts=[Part(*each) for each in stands.parts],
            over_capture=entry.over_capture or "reject",
            on_expired=entry.on_expired or "reject",
            price=entry.price,
        )

    def fold(self, entry: Entry, sequence: int, held: int) -> None:
        """Move on by an entry that binds, extends, captures a part of or ends it, and changes what is held by
        `held`.

        Raises:
            Contradiction: The reservation is not to be used any more.
        """
        if entry.account != self.account:
            raise Contradiction(f"is about a reservation of {self.account}, not of {entry.account}")
        if entry.kind == "bound":
            if held != 0:
                raise Contradiction(f"is bound and changes what is held by {held}")
            self.task, self.provider, self.bound_seq = entry.task, entry.provider, sequence
        elif entry.kind == "extended":
            self._extend(entry, held)
        elif entry.late:
            self._confirm_late(entry, sequence, held)
        else:
            self._settle(entry, sequence, held)

    def _extend(self, entry: Entry, held: int) -> None:
        deadline_ms = entry.deadline_ms or 0
        if self.status != "pending" or held != 0 or deadline_ms < self.expires_at_ms:
            raise Contradiction(
                f"extends reservation {self.id} ({self.status}, until {self.expires_at_ms}) to {deadline_ms} "
                f"and changes what is held by {held}"
            )
        self.expires_at_ms = deadline_ms
        self.extensions += 1

    def _confirm_late(self, entry: Entry, sequence: int, held: int) -> None:
        """The second ending of one that the deadline had ended: all of it is charged."""
        captured, charged, released = entry.captured or 0, entry.charged or 0, entry.released or 0
        moved = captured, charged, released, held
        if (
            entry.kind != "confirmed"
            or self.cancel_cause != "expired"
            or charged < 0
            or moved != (0, entry.amount, 0, 0)
        ):
            raise Contradiction(
                f"confirms reservation {self.id} ({self.cancel_cause or self.status}) late with {captured} "
                f"captured, {charged} charged, {released} released and {held} held"
            )
        self.status, self.cancel_cause, self.late = "confirmed", None, True
        self.charged += charged
        self.model = entry.model or self.model
        self.settled_at_ms, self.ended_seq = entry.at_ms, sequence

    def _settle(self, entry: Entry, sequence: int, held: int) -> None:
        captured, charged, released = entry.captured or 0, entry.charged or 0, entry.released or 0
        if (
            self.status != "pending"
            or captured + released + held != 0
            or captured + released > self.held
            or min(captured, charged, released) < 0
        ):
            raise Contradiction(
                f"ends reservation {self.id} ({self.status}, {self.held} held) with {captured} captured, "
                f"{released} released and {held} held"
            )
        is_confirmed, leaves = entry.kind == "confirmed", self.held + held
        if leaves and (not is_confirmed or released or charged):
            raise Contradiction(f"ends reservation {self.id} and leaves {leaves} held")
        if entry.amount != (captured + charged if is_confirmed else released):
            raise Contradiction(
                f"is of {entry.amount} {entry.kind}, with {captured} captured, {charged} charged and "
                f"{released} released"
            )
        self.captured += captured
        self.charged += charged
        self.released += released
        self.held = leaves
        self.model = entry.model or self.model
        if leaves:
            self.parts.append(Part(sequence, entry.key or "", entry.fingerprint or ""))
            return
        self.settled_at_ms, self.ended_seq = entry.at_ms, sequence
        self.status = "confirmed" if is_confirmed else "cancelled"
        if not is_confirmed:
            self.cancel_cause = "expired" if entry.kind == "expired" else entry.cause


def still_held(legs: Sequence[HeldLeg], held: int) -> list[HeldLeg]:
    """What is left of `legs` when parts were captured until `held` credits remain: they took the first."""
    taken = sum(leg.held for leg in legs) - held
    rest = []
    for leg in legs:
        part = min(taken, leg.held)
        taken -= part
        if part < leg.held:
            rest.append(HeldLeg(leg.bucket, leg.expires_at_ms, leg.held - part))
    return rest

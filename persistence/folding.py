"""What entries add up to, in plain Python: accounts with their lots, and reservations.

The rules by which lots come and go are those of `lua/parts/lots.lua`; a test holds the two against each
other, row by row. An entry that does not follow from what came before it is not folded in: its version must
be the next one, its legs must lead from the balance before it to the balance that it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from app.ledger.entries import Entry

LOTS_MAX = 64
PRIORITY = 100
NEVER = 0


class Contradiction(Exception):
    """An entry says one thing and what came before it another. The text says which."""


@dataclass(slots=True)
class Lot:
    """A bucket's credits of one expiry (0: never). `since`: the account's version when it last began to hold
    something.
    """

    bucket: str
    expires_at_ms: int
    priority: int
    available: int = 0
    held: int = 0
    since: int = 0

    @property
    def is_empty(self) -> bool:
        return self.available == 0 and self.held == 0


@dataclass(slots=True)
class Account:
    """An account as of its last entry. `lots` stand in spending order."""

    id: str
    shard: int
    opened_at_ms: int
    last_at_ms: int
    version: int = 0
    available: int = 0
    held: int = 0
    lots: list[Lot] = field(default_factory=list)

    def fold(self, entry: Entry) -> int:
        """Move on by one entry, and return how much more is held after it.

        Raises:
            Contradiction: Nothing was moved, or the account is not to be used any more.
        """
        if entry.version != self.version + 1:
            raise Contradiction(
                f"is version {entry.version} of {self.id}, which is at version {self.version}"
            )
        available = held = 0
        for leg in entry.legs:
            available += leg.available
            held += leg.held
        if self.available + available != entry.available or self.held + held != entry.held:
            raise Contradiction(
                f"says {entry.available} available and {entry.held} held in {self.id}; its legs lead "
                f"to {self.available + available} and {self.held + held}"
            )
        self._settle(entry)
        if entry.lots is not None:
            self._stand(entry.lots)
        self.version, self.available, self.held = entry.version, entry.available, entry.held
        self.last_at_ms = entry.at_ms
        return held

    def _settle(self, entry: Entry) -> None:
        is_reordered = False
        for leg in entry.legs:
            lot = self._lot(leg.bucket, leg.expires_at_ms)
            if lot is None:
                lot = Lot(leg.bucket, leg.expires_at_ms, self._priority(leg.bucket))
                self.lots.append(lot)
            if lot.is_empty:
                lot.since = entry.version
                is_reordered = True
            lot.available += leg.available
            lot.held += leg.held
            if lot.available < 0 or lot.held < 0:
                raise Contradiction(f"takes more out of bucket {lot.bucket} of {self.id} than there is")
            is_reordered = is_reordered or lot.is_empty
        if entry.priority is not None:
            for lot in self.lots:
                if lot.bucket == entry.bucket and lot.priority != entry.priority:
                    lot.priority = entry.priority
                    is_reordered = True
        if is_reordered:
            self._tidy()
            self.lots.sort(key=spending_order)

    def _stand(self, rows: Sequence[tuple[str, int, int, int, int, int]]) -> None:
        """Take over lots as they are said to stand: the same credits, with what legs do not tell."""
        lots = [Lot(bucket, expires, priority, *rest) for bucket, priority, expires, *rest in rows]
        if _credits(lots) != _credits(self.lots):
            raise Contradiction(f"says that lots of {self.id} stand where its legs do not lead")
        self.lots = lots

    def _lot(self, bucket: str, expires_at_ms: int) -> Lot | None:
        for lot in self.lots:
            if lot.bucket == bucket and lot.expires_at_ms == expires_at_ms:
                return lot
        return None

    def _priority(self, bucket: str) -> int:
        return next((lot.priority for lot in self.lots if lot.bucket == bucket), PRIORITY)

    def _tidy(self) -> None:
        """Drop empty lots, but for the last row of a bucket; beyond the limit even those, oldest first."""
        rows: dict[str, int] = {}
        for lot in self.lots:
            rows[lot.bucket] = rows.get(lot.bucket, 0) + 1
        kept = []
        for lot in self.lots:
            if lot.is_empty and rows[lot.bucket] > 1:
                rows[lot.bucket] -= 1
                continue
            if lot.is_empty:
                lot.expires_at_ms = NEVER
            kept.append(lot)
        excess = len(kept) - LOTS_MAX
        if excess > 0:
            empty = sorted((lot for lot in kept if lot.is_empty), key=lambda lot: (lot.since, lot.bucket))
            gone = {id(lot) for lot in empty[:excess]}
            kept = [lot for lot in kept if id(lot) not in gone]
        self.lots = kept


def _credits(lots: Sequence[Lot]) -> dict[tuple[str, int], tuple[int, int]]:
    return {(lot.bucket, lot.expires_at_ms): (lot.available, lot.held) for lot in lots if not lot.is_empty}


def spending_order(lot: Lot) -> tuple[int, float, int, str]:
    """Lower priority number first, then the soonest expiry (never is last), then the oldest."""
    return lot.priority, lot.expires_at_ms or inf, lot.since, lot.bucket


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
        )

    def fold(self, entry: Entry, sequence: int, held: int) -> None:
        """Move on by an entry that binds or ends it and changes what is held by `held`.

        Raises:
            Contradiction: The reservation is not to be used any more.
        """
        if entry.account != self.account:
            raise Contradiction(f"is about a reservation of {self.account}, not of {entry.account}")
        if entry.kind == "bound":
            self.task, self.provider, self.bound_seq = entry.task, entry.provider, sequence
            return
        captured, released = entry.captured or 0, entry.released or 0
        if self.status != "pending" or captured + released + held != 0 or captured + released > self.held:
            raise Contradiction(
                f"ends reservation {self.id} ({self.status}, {self.held} held) with {captured} captured, "
                f"{released} released and {held} held"
            )
        self.captured += captured
        self.charged += entry.charged or 0
        self.released += released
        self.held += held
        self.model = entry.model or self.model
        if self.held == 0:
            self.settled_at_ms, self.ended_seq = entry.at_ms, sequence
            self.status = "confirmed" if entry.kind == "confirmed" else "cancelled"
            if entry.kind != "confirmed":
                self.cancel_cause = "expired" if entry.kind == "expired" else entry.cause
        elif entry.kind != "confirmed":
            raise Contradiction(f"ends reservation {self.id} and leaves {self.held} held")

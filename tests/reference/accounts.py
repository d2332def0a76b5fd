"""The nouns: lots, accounts and holds. An account changes only by the legs of an entry."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

from app.ledger import replies
from app.ledger.entries import FORMAT, Leg
from app.ledger.operations import Reserve

LOTS_MAX = 64
PRIORITY = 100


@dataclass
class Lot:
    """A bucket's credits of one expiry (0: never). `since`: the version with which it ceased to be empty."""

    bucket: str
    priority: int
    expires_at_ms: int
    since: int
    available: int = 0
    held: int = 0

    @property
    def empty(self) -> bool:
        return self.available == 0 and self.held == 0

    def due(self, now_ms: int) -> bool:
        return 0 < self.expires_at_ms <= now_ms and self.available > 0


def spending_order(lot: Lot) -> tuple[int, float, int]:
    """Lower priority first, then the soonest expiry (never is last), then the oldest."""
    return lot.priority, lot.expires_at_ms or inf, lot.since


@dataclass
class Account:
    """Who owns credits."""

    id: str
    version: int = 0
    lots: list[Lot] = field(default_factory=list)
    open_holds: dict[str, int] = field(default_factory=dict)
    """The deadlines of the pending reservations, by reservation id."""

    @property
    def available(self) -> int:
        return sum(lot.available for lot in self.lots)

    @property
    def held(self) -> int:
        return sum(lot.held for lot in self.lots)

    @property
    def lapses_at_ms(self) -> int:
        """The soonest expiry of a lot that has something available; 0 when there is none."""
        return min((lot.expires_at_ms for lot in self.lots if lot.expires_at_ms and lot.available), default=0)

    def lot(self, bucket: str, expires_at_ms: int) -> Lot | None:
        name = (bucket, expires_at_ms)
        return next((lot for lot in self.lots if (lot.bucket, lot.expires_at_ms) == name), None)

    def take(self, amount: int) -> list[tuple[Lot, int]]:
        """From which lots `amount` available credits come, in spending order."""
        taken = []
        for lot in self.lots:
            if amount and lot.available:
                taken.append((lot, min(lot.available, amount)))
                amount -= taken[-1][1]
        assert amount == 0, "more was taken than is available"
        return taken

    def crowded_by(self, bucket: str, expires_at_ms: int) -> bool:
        """Whether a grant needs one row more than there may be, also after every empty row is dropped."""
        if self.lot(bucket, expires_at_ms):
            return False
        return sum(not lot.empty for lot in self.lots) >= LOTS_MAX

    def make_room(self, bucket: str, expires_at_ms: int, priority: int | None) -> None:
        """Make the lot of a grant if need be; give all lots of the bucket its priority.

        The empty row that kept the bucket's priority makes way; when there are 64 rows, so do the empty rows
        of other buckets, oldest first.
        """
        of_bucket = [lot for lot in self.lots if lot.bucket == bucket]
        if priority is None:
            priority = of_bucket[0].priority if of_bucket else PRIORITY
        if self.lot(bucket, expires_at_ms) is None:
            self.lots = [each for each in self.lots if each.bucket != bucket or not each.empty]
            while len(self.lots) >= LOTS_MAX:
                self.lots.remove(min((each for each in self.lots if each.empty), key=lambda each: each.since))
            self.lots.append(Lot(bucket, priority, expires_at_ms, since=self.version))
        for each in self.lots:
            if each.bucket == bucket:
                each.priority = priority

    def move(self, legs: list[Leg]) -> None:
        """Move every lot as its leg says, at the present version; drop the lots that are empty afterwards."""
        were_empty = [lot for lot in self.lots if lot.empty]
        for leg in legs:
            lot = self.lot(leg.bucket, leg.expires_at_ms)
            assert lot, "a leg of no lot"
            lot.available += leg.available
            lot.held += leg.held
        for lot in were_empty:
            if not lot.empty:
                lot.since = self.version
        self._drop_empty()

    def _drop_empty(self) -> None:
        """An empty lot goes, but the last row of a bucket stays, without an expiry, to keep the priority."""
        for lot in [lot for lot in self.lots if lot.empty]:
            if sum(each.bucket == lot.bucket for each in self.lots) > 1:
                self.lots.remove(lot)
            else:
                lot.expires_at_ms = 0
        self.lots.sort(key=spending_order)

    def stored(self) -> replies.Account:
        """The account as Redis stores it and every answer shows it."""
        lots = [
            replies.Lot(lot.bucket, lot.priority, lot.expires_at_ms, lot.available, lot.held, lot.since)
            for lot in self.lots
        ]
        return replies.Account(
            format=FORMAT, version=self.version, available=self.available, held=self.held, lots=lots,
            open_holds=len(self.open_holds), lapses_at_ms=self.lapses_at_ms,
        )  # fmt: skip


@dataclass
class Hold:
    """A reservation. `legs`: what it still holds of which lot, in the order in which a confirm takes it."""

    asked: Reserve
    created_at_ms: int
    legs: list[replies.HeldLeg]
    reserved_sequence: int = 0
    status: str = "pending"
    captured: int = 0
    released: int = 0
    bound_sequence: int | None = None
    ended_sequence: int | None = None
    settled_at_ms: int | None = None
    cause: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        self.task, self.provider = self.asked.task, self.asked.provider
        self.resource, self.model = self.asked.resource, self.asked.model

    @property
    def id(self) -> str:
        return self.asked.reservation

    @property
    def account(self) -> str:
        return self.asked.account

    @property
    def deadline_ms(self) -> int:
        return self.created_at_ms + self.asked.ttl_ms

    @property
    def held(self) -> int:
        return sum(leg.held for leg in self.legs)

    @property
    def references(self) -> dict[str, str | None]:
        """By what its entries are found, besides its id."""
        return {"reservation": self.id, "task": self.task, "provider": self.provider, "model": self.model}

    def capture(self, amount: int) -> list[Leg]:
        """The legs of a confirm of `amount`: captured in order; the rest goes back in reverse order."""
        captured: list[Leg] = []
        released: list[Leg] = []
        for leg in self.legs:
            spent = min(leg.held, amount)
            amount -= spent
            (captured if spent else released).append(
                Leg(leg.bucket, leg.expires_at_ms, leg.held - spent, -leg.held)
            )
        return captured + released[::-1]

    def end(self, status: str, captured: int, sequence: int, now_ms: int) -> None:
        """One ending (I5): what is not captured is released."""
        assert self.status == "pending", "a second ending"
        self.captured, self.released, self.legs = captured, self.held - captured, []
        self.status, self.ended_sequence, self.settled_at_ms = status, sequence, now_ms

    def stored(self) -> replies.Reservation:
        """The reservation as Redis stores it and every answer shows it."""
        facts: dict[str, Any] = {"status": self.status, "cancel_cause": self.cause}
        return replies.Reservation(
            format=FORMAT, id=self.id, account=self.account, reserved=self.asked.amount,
            captured=self.captured, charged=0, released=self.released, held=self.held, legs=self.legs,
            expires_at_ms=self.deadline_ms, created_at_ms=self.created_at_ms,
            settled_at_ms=self.settled_at_ms, reserved_sequence=self.reserved_sequence,
            bound_sequence=self.bound_sequence, ended_sequence=self.ended_sequence,
            cancel_reason=self.reason, task=self.task, provider=self.provider, resource=self.resource,
            model=self.model, metadata=self.asked.metadata or None, **facts,
        )  # fmt: skip

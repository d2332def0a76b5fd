"""Lots and accounts. An account changes only by the legs of an entry and by its settings."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import msgspec

from app.ledger import replies
from app.ledger.entries import FORMAT, Leg

LOTS_MAX = 64
PRIORITY = 100
DEFAULT = "default"
OVERDRAFT = "overdraft"
OVERDRAFT_PRIORITY = 1_000_001


@dataclass
class Lot:
    """A bucket's credits of one expiry (0: never). `since`: the version with which it ceased to be empty.

    Debt is a lot too: of the bucket `overdraft`, never above zero, and there only while something is owed.
    """

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


def spending_order(lot: Lot) -> tuple[int, float, int, str]:
    """Lower priority first, then the soonest expiry (never is last), then the oldest; what one entry has made
    of the same priority and expiry, by name.
    """
    return lot.priority, lot.expires_at_ms or inf, lot.since, lot.bucket


def merged(legs: Iterable[Leg]) -> list[Leg]:
    """Each lot with one leg at most, in the order in which it was first named; what moves nothing is left
    out.
    """
    sums: dict[tuple[str, int], tuple[int, int]] = {}
    for leg in legs:
        available, held = sums.get((leg.bucket, leg.expires_at_ms), (0, 0))
        sums[leg.bucket, leg.expires_at_ms] = (available + leg.available, held + leg.held)
    return [Leg(*lot, *moved) for lot, moved in sums.items() if any(moved)]


@dataclass
class Account:
    """Who owns credits."""

    id: str
    version: int = 0
    lots: list[Lot] = field(default_factory=list)
    open_holds: dict[str, int] = field(default_factory=dict)
    """The deadlines of the pending reservations, by reservation id."""
    overdraft_limit: int = 0
    status: Literal["active", "frozen", "closed"] = "active"
    low_balance: int = 0

    def __copy__(self) -> "Account":
        twin = Account(**vars(self))
        twin.lots, twin.open_holds = [copy(lot) for lot in self.lots], dict(self.open_holds)
        return twin

    @property
    def available(self) -> int:
        """May be negative: then it is debt, and no other lot has anything available."""
        return sum(lot.available for lot in self.lots)

    @property
    def held(self) -> int:
        return sum(lot.held for lot in self.lots)

    @property
    def debt(self) -> int:
        return sum(-lot.available for lot in self.lots if lot.bucket == OVERDRAFT)

    @property
    def room(self) -> int:
        """What can be spent at once."""
        return self.available + self.overdraft_limit

    @property
    def lapses_at_ms(self) -> int:
        """The soonest expiry of a lot that has something available; 0 when there is none."""
        return min((lot.expires_at_ms for lot in self.lots if lot.expires_at_ms and lot.available), default=0)

    def lot(self, bucket: str, expires_at_ms: int) -> Lot | None:
        name = (bucket, expires_at_ms)
        return next((lot for lot in self.lots if (lot.bucket, lot.expires_at_ms) == name), None)

    def of_bucket(self, bucket: str | None) -> list[Lot]:
        return [lot for lot in self.lots if bucket in {None, lot.bucket}]

    # What an operation would move

    def taken(self, amount: int, bucket: str | None = None) -> list[Leg]:
        """From where `amount` credits come: available ones in spending order, what is short from the
        overdraft.
        """
        legs = []
        for lot in self.of_bucket(bucket):
            part = max(0, min(lot.available, amount))
            legs.append(Leg(lot.bucket, lot.expires_at_ms, -part, 0))
            amount -= part
        assert amount == 0 or bucket is None, "a bucket has no overdraft"
        return merged([*legs, Leg(OVERDRAFT, 0, -amount, 0)])

    def after_debt(self, legs: list[Leg]) -> list[Leg]:
        """What comes in repays the debt first: the legs of what is left of it, and then what was repaid."""
        owed, left = self.debt, []
        for leg in legs:
            repaid = max(0, min(leg.available, owed))
            owed -= repaid
            left.append(msgspec.structs.replace(leg, available=leg.available - repaid))
        return merged([*left, Leg(OVERDRAFT, 0, self.debt - owed, 0)])

    def crowded_by(self, legs: Iterable[Leg]) -> bool:
        """Whether more lots would have something after them than there may be, debt not counted."""
        lots = [Leg(lot.bucket, lot.expires_at_ms, lot.available, lot.held) for lot in self.lots]
        return sum(leg.bucket != OVERDRAFT for leg in merged([*lots, *legs])) > LOTS_MAX

    # What an entry moves

    def move(self, legs: list[Leg]) -> None:
        """Move every lot as its leg says, at the present version; make those that are missing, drop those
        that are empty afterwards.
        """
        for leg in legs:
            lot = self.lot(leg.bucket, leg.expires_at_ms) or self._make(leg.bucket, leg.expires_at_ms)
            if lot.empty:
                lot.since = self.version
            lot.available += leg.available
            lot.held += leg.held
        self._drop_empty()

    def prioritise(self, bucket: str, priority: int) -> None:
        """Priority belongs to the bucket: all its lots have it."""
        for lot in self.of_bucket(bucket):
            lot.priority = priority
        self.lots.sort(key=spending_order)

    def _make(self, bucket: str, expires_at_ms: int) -> Lot:
        """A lot that is not there yet has the priority of its bucket."""
        new = OVERDRAFT_PRIORITY if bucket == OVERDRAFT else PRIORITY
        priority = next((lot.priority for lot in self.lots if lot.bucket == bucket), new)
        self.lots.append(Lot(bucket, priority, expires_at_ms, since=self.version))
        return self.lots[-1]

    def _drop_empty(self) -> None:
        """An empty lot goes, but the last row of a bucket stays, without an expiry, to keep the priority.
        When there are more than 64 rows even those go, oldest first. Debt that is repaid leaves nothing.
        """
        for lot in [lot for lot in self.lots if lot.empty]:
            if lot.bucket == OVERDRAFT or len(self.of_bucket(lot.bucket)) > 1:
                self.lots.remove(lot)
            else:
                lot.expires_at_ms = 0
        while sum(lot.bucket != OVERDRAFT for lot in self.lots) > LOTS_MAX:
            empty = [lot for lot in self.lots if lot.empty]
            self.lots.remove(min(empty, key=lambda lot: (lot.since, lot.bucket)))
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
            overdraft_limit=self.overdraft_limit, status=self.status, low_balance=self.low_balance,
        )  # fmt: skip

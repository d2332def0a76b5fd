"""An account with its lots and settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from app.ledger import replies
from app.ledger.entries import Entry
from persistence.folding.proof import Contradiction, demand_proved, takes_a_lost_place

LOTS_MAX = 64
PRIORITY = 100
NEVER = 0

OVERDRAFT, LAST_PRIORITY = "overdraft", 1_000_001
"""Debt is a lot of this bucket, below zero, behind all others."""

Status = Literal["active", "frozen", "closed"]


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
    overdraft_limit: int = 0
    status: Status = "active"
    low_balance: int = 0

    @property
    def settings(self) -> tuple[int, Status, int]:
        return self.overdraft_limit, self.status, self.low_balance

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
        demand_proved(entry, available + held)
        if entry.lots is not None:
            self._stand(entry.lots)
        if entry.kind in {"configured", "adjusted"}:
            self._configure(entry)
        if entry.available < 0 and entry.available < -self.overdraft_limit:
            raise Contradiction(
                f"leaves {entry.available} available in {self.id}, which may owe {self.overdraft_limit}"
            )
        self.version, self.available, self.held = entry.version, entry.available, entry.held
        self.last_at_ms = entry.at_ms
        return held

    def _configure(self, entry: Entry) -> None:
        if entry.kind == "adjusted" and not takes_a_lost_place(entry):
            return
        if entry.overdraft_limit is not None:
            self.overdraft_limit = entry.overdraft_limit
        if entry.status is not None:
            self.status = entry.status
        if entry.low_balance is not None:
            self.low_balance = entry.low_balance

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
            if lot.bucket == OVERDRAFT:
                self._demand_debt(lot)
            elif lot.available < 0 or lot.held < 0:
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

    def _demand_debt(self, lot: Lot) -> None:
        if lot.available > 0 or lot.held or lot.expires_at_ms != NEVER:
            raise Contradiction(
                f"says that the debt of {self.id} is {lot.available} available and {lot.held} held"
            )

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
        if bucket == OVERDRAFT:
            return LAST_PRIORITY
        return next((lot.priority for lot in self.lots if lot.bucket == bucket), PRIORITY)

    def _tidy(self) -> None:
        """Drop empty lots, but for the last row of a bucket; beyond the limit even those, oldest first. Debt
        is none of them, and leaves nothing.
        """
        rows: dict[str, int] = {}
        for lot in self.lots:
            rows[lot.bucket] = rows.get(lot.bucket, 0) + 1
        kept = []
        for lot in self.lots:
            if lot.is_empty and (rows[lot.bucket] > 1 or lot.bucket == OVERDRAFT):
                rows[lot.bucket] -= 1
                continue
            if lot.is_empty:
                lot.expires_at_ms = NEVER
            kept.append(lot)
        excess = len(kept) - LOTS_MAX
        if excess > 0:
            excess -= sum(lot.bucket == OVERDRAFT for lot in kept)
            empty = sorted((lot for lot in kept if lot.is_empty), key=lambda lot: (lot.since, lot.bucket))
            gone = {id(lot) for lot in empty[:excess]}
            kept = [lot for lot in kept if id(lot) not in gone]
        self.lots = kept


def _credits(lots: Sequence[Lot]) -> dict[tuple[str, int], tuple[int, int]]:
    return {(lot.bucket, lot.expires_at_ms): (lot.available, lot.held) for lot in lots if not lot.is_empty}


def spending_order(lot: Lot | replies.Lot) -> tuple[int, float, int, str]:
    """Lower priority number first, then the soonest expiry (never is last), then the oldest."""
    return lot.priority, lot.expires_at_ms or inf, lot.since, lot.bucket

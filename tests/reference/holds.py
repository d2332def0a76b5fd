"""Reservations, as they are kept."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.ledger import replies
from app.ledger.entries import FORMAT, Leg, Price
from app.ledger.operations import Reserve


def price_of(text: str | None) -> Price | None:
    """What an amount was computed from, as an operation carries it."""
    return None if text is None else msgspec.json.decode(text, type=Price)


@dataclass
class Hold:
    """A reservation. `legs`: what it still holds of which lot, in the order in which a confirm takes it."""

    asked: Reserve
    created_at_ms: int
    legs: list[replies.HeldLeg]
    reserved_sequence: int = 0
    status: str = "pending"
    captured: int = 0
    charged: int = 0
    released: int = 0
    bound_sequence: int | None = None
    ended_sequence: int | None = None
    settled_at_ms: int | None = None
    cause: str | None = None
    reason: str | None = None
    late: bool = False
    extensions: int = 0
    parts: list[replies.Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.task, self.provider = self.asked.task, self.asked.provider
        self.resource, self.model = self.asked.resource, self.asked.model
        self.deadline_ms = self.created_at_ms + self.asked.ttl_ms

    @property
    def id(self) -> str:
        return self.asked.reservation

    @property
    def account(self) -> str:
        return self.asked.account

    @property
    def held(self) -> int:
        return sum(leg.held for leg in self.legs)

    @property
    def unspent(self) -> int:
        """What was reserved and has not been captured: what a late confirm may take without more ado."""
        return self.asked.amount - self.captured

    @property
    def references(self) -> dict[str, str | None]:
        """By what its entries are found, besides its id."""
        return {"reservation": self.id, "task": self.task, "provider": self.provider, "model": self.model}

    def capture(self, amount: int) -> tuple[list[Leg], list[replies.HeldLeg]]:
        """The legs that spend `amount` of what is held, in order, and what is held after them."""
        legs, rest = [], []
        for leg in self.legs:
            spent = min(leg.held, amount)
            amount -= spent
            if spent:
                legs.append(Leg(leg.bucket, leg.expires_at_ms, 0, -spent))
            if leg.held > spent:
                rest.append(replies.HeldLeg(leg.bucket, leg.expires_at_ms, leg.held - spent))
        assert amount == 0, "more was captured than is held"
        return legs, rest

    def stored(self) -> replies.Reservation:
        """The reservation as Redis stores it and every answer shows it."""
        facts: dict[str, Any] = {"status": self.status, "cancel_cause": self.cause}
        return replies.Reservation(
            format=FORMAT, id=self.id, account=self.account, reserved=self.asked.amount,
            captured=self.captured, charged=self.charged, released=self.released, held=self.held,
            legs=list(self.legs), expires_at_ms=self.deadline_ms, created_at_ms=self.created_at_ms,
            settled_at_ms=self.settled_at_ms, reserved_sequence=self.reserved_sequence,
            bound_sequence=self.bound_sequence, ended_sequence=self.ended_sequence,
            cancel_reason=self.reason, late=self.late, extensions=self.extensions, parts=list(self.parts),
            task=self.task, provider=self.provider, resource=self.resource, model=self.model,
            metadata=self.asked.metadata or None, over_capture=self.asked.over_capture,
            on_expired=self.asked.on_expired, price=price_of(self.asked.price), **facts,
        )  # fmt: skip


def released(held: list[replies.HeldLeg]) -> list[Leg]:
    """The legs that give back what was held: in reverse."""
    return [Leg(leg.bucket, leg.expires_at_ms, leg.held, -leg.held) for leg in reversed(held)]

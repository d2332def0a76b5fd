"""What comes in at the doors is kept: once for each task and ending. The types of that, and the protocol
through which the doors keep it; `main` plugs in PostgreSQL.

A row that is not settled may be acted on by anybody at any time, because the ledger does nothing twice.
"""

import re
from datetime import datetime
from typing import Literal, Protocol, get_args

from msgspec import Struct

from app.webhooks import payload
from app.webhooks.event import Event
from app.webhooks.event import Outcome as Ending
from app.webhooks.settling import Settlement

KEPT_DAYS = 30
WAITING_HOURS = 24

Outcome = Literal["succeeded", "failed", "progress", "reversed"]
RowStatus = Literal[
    "received", "verified", "late", "waiting", "unknown", "conflict", "refused", "rejected"
]  # fmt: skip

OPEN: tuple[RowStatus, ...] = ("received", "waiting", "unknown")
"""Of rows on which nobody has acted to an end."""

REPLAYABLE: tuple[RowStatus, ...] = (*OPEN, "refused", "conflict")


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Received(Struct, frozen=True, kw_only=True):
    """A delivery that was verified and read.

    Args:
        provider: Whose.
        path: The reservation whose callback URL was called; empty for the provider's common one.
        named: What the payload names: a task, a reservation, a payment, or a kind of event.
        outcome: What it tells of that. With the three above it is the same delivery, however often it comes.
        word: The provider's own.
        task, own, amount, reason: Of the event; `own` is the reservation that the payload names.
        payload: The JSON as it came.
    """

    provider: str
    path: str = ""
    named: str = ""
    outcome: Outcome
    word: str
    task: str | None = None
    own: str | None = None
    amount: int | None = None
    reason: str | None = None
    payload: str

    @classmethod
    def of(cls, event: Event, path: str | None, body: bytes) -> "Received":
        """An event of a provider of tasks. What is noted only is kept once for each task."""
        return cls(
            provider=event.provider,
            path=path or "",
            named=event.task or event.reservation or "",
            outcome=event.outcome,
            word=_CONTROLS.sub(" ", event.status)[:100],
            task=event.task,
            own=event.reservation,
            amount=event.amount,
            reason=event.reason,
            payload=body.decode(),
        )

    def event(self) -> Event:
        """The event that it was made of."""
        assert self.outcome in get_args(Ending), "payments are no events"
        return Event(
            provider=self.provider,
            outcome=self.outcome,  # type: ignore[arg-type]
            status=self.word,
            task=self.task,
            reservation=self.own,
            amount=self.amount,
            reason=self.reason,
            payload=payload.decoded(self.payload.encode()),
        )


class Row(Struct, frozen=True, kw_only=True):
    """A row as people see it. Of `rejected` ones there is one for each provider, reason and hour.

    `deliveries`: how often it came. `reservation`, `account`, `resource`, `transaction`, `credits`: what it
    was found to be about, and what was done. `payload`: the JSON as it came, where it was asked for and is
    kept.
    """

    id: int
    provider: str
    outcome: Outcome | None
    status: RowStatus
    why: str | None
    word: str | None
    task: str | None
    reason: str | None
    reservation: str | None
    account: str | None
    resource: str | None
    transaction: str | None
    credits: int | None
    deliveries: int
    received_at: datetime
    last_at: datetime
    settled_at: datetime | None
    payload: str | None = None


class RowFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which rows: all that is given must hold. `duplicate` are those that came more than once."""

    provider: str | None = None
    status: RowStatus | Literal["duplicate"] | None = None
    reservation: str | None = None
    task: str | None = None


class RowPage(Struct, frozen=True):
    """Newest first."""

    data: list[Row]
    next_cursor: str | None


LATELY_ROWS_MAX = 5_000


class Lately(Struct, frozen=True):
    """What one provider told in the last 24 hours that came to `status`; seconds are `None` where there is
    nothing to measure.

    Args:
        provider, status: Which.
        rows, deliveries, last_at: How many, how often they came, and when last.
        callback_median_seconds, callback_slow_seconds: From the reservation to the callback, half of them and
            95 in a hundred within.
        settling_slow_seconds: From the callback until it was acted on, 95 in a hundred within.
    """

    provider: str
    status: RowStatus
    rows: int
    deliveries: int
    last_at: datetime
    callback_median_seconds: float | None
    callback_slow_seconds: float | None
    settling_slow_seconds: float | None


class Kept(Struct, frozen=True):
    """A delivery that stands in the inbox, as it was before it came this time."""

    id: int
    status: RowStatus


class Granted(Struct, frozen=True):
    """What a payment was granted."""

    account: str
    credits: int


class Payments(Protocol):
    """What was paid. Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away."""

    async def granted(self, keys: tuple[str, ...]) -> Granted | None:
        """What was granted for the payment that is known by one of these keys."""
        ...

    async def claim(self, received: Received, keys: tuple[str, ...], share: int) -> int:
        """How many credits a delivery is to take back, `share` at most: whatever others claim at the same
        moment, all of them together no more than was granted. Settled the first time, and then for ever.
        """
        ...


class Inbox(Payments, Protocol):
    """Every method but `reject` raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away."""

    async def receive(self, received: Received) -> Kept:
        """Keep it, or count it where it came before. What is noted only is `verified` at once.

        Raises:
            app.webhooks.event.Unreadable: Its callback URL is used for more than one reservation can have.
        """
        ...

    async def settle(
        self, row: int, received: Received, settlement: Settlement, *, again: bool = False
    ) -> None:
        """Keep what came of it, and let whoever listens be told, unless somebody has settled it already.

        `again`: also what was refused or a conflict, because somebody wanted it to be tried again.
        """
        ...

    async def keep(self, received: Received, settlement: Settlement) -> None:
        """Both at once, for what was done while PostgreSQL was away. Raises as `receive`."""
        ...

    def reject(self, provider: str, why: str) -> None:
        """Count a delivery that could not be verified; written every few seconds."""
        ...

    async def page(self, which: RowFilter, *, cursor: str | None = None, limit: int = 50) -> RowPage:
        """A page of 1 to 200.

        Raises:
            app.reports.InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        ...

    async def lately(self) -> list[Lately]:
        """Of the last 24 hours, by provider and status; of the newest `LATELY_ROWS_MAX` rows only."""
        ...

    async def row(self, row: int) -> Row | None:
        """One, with its payload."""
        ...

    async def received(self, row: int) -> Received | None:
        """The delivery of a row, to be acted on again; `None` where its payload is no longer kept."""
        ...

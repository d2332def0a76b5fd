"""What other systems are told: the types of events with what each says, and the protocol through which HTTP
manages who is told. `main` plugs in PostgreSQL.

An event is delivered as `{"type": ..., "timestamp": ..., "data": {...}}` under the signature of Standard
Webhooks. The structs here are `data`: camelCase, times in RFC 3339 with milliseconds; what there is not is
left out.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

ENDPOINTS_MAX = 32
KEPT_DAYS = 30

EventType = Literal[
    "balance.low", "balance.depleted", "provider.finished", "reservation.confirmed",
    "reservation.confirmed_late", "reservation.cancelled", "reservation.expired", "reservation.due",
    "grant.lapsing", "reconciliation.drift", "health.critical",
]  # fmt: skip


class Payload(Struct, frozen=True, kw_only=True, rename="camel"):
    """The `data` of an event."""


class BalanceLow(Payload, frozen=True, kw_only=True):
    """Less than the account's `lowBalance` is available. Told again after a tenth more than that was."""

    account_id: str
    available: int
    held: int
    low_balance: int
    version: int
    transaction_id: str


class BalanceDepleted(Payload, frozen=True, kw_only=True):
    """Nothing is available any more. Told again only after there was something: where the account has a
    `lowBalance`, a tenth above that.
    """

    account_id: str
    available: int
    held: int
    version: int
    transaction_id: str


class ReservationEnded(Payload, frozen=True, kw_only=True):
    """A reservation ended; `spent` + `released` is `reserved`, unless more was charged. `cause` of a
    cancelled one: `requested` or `failed`.
    """

    account_id: str
    reservation_id: str
    transaction_id: str
    reserved: int
    spent: int
    released: int
    task_id: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    resource_id: str | UnsetType = UNSET
    model_id: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    available: int
    held: int
    version: int


class ReservationDue(Payload, frozen=True, kw_only=True):
    """A reservation is still open and ends in two minutes or less: confirm, cancel or extend it."""

    account_id: str
    reservation_id: str
    held: int
    expires_at: str
    task_id: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    resource_id: str | UnsetType = UNSET
    model_id: str | UnsetType = UNSET


class GrantLapsing(Payload, frozen=True, kw_only=True):
    """Credits of a bucket lapse within 24 hours. Told once for each expiry of a bucket."""

    account_id: str
    bucket: str
    available: int
    expires_at: str


class ProviderFinished(Payload, frozen=True, kw_only=True):
    """A provider's webhook settled a reservation; `payload` is what the provider sent, as JSON."""

    provider: str
    reservation_id: str
    account_id: str
    task_id: str | UnsetType = UNSET
    resource_id: str | UnsetType = UNSET
    outcome: Literal["succeeded", "failed"]
    transaction_id: str | UnsetType = UNSET
    payload: Any


class ReconciliationDrift(Payload, frozen=True, kw_only=True):
    """A reconciliation found Redis and the journal apart. `accounts`: how many of them it compared."""

    reconciliation_id: str
    accounts: int
    differences: int
    started_at: str
    finished_at: str


class HealthCritical(Payload, frozen=True, kw_only=True):
    """An alert became critical (docs/alerts.md). `subject`: the model or delivery that it is about, empty
    where it is about the whole; `value` and `threshold` are null where no number decides.
    """

    alert_id: str
    rule: str
    subject: str
    value: int | float | None
    threshold: int | float | None
    message: str
    since: str


TYPES: Mapping[EventType, type[Payload]] = MappingProxyType(
    {
        "balance.low": BalanceLow,
        "balance.depleted": BalanceDepleted,
        "provider.finished": ProviderFinished,
        "reservation.confirmed": ReservationEnded,
        "reservation.confirmed_late": ReservationEnded,
        "reservation.cancelled": ReservationEnded,
        "reservation.expired": ReservationEnded,
        "reservation.due": ReservationDue,
        "grant.lapsing": GrantLapsing,
        "reconciliation.drift": ReconciliationDrift,
        "health.critical": HealthCritical,
    }
)

JOURNALED: frozenset[EventType] = frozenset({
    "balance.low", "balance.depleted", "reservation.confirmed", "reservation.confirmed_late",
    "reservation.cancelled", "reservation.expired",
})  # fmt: skip
"""Those that are made of the journal's entries."""


class Message(Struct, frozen=True):
    """What is sent. `timestamp`: when it happened."""

    type: EventType
    timestamp: str
    data: Payload


encode = msgspec.json.Encoder(decimal_format="number").encode
"""Numbers of providers stay as they were written."""


def rfc3339(at: datetime) -> str:
    """`2026-11-21T19:00:00.000Z`, as events have it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Endpoint(Struct, frozen=True, kw_only=True):
    """Who is told. `types` empty: of everything. `why_off`: why nothing is sent there, `None` where it is."""

    id: str
    url: str
    types: list[str]
    enabled: bool
    why_off: str | None
    by: str
    created_at: datetime


class Delivery(Struct, frozen=True, kw_only=True):
    """How an event fares at an endpoint. `status` and `error`: of the last attempt. `dead`: given up."""

    endpoint: str
    state: Literal["waiting", "delivered", "dead"]
    attempts: int
    due_at: datetime
    tried_at: datetime | None
    status: int | None
    error: str | None


class Event(Struct, frozen=True, kw_only=True):
    """An event of the log. `id` is its `webhook-id`, `body` what is sent."""

    id: str
    type: str
    account: str | None
    at: datetime
    body: str
    deliveries: list[Delivery]


class EventFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events: all that is given must hold. `state`: of one of the deliveries at least."""

    type: str | None = None
    account: str | None = None
    endpoint: str | None = None
    state: Literal["waiting", "delivered", "dead"] | None = None


class EventPage(Struct, frozen=True):
    """Newest first."""

    data: list[Event]
    next_cursor: str | None


class EventsRefused(Exception):
    """What operators ask about events and is not done."""


class EndpointRefused(EventsRefused):
    """That URL may not be delivered to; the text says why."""


class EndpointsFull(EventsRefused):
    """There are `ENDPOINTS_MAX` endpoints."""


class EndpointNotFound(EventsRefused):
    """There is no such endpoint."""


class EventNotFound(EventsRefused):
    """There is no such event, or no more."""


class Events(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away. Ids are UUIDs."""

    async def endpoints(self) -> list[Endpoint]:
        """All of them, oldest first."""
        ...

    async def create(self, url: str, types: Sequence[str], by: str) -> tuple[Endpoint, str]:
        """A new one, which is told what happens from now on, and its secret, which is never told again.

        Raises:
            EndpointRefused, EndpointsFull
        """
        ...

    async def change(
        self, endpoint: str, *, url: str | None, types: Sequence[str] | None, enabled: bool | None
    ) -> Endpoint:
        """Change what is not `None`. What waited while it was off is sent when it is on again.

        Raises:
            EndpointRefused, EndpointNotFound
        """
        ...

    async def remove(self, endpoint: str) -> Endpoint:
        """For good, with all that waits for it. Returns what it was.

        Raises:
            EndpointNotFound
        """
        ...

    async def log(self, which: EventFilter, *, cursor: str | None = None, limit: int = 50) -> EventPage:
        """A page of 1 to 200; an event lives for `KEPT_DAYS`.

        Raises:
            app.reports.InvalidCursor
        """
        ...

    async def replay(self, event: str, endpoint: str | None) -> Event:
        """Deliver it again, from the first attempt on: to `endpoint`, else to all that it was meant for.

        Raises:
            EventNotFound, EndpointNotFound
        """
        ...

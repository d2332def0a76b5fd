"""How endpoints and events look: what operators send about them, and what they are shown."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from app.events import Delivery, Endpoint, Event, EventFilter, EventType
from app.http import shapes
from app.http.answers import Shown, Time
from app.http.bodies import Body, given
from app.http.queries import Cursor, Query
from app.http.times import iso, milliseconds

S = TypeVar("S", bound="EndpointShown")

Url = Annotated[
    str,
    Meta(min_length=1, max_length=2000, description="Where events are sent: https, on the public internet."),
]
Types = Annotated[
    list[EventType], Meta(max_length=64, description="What it is told of; empty or left out: everything.")
]
State = Annotated[
    Literal["waiting", "delivered", "dead"], Meta(description="`dead`: given up after about three days.")
]


class EndpointBody(Body, kw_only=True):
    """Where to send events, and which."""

    url: Url
    events: Types | UnsetType = UNSET


class EndpointChange(Body, kw_only=True):
    """What changes; what is left out stays."""

    url: Url | UnsetType = UNSET
    events: Types | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class EventReplayBody(Body, kw_only=True):
    """To whom; if left out, to all that it was meant for."""

    endpoint_id: shapes.Uuid | UnsetType = UNSET


class EventsQuery(Query, kw_only=True):
    """Which events."""

    integers = frozenset({"limit"})

    type: EventType | UnsetType = UNSET
    account_id: shapes.AccountId | UnsetType = UNSET
    endpoint_id: shapes.Uuid | UnsetType = UNSET
    state: State | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET
    limit: shapes.Limit = 50

    def filter(self) -> EventFilter:
        """As the log wants it."""
        endpoint = given(self.endpoint_id)
        return EventFilter(
            type=given(self.type),
            account=given(self.account_id),
            endpoint=endpoint and endpoint.lower(),
            state=given(self.state),
        )


class EndpointShown(Shown, kw_only=True):
    """Who is told. `events` empty: of everything."""

    id: str
    url: str
    events: list[str]
    enabled: bool
    why_off: Annotated[str, Meta(description="Why nothing is sent there.")] | UnsetType = UNSET
    by: str
    created_at: Time


class EndpointMade(EndpointShown, kw_only=True):
    """The same with the secret that events are signed with. It is not shown again."""

    secret: Annotated[str, Meta(description="`whsec_...`, as libraries of Standard Webhooks take it.")]


class Endpoints(Shown):
    """All of them, oldest first."""

    data: list[EndpointShown]


class DeliveryOfEvent(Shown, kw_only=True):
    """How it fares at one endpoint."""

    endpoint_id: str
    state: State
    attempts: int
    next_attempt_at: Time | UnsetType = UNSET
    last_attempt_at: Time | UnsetType = UNSET
    status: Annotated[int, Meta(description="What the endpoint answered last.")] | UnsetType = UNSET
    error: Annotated[str, Meta(description="Why the last attempt failed.")] | UnsetType = UNSET


class EventShown(Shown, kw_only=True):
    """What was told. `id` is its `webhook-id`."""

    id: str
    type: str
    account_id: str | UnsetType = UNSET
    at: Time
    data: dict[str, Any]
    deliveries: list[DeliveryOfEvent]


class EventsShown(Shown):
    """Newest first."""

    data: list[EventShown]
    next_cursor: str | None
    has_more: bool


def endpoint(of: type[S], found: Endpoint, **more: str) -> S:
    """As it is shown; `more`: what `of` has beside it."""
    return of(
        id=found.id,
        url=found.url,
        events=found.types,
        enabled=found.enabled,
        why_off=UNSET if found.why_off is None else found.why_off,
        by=found.by,
        created_at=iso(milliseconds(found.created_at)),
        **more,
    )


class _Body(Struct):
    """What was sent, of which the data is shown to the letter."""

    data: Raw


_decode = msgspec.json.Decoder(_Body).decode


def event(found: Event) -> EventShown:
    """As it is shown, and how it fares."""
    return EventShown(
        id=found.id,
        type=found.type,
        account_id=UNSET if found.account is None else found.account,
        at=iso(milliseconds(found.at)),
        data=_decode(found.body).data,  # type: ignore[arg-type]
        deliveries=[_delivery(each) for each in found.deliveries],
    )


def _delivery(delivery: Delivery) -> DeliveryOfEvent:
    is_waiting = delivery.state == "waiting"
    return DeliveryOfEvent(
        endpoint_id=delivery.endpoint,
        state=delivery.state,
        attempts=delivery.attempts,
        next_attempt_at=iso(milliseconds(delivery.due_at)) if is_waiting else UNSET,
        last_attempt_at=UNSET if delivery.tried_at is None else iso(milliseconds(delivery.tried_at)),
        status=UNSET if delivery.status is None else delivery.status,
        error=UNSET if delivery.error is None else delivery.error,
    )

"""`/api/credits/events`: who is told what happens, and what was told."""

from collections.abc import Iterator
from contextlib import contextmanager

from litestar import Controller, patch
from litestar.params import FromPath, JSONBody

from app.events import (
    ENDPOINTS_MAX,
    EndpointNotFound,
    EndpointRefused,
    EndpointsFull,
    EventNotFound,
)
from app.http import shapes, told
from app.http.bodies import given
from app.http.problems import Problem, invalid
from app.http.routes import operating, reading, removing
from app.http.wire import Answer, LedgerRequest


@contextmanager
def _known() -> Iterator[None]:
    """What is refused about endpoints and events, as problems."""
    try:
        yield
    except EndpointRefused as error:
        raise invalid(f"`url`: {error}.", field="url") from None
    except EndpointsFull:
        raise Problem("limit_reached", {"what": "endpoints", "limit": ENDPOINTS_MAX}) from None
    except EndpointNotFound:
        raise Problem("not_found", {"cause": "endpoint"}) from None
    except EventNotFound:
        raise Problem("not_found", {"cause": "event"}) from None


class Events(Controller):
    """Outgoing events."""

    path = "/api/credits/events"
    tags = ("events",)

    @reading(
        "/",
        name="events",
        scope="operate",
        query=told.EventsQuery,
        refusals=("invalid_cursor",),
        summary="What was told, newest first",
    )
    async def log(self, request: LedgerRequest) -> Answer[told.EventsShown]:
        """With how it fares at each endpoint. Kept for 30 days; what nobody listened to is not kept."""
        request.caller.concerns_all("Events are")
        query = request.asked(told.EventsQuery)
        found = await request.parts.events.log(query.filter(), cursor=given(query.cursor), limit=query.limit)
        shown = [told.event(each) for each in found.data]
        return Answer(told.EventsShown(shown, found.next_cursor, found.next_cursor is not None))

    @operating(
        "/{event:str}/replay",
        told.EventReplayBody,
        name="replayEvent",
        status=200,
        refusals=("not_found",),
        summary="Send an event again",
    )
    async def replay(
        self, event: FromPath[str], data: JSONBody[told.EventReplayBody], request: LedgerRequest
    ) -> Answer[told.EventShown]:
        """Under the same `webhook-id`, from the first attempt on, whatever became of it before."""
        request.caller.concerns_all("Events are")
        named, endpoint = shapes.uuid(event, "event"), given(data.endpoint_id)
        with _known():
            return Answer(told.event(await request.parts.events.replay(named, endpoint)))

    @reading("/endpoints", name="eventEndpoints", scope="operate", summary="Who is told")
    async def endpoints(self, request: LedgerRequest) -> Answer[told.Endpoints]:
        """Without their secrets."""
        request.caller.concerns_all("Events are")
        found = await request.parts.events.endpoints()
        return Answer(told.Endpoints([told.endpoint(told.EndpointShown, each) for each in found]))

    @operating(
        "/endpoints",
        told.EndpointBody,
        name="createEventEndpoint",
        status=201,
        refusals=("limit_reached",),
        summary="Have somebody told",
    )
    async def create(
        self, data: JSONBody[told.EndpointBody], request: LedgerRequest
    ) -> Answer[told.EndpointMade]:
        """Of what happens from now on."""
        request.caller.concerns_all("Events are")
        by = request.caller.principal.by
        with _known():
            made, secret = await request.parts.events.create(data.url, given(data.events) or [], by)
        return Answer(told.endpoint(told.EndpointMade, made, secret=secret))

    @operating(
        "/endpoints/{endpoint:str}",
        told.EndpointChange,
        name="changeEventEndpoint",
        route=patch,
        status=200,
        refusals=("not_found",),
        summary="Change an endpoint, or turn it on or off",
    )
    async def change(
        self, endpoint: FromPath[str], data: JSONBody[told.EndpointChange], request: LedgerRequest
    ) -> Answer[told.EndpointShown]:
        """While it is off nothing is kept for it; what waited before is sent when it is on again."""
        request.caller.concerns_all("Events are")
        named = shapes.uuid(endpoint, "endpoint")
        with _known():
            changed = await request.parts.events.change(
                named, url=given(data.url), types=given(data.events), enabled=given(data.enabled)
            )
        return Answer(told.endpoint(told.EndpointShown, changed))

    @removing(
        "/endpoints/{endpoint:str}",
        name="removeEventEndpoint",
        refusals=("not_found",),
        summary="Tell an endpoint nothing more",
    )
    async def remove(self, endpoint: FromPath[str], request: LedgerRequest) -> Answer[told.EndpointShown]:
        """What waits for it is dropped. Answers what was removed."""
        request.caller.concerns_all("Events are")
        named = shapes.uuid(endpoint, "endpoint")
        with _known():
            return Answer(told.endpoint(told.EndpointShown, await request.parts.events.remove(named)))

"""`/api/credits/events`: who is told what happens, and what was told."""

from litestar import Controller, patch
from litestar.params import FromPath, JSONBody

from app import events
from app.http import shapes, told
from app.http.bodies import given
from app.http.routes import operating, reading, removing
from app.http.wire import Answer, LedgerRequest


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
        query = request.asked(told.EventsQuery)
        found = await _events(request).log(query.filter(), cursor=given(query.cursor), limit=query.limit)
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
        replayed = await _events(request).replay(shapes.uuid(event, "event"), given(data.endpoint_id))
        return Answer(told.event(replayed))

    @reading("/endpoints", name="eventEndpoints", scope="operate", summary="Who is told")
    async def endpoints(self, request: LedgerRequest) -> Answer[told.Endpoints]:
        """Without their secrets."""
        found = await _events(request).endpoints()
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
        by = request.caller.principal.by
        made, secret = await _events(request).create(data.url, given(data.events) or [], by)
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
        changed = await _events(request).change(
            shapes.uuid(endpoint, "endpoint"),
            url=given(data.url),
            types=given(data.events),
            enabled=given(data.enabled),
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
        removed = await _events(request).remove(shapes.uuid(endpoint, "endpoint"))
        return Answer(told.endpoint(told.EndpointShown, removed))


def _events(request: LedgerRequest) -> events.Events:
    """Those of the ledger, for a caller who may see everybody's."""
    request.caller.concerns_all("Events are")
    return request.parts.events

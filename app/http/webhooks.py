"""The doors of webhooks: `/api/webhooks/...`, open to whoever can prove who they are by the raw body."""

import asyncio
import re
from contextlib import nullcontext

from litestar import Controller, HttpMethod, route
from litestar.params import FromPath

from app.http.answers import Shown
from app.http.problems import Problem, invalid
from app.http.routes import delivering
from app.http.wire import Answer, LedgerRequest
from app.webhooks.event import Delivery, Unreadable, Unverified
from app.webhooks.receiving import Path, Receiving

BODY_SECONDS = 10.0
"""Nobody knows yet who is sending."""

LONG_BYTES = 65_536
"""More than that is kept of few at a time, before anybody has proven anything."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class Delivered(Shown):
    """What came of it: `verified`, `late`, `duplicate`, `waiting`, `conflict` or `refused`. All of them are
    received, and need not be sent again.
    """

    status: str


class Webhooks(Controller):
    """Callbacks of providers."""

    path = "/api"
    tags = ("webhooks",)

    @delivering("/webhooks/{provider:str}", name="webhook", summary="A callback of a provider")
    async def webhook(self, provider: FromPath[str], request: LedgerRequest) -> Answer[Delivered]:
        """Success confirms the reservation of the task, failure cancels it, progress is noted; a payment of
        Stripe is granted. The same event again does nothing.
        """
        return await _delivered(request, provider, None)

    @route(
        "/webhooks/{provider:str}",
        http_method=HttpMethod.OPTIONS,
        opt={"scope": "open"},
        status_code=200,
        include_in_schema=False,
    )
    async def probe(self, provider: FromPath[str], request: LedgerRequest) -> Answer[bytes]:
        """Whether there is a door: HeyGen asks when it is told of it."""
        _demand_door(request, provider)
        return Answer(b"", [(b"allow", b"OPTIONS, POST")], media_type=b"text/plain")

    @delivering("/webhook/{provider:str}", name="webhookToo", summary="The same door under another name")
    async def webhook_too(self, provider: FromPath[str], request: LedgerRequest) -> Answer[Delivered]:
        """As `/api/webhooks/{provider}`."""
        return await _delivered(request, provider, None)

    @delivering(
        "/webhooks/{provider:str}/{reservation:str}/{token:str}",
        name="callback",
        summary="A callback to the URL that reserve handed out",
    )
    async def callback(
        self,
        provider: FromPath[str],
        reservation: FromPath[str],
        token: FromPath[str],
        request: LedgerRequest,
    ) -> Answer[Delivered]:
        """About this one reservation. Providers that sign have to sign it all the same."""
        return await _delivered(request, provider, Path(reservation.lower(), token))


async def _delivered(request: LedgerRequest, provider: str, path: Path | None) -> Answer[Delivered]:
    receiving = _demand_door(request, provider)
    try:
        if path is not None:
            receiving.demand_token(provider, path if _UUID.fullmatch(path.reservation) else None)
        delivery = _delivery(request, await _body(request))
        status = await receiving.deliver(provider, delivery, path)
        _note(request, provider, status)
        return Answer(Delivered(status))
    except Unverified:
        _note(request, provider, "rejected")
        raise Problem("unauthenticated", {"cause": "delivery"}) from None
    except Unreadable as error:
        _note(request, provider, "rejected")
        raise invalid(f"The delivery could not be understood: {error}.") from None


def _note(request: LedgerRequest, provider: str, status: str) -> None:
    """For whoever counts them."""
    request.scope["delivery"] = provider, status  # type: ignore[typeddict-unknown-key]


def _demand_door(request: LedgerRequest, provider: str) -> Receiving:
    receiving = request.parts.receiving
    if provider not in receiving.doors:
        raise Problem("not_found", {"cause": "door"})
    return receiving


async def _body(request: LedgerRequest) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            with request.parts.room.of_delivery() if _is_long(request) else nullcontext():
                return await request.raw_body()
    except TimeoutError:
        raise invalid(f"The body took longer than {BODY_SECONDS:g} s.") from None


def _is_long(request: LedgerRequest) -> bool:
    """Whether it may be: one that does not say how long it is, is."""
    announced = dict(request.scope["headers"]).get(b"content-length", b"")
    return not announced.isdigit() or int(announced) > LONG_BYTES


def _delivery(request: LedgerRequest, body: bytes) -> Delivery:
    headers: dict[str, str] = {}
    duplicated = set()
    for raw, value in request.scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in headers:
            duplicated.add(name)
        headers[name] = value.decode("latin-1")
    return Delivery(headers, body, frozenset(duplicated))

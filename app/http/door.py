"""The outermost door: what every answer says, whatever it is, and what browsers ask before they ask.

Every answer carries `SECURITY` and the id of its request, also one to a path that does not exist and one
about a bug. An answer that has a content policy of its own (the viewer's) keeps it. Pages of other origins
may read answers only if their origin is on the list; a preflight of theirs is answered here and costs
nothing. Nothing is said to any other.
"""

from collections.abc import Iterable
from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from app import logs
from app.http import pace
from app.http.problems import Headers
from app.http.wide import Watch

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
PREFLIGHT_SECONDS = 7200

_VARY = (b"vary", b"origin")
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, if-none-match, lastro-ack, x-request-id",
    ),
    (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
]
_EXPOSED = (
    b"access-control-expose-headers",
    b",".join(
        (
            *(b"etag", b"idempotency-replayed", b"lastro-conflict", b"lastro-journaled"),
            *(b"ratelimit", b"ratelimit-policy", b"retry-after", logs.HEADER),
        )
    ),
)


class Door:
    """ASGI around the whole application. `allowed`: the origins of pages that may ask from a browser.
    `watch`: who is told of every request that went through.
    """

    def __init__(self, app: ASGIApp, watch: Watch, allowed: Iterable[bytes] = ()) -> None:
        self._app = app
        self._watch = watch
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == ScopeType.HTTP, "no other protocol is spoken here"
        shared = self._sharing(scope["headers"]) if self._allowed else []
        if scope["method"] == "OPTIONS" and len(shared) > 1 and _is_preflight(scope["headers"]):
            await _answer_preflight(shared, send)
            return

        began, status, watch = perf_counter(), 0, self._watch
        id_ = logs.id_of(scope["headers"])
        logs.request_id.set(id_)

        async def sealed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _seal(message, scope, [(logs.HEADER, id_), *shared])
            await send(message)

        watch.open += 1
        try:
            await self._app(scope, receive, sealed)
        finally:
            watch.open -= 1
            watch.ended(scope, status, perf_counter() - began)

    def _sharing(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """What is said about sharing with the page that asks: to a page that is not on the list nothing."""
        for name, value in headers:
            if name == b"origin" and value in self._allowed:
                return [_VARY, (b"access-control-allow-origin", value), _EXPOSED]
        return [_VARY]


def _is_preflight(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"access-control-request-method" for name, _ in headers)


def _seal(message: HTTPResponseStartEvent, scope: Scope, shared: Headers) -> None:
    headers = [*message["headers"], *SECURITY, *shared]
    if not any(name == POLICY[0] for name, _ in headers):
        headers.append(POLICY)
    if "limits" in scope:
        headers += pace.headers(scope)
    message["headers"] = headers


async def _answer_preflight(shared: list[tuple[bytes, bytes]], send: Send) -> None:
    headers = [*shared[:2], *_PREFLIGHT, *SECURITY, POLICY]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})

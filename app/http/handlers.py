"""Exceptions become problems here, and nowhere else."""

from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Request
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
)
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from app.events import ENDPOINTS_MAX, EndpointNotFound, EndpointRefused, EndpointsFull, EventsRefused
from app.http import noting
from app.http.codes import TABLE
from app.http.problems import Headers, Problem, body
from app.http.wire import Answer, LedgerRequest
from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerError
from app.reports import InvalidCursor

log = structlog.get_logger("lastro.http")

PROBLEM = b"application/problem+json"
UNAVAILABLE = 503
RETRY_AFTER_SECONDS = 1
REMEMBERED = frozenset({402, 409, 410, 422})
"""Statuses of refusals that the engine keeps under their key,"""
NOT_REMEMBERED = frozenset({"idempotency_mismatch", "batch_across_shards"})
"""and those of them that it does not: nothing was asked of it."""

_HIDDEN_FROM_ALL = {"ledger_unavailable": {"why"}, "internal_error": {"why"}}
"""What is for the log only: it may name servers."""
_HIDDEN = _HIDDEN_FROM_ALL | {"task_conflict": {"reservation"}, "ledger_fenced": {"why"}}
"""What a key of one account is not told: it may be about others."""


class Told(Answer[dict[str, Any]]):
    """A problem, whose code is noted for whoever counts them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["code"] = self.content["code"]  # type: ignore[typeddict-unknown-key]
        await super().__call__(scope, receive, send)


def _shown(problem: dict[str, Any], headers: Headers) -> Told:
    status = problem["status"]
    if status == UNAVAILABLE:
        headers = [*headers, (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)]
    return Told(problem, headers, status, PROBLEM)


def _answer(code: str, facts: Mapping[str, int | str], headers: Headers) -> Answer[dict[str, Any]]:
    return _shown(body(code, facts), headers)


def told(error: LedgerError, *, keyed: bool, restricted: bool) -> dict[str, Any]:
    """What an error of the ledger is told as.

    `keyed`: it came of a request with a key; `restricted`: to a caller who may touch one account only.
    """
    if error.word == "internal_error":
        log.error("bug in the ledger", **error.facts)
    kept = keyed and TABLE[error.word].status in REMEMBERED and error.word not in NOT_REMEMBERED
    more = " This answer is kept under the key: use a new key to try again." if kept else ""
    hidden = (_HIDDEN if restricted else _HIDDEN_FROM_ALL).get(error.word, ())
    return body(error.word, {name: fact for name, fact in error.facts.items() if name not in hidden}, more)


def _of_ledger(request: LedgerRequest, error: LedgerError) -> Answer[dict[str, Any]]:
    takes_keys = request.scope["method"] != "PATCH"  # settings are the same however often they are set
    keyed = takes_keys and request.header(b"idempotency-key") is not None
    problem = told(error, keyed=keyed, restricted=request.restricted)
    noting.missed(request.parts, request.scope.get("asked"), error)
    return _shown(problem, [(b"idempotency-replayed", b"true")] if error.replayed else [])


def _of_problem(_: Any, problem: Problem) -> Answer[dict[str, Any]]:
    return _answer(problem.code, problem.facts, problem.headers)


def _of_backing(_: Any, error: BackingUnavailable) -> Answer[dict[str, Any]]:
    log.warning("postgres is away", why=str(error))
    return _answer("ledger_unavailable", {}, [])


def _of_cursor(_: Any, __: InvalidCursor) -> Answer[dict[str, Any]]:
    return _answer("invalid_cursor", {}, [])


def _of_events(_: Any, error: EventsRefused) -> Answer[dict[str, Any]]:
    match error:
        case EndpointRefused():
            return _answer("invalid_request", {"why": f"`url`: {error}.", "field": "url"}, [])
        case EndpointsFull():
            return _answer("limit_reached", {"what": "endpoints", "limit": ENDPOINTS_MAX}, [])
    what = "endpoint" if isinstance(error, EndpointNotFound) else "event"
    return _answer("not_found", {"cause": what}, [])


def _of_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Answer[dict[str, Any]]:
    match error:
        case NotFoundException():
            return _answer("not_found", {}, [])
        case MethodNotAllowedException():
            return _answer("method_not_allowed", {}, [(b"allow", _allowed(request))])
        case ClientException():
            return _answer("invalid_request", {"why": error.detail}, [])
    return _of_bug(request, error)


def _of_bug(request: Request[Any, Any, Any], error: Exception) -> Answer[dict[str, Any]]:
    # not the path: the token of a callback URL stands in it
    log.error("bug", route=request.scope.get("path_template"), exc_info=error)
    return _answer("internal_error", {}, [])


def _allowed(request: Request[Any, Any, Any]) -> bytes:
    """The methods of a path, for `Allow` (RFC 9110, 15.5.6)."""
    found = []
    for method in ("GET", "PATCH", "POST", "PUT", "DELETE"):
        try:
            request.app.asgi_router.handle_routing(path=request.scope["path"], method=method)
        except HTTPException:
            continue
        found.append(method)
    return ", ".join(found).encode()


HANDLERS: ExceptionHandlersMap = {
    LedgerError: _of_ledger,  # type: ignore[dict-item]
    Problem: _of_problem,
    BackingUnavailable: _of_backing,
    InvalidCursor: _of_cursor,
    EventsRefused: _of_events,
    HTTPException: _of_litestar,
    Exception: _of_bug,
}

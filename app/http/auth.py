"""Who may come in. Nothing is open that does not say so.

A handler names what it takes in its `opt`: `scope` (one of `app.access.SCOPES`, or a set of which one is
enough, or `OPEN`), where users may come, `user` (`read`, a verb of `app.access.VERBS`, or a set of those),
and where it reads a query, `query`. One that names no scope is open to nobody; one that names no `user` to no
user.
"""

from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from app.access import Principal
from app.http.pace import count_caller
from app.http.parts import Caller, Parts
from app.http.problems import Problem, invalid

OPEN = "open"
CHALLENGE = ((b"www-authenticate", b"Bearer"),)


def beyond(needed: Any, who: Principal) -> Problem:
    """That a key lacks a scope, or a user asks for what is not for users."""
    if who.kind == "user":
        return Problem("forbidden", {"why": "A user's token may not do that; your backend's API key may."})
    named = " or ".join(sorted(needed)) if isinstance(needed, frozenset) else needed
    return Problem("forbidden", {"why": f"This key may not do that; it would need the scope {named}."})


def _any_of(needed: Any, scopes: frozenset[str]) -> bool:
    return isinstance(needed, frozenset) and not needed.isdisjoint(scopes)


class Authentication:
    """ASGI middleware: authentication, then scope, before anything of the body is read."""

    __slots__ = ("app",)

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opt = scope["route_handler"].opt
        parts: Parts = scope["litestar_app"].state.parts
        scope["parts"] = parts  # type: ignore[typeddict-unknown-key]
        needed = opt.get("scope")
        if needed != OPEN:
            headers = dict(scope["headers"])
            authorization = headers.get(b"authorization", b"")
            principal = parts.keys.known(authorization) or await parts.keys.authenticate(authorization)
            if principal is None:
                raise Problem("unauthenticated", {}, CHALLENGE)
            if principal.kind == "user":
                needed = opt.get("user")
            if needed not in principal.scopes and not _any_of(needed, principal.scopes):
                raise beyond(needed, principal)
            if parts.limiter is not None:
                await count_caller(parts.limiter, scope, principal.by)
            scope["caller"] = Caller(principal, headers)  # type: ignore[typeddict-unknown-key]
        if scope["query_string"] and "query" not in opt:
            raise invalid("No query is taken here.")
        await self.app(scope, receive, send)

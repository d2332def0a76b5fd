"""What a page is made of: the request that it reads, and how it answers."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import uuid4

import msgspec
from litestar import get, post
from msgspec import Struct

from app.api_keys import KeyRefused
from app.dashboard import files
from app.dashboard.showing import rendered
from app.dashboard.visitor import Visitor
from app.http.problems import Headers, body, invalid
from app.http.shapes import malformed
from app.http.times import present
from app.http.wire import Answer, LedgerRequest
from app.ledger.errors import Refused
from app.operators import Action, ActionFilter, Asked, OtherAction

F = TypeVar("F", bound=Struct)

HTML = b"text/html; charset=utf-8"
ACTIONS_SHOWN = 20
POLICY = (
    b"content-security-policy",
    (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        b" form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
)


class PageRequest(LedgerRequest):
    """A request as pages see it. `asked(Query)` reads its query, `sent(Struct)` its form."""

    @property
    def visitor(self) -> Visitor:
        return cast("Visitor", self.scope["visitor"])  # type: ignore[typeddict-item]

    @property
    def here(self) -> str:
        """Path and query, for links back and for polls."""
        query = self.scope["query_string"].decode("latin-1")
        return str(self.scope["path"]) + (f"?{query}" if query else "")

    @property
    def now(self) -> datetime:
        """By Redis' clock."""
        return present(self.ledger.now_ms())

    @property
    def region(self) -> str | None:
        """Which part of the page a poll replaces: nothing else need be looked up. `None`: it is no poll."""
        for name, value in self.scope["headers"]:
            if name == b"hx-target":
                return str(value.decode("latin-1"))
        return None

    def wants(self, region: str) -> bool:
        """Whether a part of the page is asked for; of the others a poll takes nothing."""
        return self.region in (None, region)

    def sent(self, of: type[F]) -> F:
        """The fields of a form, by its struct. The token has been looked at before."""
        try:
            return msgspec.convert(self.scope["form"], of, strict=False)  # type: ignore[typeddict-item]
        except ValueError as error:
            raise malformed(error, "form", of=of) from None

    def page(self, template: str, *, status: int = 200, **values: Any) -> Answer[bytes]:
        """A page: a template with what it shows, in the frame of all pages."""
        return shown(self, template, status, values)

    async def by_hand(self, asked: Asked, do: Callable[[], Awaitable[str]]) -> int:
        """Do something that the audit knows of before it happens, and how it ended after. `do` answers what
        is told of it, such as the transaction; it must be harmless to call twice with the same form, though
        what has ended is not done again. What the ledger refuses is told by the audit alone.

        Raises:
            KeyRefused: There can be no such key; the audit has why.
        """
        actions = self.parts.operators.actions
        try:
            begun = await actions.begin(asked)
        except OtherAction:
            why = "This form was sent before with something else in it. Open its page again, and fill it in."
            raise invalid(why) from None
        if begun.ended:
            return begun.id
        try:
            told = await do()
        except Refused as error:
            await actions.end(begun.id, "refused", told_of(error))
        except KeyRefused as error:
            await actions.end(begun.id, "refused", str(error))
            raise
        else:
            await actions.end(begun.id, "done", told)
        return begun.id

    async def actions(self, **which: str) -> list[Action]:
        """What was done by hand to an account, a reservation, or something else (`about`)."""
        return await self.parts.operators.actions.listed(ActionFilter(**which), ACTIONS_SHOWN)


def told_of(error: Refused) -> str:
    """Why the ledger refused, as the API tells it."""
    return str(body(error.word, error.facts)["detail"])


def shown(request: PageRequest, template: str, status: int, values: dict[str, Any]) -> Answer[bytes]:
    """The page in its frame."""
    frame = {
        "visitor": request.visitor,
        "path": request.scope["path"],
        "here": request.here,
        "now": request.now,
        "nav": request.scope["route_handler"].opt["pages"],
        "static": files.PATH,
    }
    return Answer(rendered(template, frame | values), [POLICY], status, HTML)


def once() -> str:
    """The key of a form, under which whatever it does is done once."""
    return f"dashboard-{uuid4()}"


def see(location: str, headers: Headers = ()) -> Answer[bytes]:
    """What answers a form: look there. So that whoever reloads sends nothing again."""
    return Answer(b"", [(b"location", location.encode("ascii")), *headers], 303, b"text/plain")


def page(path: str, **opt: Any) -> Callable[[Any], Any]:
    """A page that is looked at."""
    return cast("Callable[[Any], Any]", get(path, opt={"query": True, **opt}, status_code=200))


def form(path: str, **opt: Any) -> Callable[[Any], Any]:
    """Where a form is sent to."""
    return cast("Callable[[Any], Any]", post(path, opt={"query": True, **opt}, status_code=200))

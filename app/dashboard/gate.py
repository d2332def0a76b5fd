"""Who may see pages and send forms. Nothing is open that does not say so.

A page asks for a session unless its `opt` says `visitors`. A form must come from one of our own pages: its
`Origin` is looked at, and the token of the session that it carries. Both are looked at here, so that no
handler can forget it. Links and polls without a session lead to where one signs in.
"""

import hmac
import re
from urllib.parse import parse_qsl, quote, urlsplit

from litestar.types import ASGIApp, Receive, Scope, Send

from app.access import Principal
from app.dashboard.visitor import Visitor
from app.http.parts import Caller, Parts
from app.http.problems import Problem, invalid
from app.http.wire import Answer, LedgerRequest

SIGN_IN = "/dashboard/login"
FIELDS_MAX = 64
_BLANK = re.compile(rb"(?:^|&)[^=&]*=?(?=&|$)")

OPERATOR = frozenset({"operate", "read"})


class Gate:
    """ASGI middleware of all that is under `/dashboard`."""

    __slots__ = ("app",)

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts: Parts = scope["parts"]  # type: ignore[typeddict-item]
        headers = dict(scope["headers"])
        cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
        visitor = Visitor(cookies)
        scope["visitor"] = visitor  # type: ignore[typeddict-unknown-key]
        scope["query_string"] = _without_blanks(scope["query_string"])
        is_form = scope["method"] == "POST"  # type: ignore[typeddict-item]
        if is_form:
            _demand_own_page(headers)
        if visitor.secret and not scope["route_handler"].opt.get("asks_nobody"):
            visitor.session = await parts.operators.sessions.find(visitor.secret)
        name = visitor.session.name if visitor.session else ""
        scope["caller"] = Caller(Principal(name, OPERATOR), headers)  # type: ignore[typeddict-unknown-key]
        if visitor.session is None and not scope["route_handler"].opt.get("visitors"):
            await _sign_in_first(scope, headers)(scope, receive, send)
            return
        if is_form:
            form = _fields(await LedgerRequest(scope, receive, send).raw_body())
            token = form.pop("csrf", "")
            if visitor.session is not None and not hmac.compare_digest(token.encode(), visitor.csrf.encode()):
                raise Problem(
                    "forbidden", {"why": "The form is not of this session: open its page again, and send it."}
                )
            scope["form"] = form  # type: ignore[typeddict-unknown-key]
        await self.app(scope, receive, send)


def _demand_own_page(headers: dict[bytes, bytes]) -> None:
    """Refuse what a page of another origin sends. Browsers name the origin of every form."""
    origin = urlsplit(headers.get(b"origin", b"").decode("latin-1"))
    host = headers.get(b"host", b"").decode("latin-1")
    if not host or origin.netloc.lower() != host.lower() or origin.scheme not in ("http", "https"):
        raise Problem(
            "forbidden",
            {"why": "The form is not of a page of this dashboard, or a proxy before it changes Host."},
        )


def _without_blanks(query: bytes) -> bytes:
    """What a form with empty fields asks for: browsers send those, too."""
    return _BLANK.sub(b"", query).removeprefix(b"&")


def _fields(body: bytes) -> dict[str, str]:
    """The fields of a form that are not empty."""
    try:
        pairs = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise invalid("The form could not be read.") from None
    if len(dict(pairs)) != len(pairs):
        raise invalid("Each field of a form may be given once.")
    return {name: value.strip() for name, value in pairs if value.strip()}


def _sign_in_first(scope: Scope, headers: dict[bytes, bytes]) -> Answer[bytes]:
    """A script is told to leave the page, which it must not fill with another one."""
    asked = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
    back = f"?next={quote(asked, safe='')}" if scope["method"] == "GET" else ""  # type: ignore[typeddict-item]
    location = (SIGN_IN + back).encode()
    if b"hx-request" in headers:
        return Answer(b"", [(b"hx-redirect", SIGN_IN.encode())], 401, b"text/plain")
    return Answer(b"", [(b"location", location)], 303, b"text/plain")

"""Signing in and out, and how somebody wants to see pages."""

import re
from datetime import timedelta

from litestar import Controller
from msgspec import Struct

from app.dashboard.attempts import Attempts
from app.dashboard.gate import SIGN_IN
from app.dashboard.pages import PageRequest, form, page, see
from app.dashboard.visitor import SESSION, THEME, THEMES, ZONE, ZONES, cookie, theme, zone
from app.http.queries import Query
from app.http.wire import Answer
from app.operators import NoOperator, Session

HOME = "/dashboard"
_OURS = re.compile(r"/dashboard(?:[/?][!-\[\]-~]*)?", re.ASCII)


class SignInQuery(Query):
    """Where to go afterwards."""

    next: str = HOME


class SignInForm(Struct):
    """An API key, where to go afterwards, and the browser's time zone, if a script could tell it."""

    key: str = ""
    next: str = HOME
    zone: str = ""


class Preferences(Struct):
    """How to show pages, and which one to go back to."""

    theme: str = ""
    zone: str = ""
    next: str = HOME


class Entering(Controller):
    """What visitors may do."""

    path = "/"

    @page("/login", visitors=True)
    async def look(self, request: PageRequest) -> Answer[bytes]:
        """Where one signs in."""
        return request.page("login.html", next=_ours(request.asked(SignInQuery).next), why="")

    @form("/login", visitors=True)
    async def sign_in(self, request: PageRequest) -> Answer[bytes]:
        """With an API key of the scope `operate`."""
        given = request.sent(SignInForm)
        attempts: Attempts = request.app.state.attempts
        address = (request.scope["client"] or ("",))[0]
        if wait := attempts.wait_seconds(address):
            why = f"Too many attempts from this address. Try again in {wait} s."
            answer = request.page("login.html", status=429, next=_ours(given.next), why=why)
            answer.more = [*answer.more, (b"retry-after", b"%d" % wait)]
            return answer
        try:
            secret, session = await request.parts.operators.sessions.sign_in(given.key.encode())
        except NoOperator as error:
            attempts.failed(address)
            return request.page("login.html", status=403, next=_ours(given.next), why=str(error))
        headers = [_session(request, secret, session)]
        if given.zone:
            headers.append(cookie(ZONE, zone(given.zone).key, secure=_is_secure(request)))
        return see(_ours(given.next), headers)

    @form("/logout")
    async def sign_out(self, request: PageRequest) -> Answer[bytes]:
        """The session is over at once, in every process."""
        await request.parts.operators.sessions.sign_out(request.visitor.secret)
        return see(SIGN_IN, [cookie(SESSION, "", secure=_is_secure(request), seconds=0)])

    @page("/preferences")
    async def choose(self, request: PageRequest) -> Answer[bytes]:
        """Which theme, and which time zone."""
        return request.page("preferences.html", themes=THEMES, zones=ZONES)

    @form("/preferences")
    async def prefer(self, request: PageRequest) -> Answer[bytes]:
        """Kept by the browser."""
        given, secure = request.sent(Preferences), _is_secure(request)
        headers = [cookie(THEME, theme(given.theme), secure=secure)] if given.theme else []
        if given.zone:
            headers.append(cookie(ZONE, zone(given.zone).key, secure=secure))
        return see(_ours(given.next), headers)


def _session(request: PageRequest, secret: str, session: Session) -> tuple[bytes, bytes]:
    until = session.expires_at.astimezone(request.now.tzinfo) + timedelta(seconds=1)
    return cookie(SESSION, secret, secure=_is_secure(request), until=until)


def _is_secure(request: PageRequest) -> bool:
    """Whether the browser speaks TLS, which a proxy may end: the origin of a form says so."""
    return any(
        name == b"origin" and value.startswith(b"https://") for name, value in request.scope["headers"]
    )


def _ours(path: str) -> str:
    """The path, if it leads to a page of the dashboard."""
    return path if _OURS.fullmatch(path) else HOME

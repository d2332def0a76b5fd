"""Who looks at a page, and how they want to see it. The cookies are spelled here."""

import hashlib
import hmac
from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

from app.operators import Session

SESSION, THEME, ZONE = "lastro_session", "lastro_theme", "lastro_zone"
THEMES = ("auto", "light", "dark")
UTC_NAME = "UTC"
YEAR_SECONDS = 31_536_000
ZONES = sorted(each for each in available_timezones() if "/" in each or each == UTC_NAME)
_ZONES = frozenset(available_timezones())


class Visitor:
    """`session` is `None` before somebody has signed in; `csrf` is what each of their forms carries."""

    __slots__ = ("csrf", "secret", "session", "theme", "zone")

    def __init__(self, header: bytes) -> None:
        cookies = _cookies(header)
        self.session: Session | None = None
        self.secret = cookies.get(SESSION, "")
        self.theme = theme(cookies.get(THEME, ""))
        self.zone = zone(cookies.get(ZONE, ""))
        self.csrf = hmac.digest(self.secret.encode("utf-8", "replace"), b"csrf", hashlib.sha256).hex()

    @property
    def known(self) -> Session:
        """The session, where there must be one."""
        assert self.session is not None, "the gate lets nobody else in here"
        return self.session


def theme(named: str) -> str:
    """A theme, by default the browser's."""
    return named if named in THEMES else THEMES[0]


def zone(named: str) -> ZoneInfo:
    """A time zone by its IANA name; UTC where there is none of that name."""
    return ZoneInfo(named if named in _ZONES else UTC_NAME)


def cookie(
    name: str, value: str, *, secure: bool, until: datetime | None = None, seconds: int = YEAR_SECONDS
) -> tuple[bytes, bytes]:
    """A header that sets a cookie, which scripts do not see and other sites do not send; it goes nowhere but
    to the dashboard.
    """
    ends = f"Expires={until:%a, %d %b %Y %H:%M:%S} GMT" if until else f"Max-Age={seconds}"
    guards = "Path=/dashboard; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
    return b"set-cookie", f"{name}={value}; {ends}; {guards}".encode("ascii")


def _cookies(header: bytes) -> dict[str, str]:
    """Ours have nothing in them that is quoted; and those of others on this host, which may be written in any
    way, keep nobody from signing in.
    """
    pairs = (each.strip().partition("=") for each in header.decode("latin-1").split(";"))
    return {name: value for name, _, value in pairs}

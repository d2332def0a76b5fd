"""Alerts: what people are told by itself when something goes wrong, once, and once more when it is over;
and the protocol through which HTTP and the dashboard show them. `main` plugs in PostgreSQL.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

from app.rules import Rule

RULE_SECONDS = 15.0
"""How often the rules are judged."""

KEPT_DAYS = 90
"""How long one that is over is kept."""

ALERTS_MAX = 200
"""Of one look."""

State = Literal["firing", "resolved"]
Level = Literal["warning", "critical"]


_BETWEEN_URLS = re.compile(r"[\s,]+(?=[A-Za-z0-9]{1,32}://)", re.ASCII)
_URL = re.compile(r"[A-Za-z0-9]{1,32}://\S+", re.ASCII)
URL_MAX = 2000


def channel_urls(text: str) -> list[str]:
    """The URLs of a comma list, each of which may have commas inside. Whether Apprise knows them is found out
    when they are used. Errors do not show them: they are secrets.

    Raises:
        ValueError: One of them is no URL.
    """
    urls = [each.strip(" ,") for each in _BETWEEN_URLS.split(text.strip(" ,\t\n"))] if text.strip() else []
    for number, url in enumerate(urls, start=1):
        if not _URL.fullmatch(url) or len(url) > URL_MAX:
            raise ValueError(
                f"has as its URL {number} none that begins with a scheme, as slack:// or mailto://"
            )
    return urls


def heartbeat_url(text: str) -> str:
    """The same for the URL of the heartbeat.

    Raises:
        ValueError: It is none.
    """
    if text and (
        not _URL.fullmatch(text) or not text.startswith(("http://", "https://")) or len(text) > URL_MAX
    ):
        raise ValueError("should be one URL that begins with http:// or https://")
    return text


class Alert(Struct, frozen=True, kw_only=True):
    """A threshold was crossed. `subject`: the account, model or delivery that it is about, empty where it is
    about the whole. `value`: as of the crossing, or of the worse one after it; `threshold`: that was crossed;
    both `None` where no number decides.
    """

    id: str
    rule: str
    subject: str
    level: Level
    state: State
    since: datetime
    resolved_at: datetime | None
    value: int | float | None
    threshold: int | float | None
    message: str


class Alerts(Protocol):
    """What fires and has fired."""

    async def alerts(self, state: State | None = None, *, limit: int = 50) -> list[Alert]:
        """Those that fire first, then those that are over; each newest first. At most `ALERTS_MAX`.

        Raises:
            app.ledger.backing.BackingUnavailable: PostgreSQL is away.
        """
        ...

    @property
    def rules(self) -> Mapping[str, Rule]:
        """All of them by name, with the thresholds as they are set."""
        ...

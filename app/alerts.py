"""Alerts: what people are told by itself when something goes wrong, once, and once more when it is over;
and the protocol through which HTTP and the dashboard show them. `main` plugs in PostgreSQL.
"""

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

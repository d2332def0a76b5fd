"""How the whole is: what is looked at, how bad it is found, and the protocol through which HTTP, the
dashboard and metrics ask. `main` plugs in what measures.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Protocol, get_args

from msgspec import Struct

Status = Literal["healthy", "warning", "critical"]

CheckName = Literal[
    "overdue_reservations", "expired_last_hour", "below_floor", "reconciliation", "failure_rate",
    "reservation_not_found", "journal_lag", "backlog", "workers", "failed_jobs", "redis_persistence",
    "redis_eviction", "fence", "cleanup", "postgres",
]  # fmt: skip

CHECKS: tuple[CheckName, ...] = get_args(CheckName)

_ORDER: tuple[Status, ...] = get_args(Status)


class Check(Struct, frozen=True, kw_only=True):
    """One look. `value`: what was measured, `None` where nothing is counted, or where it could not be told,
    which is a warning; `warning` and `critical`: from which value on it is that, `None` where no number
    decides. `message` says what was found, and what to do about it.
    """

    name: CheckName
    status: Status
    value: int | float | None = None
    warning: int | float | None = None
    critical: int | float | None = None
    message: str


class HealthReport(Struct, frozen=True, kw_only=True):
    """All checks, in the order of `CHECKS`; the whole is as bad as its worst.

    `lag_seconds`: how far PostgreSQL, from which many of them are told, is behind Redis; `None`: not known.
    """

    status: Status
    checked_at: datetime
    lag_seconds: float | None
    checks: list[Check]


class Health(Protocol):
    """Looks at everything."""

    async def report(self) -> HealthReport:
        """As it is now, or was a moment ago. Never raises, and answers within 5 s, also while Redis or
        PostgreSQL are away: then that is what is found.
        """
        ...


def worst(found: Iterable[Status]) -> Status:
    """The worst of them; of none, healthy."""
    return max(found, key=_ORDER.index, default="healthy")

"""How everything stands."""

from collections.abc import Awaitable
from typing import Any, NamedTuple, TypeVar

from litestar import Controller

from app.dashboard.pages import PageRequest, page
from app.health import Check
from app.http.queries import Query
from app.http.wire import Answer
from app.ledger.backing import BackingUnavailable
from app.monitoring import PERIODS, Period, Step

T = TypeVar("T")

WINDOWS = {"hour": "24 hours", "day": "30 days", "week": "12 weeks", "month": "12 months"}
OF_MODELS: dict[Period, Period] = {"hour": "day", "day": "month", "week": "month", "month": "month"}
"""The period of the models that goes with the steps of the chart."""

KINDS = ("granted", "deducted", "confirmed", "cancelled", "expired", "refunded")

WHERE = {
    "overdue_reservations": "/dashboard/reservations?status=overdue",
    "expired_last_hour": "/dashboard/reservations?status=expired",
    "failure_rate": "/dashboard/models",
    "reservation_not_found": "/dashboard/webhooks?status=unknown",
    "below_floor": "/dashboard/accounts",
    "reconciliation": "/dashboard/reconciliation",
}
"""Where somebody finds what a check is about; of the others that is the page of the journal."""

ELSEWHERE = "/dashboard/journal"


class OverviewQuery(Query):
    """The step of the chart."""

    period: Period = "hour"


class Trend(NamedTuple):
    """What was spent in a window, and in the one before it."""

    spent: int
    before: int


class Overview(Controller):
    """The first page."""

    path = "/"

    @page("/")
    async def overview(self, request: PageRequest) -> Answer[bytes]:
        """What there is, what goes on, and what needs somebody."""
        asked, parts = request.asked(OverviewQuery), request.parts
        values: dict[str, Any] = {}
        if request.wants("live"):
            report = await parts.health.report()
            values |= {
                "found": await _told(parts.monitoring.overview()),
                "rate": await _told(parts.ongoing.per_second()),
                "report": report,
                "attention": [each for each in report.checks if each.status != "healthy"],
                "where": _where,
            }
        if request.wants("usage"):
            usage = await _told(parts.monitoring.usage(asked.period, None, None, request.visitor.zone))
            values |= {
                "usage": usage,
                "models": await _told(parts.monitoring.models(OF_MODELS[asked.period])),
                "trend": usage and Trend(sum(map(_spent, usage.series)), _spent(usage.previous)),
            }
        return request.page(
            "overview.html",
            period=asked.period,
            periods=PERIODS,
            windows=WINDOWS,
            kinds=KINDS,
            now_shown=request.wants("live"),
            usage_shown=request.wants("usage"),
            **values,
        )


async def _told(asked: Awaitable[T]) -> T | None:
    """What PostgreSQL tells; `None` while it is away, when what fails is needed most."""
    try:
        return await asked
    except BackingUnavailable:
        return None


def _spent(step: Step) -> int:
    return step.deducted + step.confirmed


def _where(check: Check) -> str:
    return WHERE.get(check.name, ELSEWHERE)

"""`/api/credits/alerts`: what fires and has fired."""

from typing import Annotated

from litestar import Controller
from msgspec import UNSET, Meta, Struct, UnsetType

from app.alerts import Alert, Level, State
from app.http import shapes
from app.http.answers import Time
from app.http.bodies import given
from app.http.queries import Query
from app.http.routes import reading
from app.http.times import iso, milliseconds
from app.http.wire import Answer, LedgerRequest


class AlertsQuery(Query):
    """Which of them."""

    integers = frozenset({"limit"})

    state: State | UnsetType = UNSET
    limit: shapes.Limit = 50


class AlertShown(Struct, rename="camel", omit_defaults=True):
    """A threshold that was crossed, once."""

    id: str
    rule: Annotated[str, Meta(description="See docs/alerts.md.")]
    level: Level
    state: State
    since: Time
    value: Annotated[
        int | float | None, Meta(description="As of the crossing; null where nothing is counted.")
    ]
    threshold: Annotated[int | float | None, Meta(description="Null where no number decides.")]
    message: Annotated[
        str, Meta(description="What was found, about which account or reservation, and what to do.")
    ]
    subject: (
        Annotated[
            str, Meta(description="The model or delivery that it is about, of rules that tell of each.")
        ]
        | UnsetType
    ) = UNSET
    resolved_at: Time | UnsetType = UNSET


class AlertsShown(Struct):
    """Those that fire first, then those that are over; each newest first."""

    data: list[AlertShown]


class Alerts(Controller):
    """What has gone wrong."""

    path = "/api/credits/alerts"
    tags = ("operating",)

    @reading(
        "/", name="alerts", scope="operate", query=AlertsQuery, summary="Alerts that fire, then the others"
    )
    async def alerts(self, request: LedgerRequest) -> Answer[AlertsShown]:
        """The rules are judged every 15 seconds. An alert that is over is kept for 90 days."""
        query = request.asked(AlertsQuery)
        request.caller.concerns_all("Alerts are")
        found = await request.parts.alerts.alerts(given(query.state), limit=query.limit)
        return Answer(AlertsShown([_shown(each) for each in found]))


def _shown(alert: Alert) -> AlertShown:
    return AlertShown(
        id=alert.id,
        rule=alert.rule,
        level=alert.level,
        state=alert.state,
        since=iso(milliseconds(alert.since)),
        value=alert.value,
        threshold=alert.threshold,
        message=alert.message,
        subject=alert.subject or UNSET,
        resolved_at=iso(milliseconds(alert.resolved_at)) if alert.resolved_at else UNSET,
    )

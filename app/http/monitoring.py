"""`/api/credits/monitoring`: what has been going on, in numbers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from litestar import Controller
from msgspec import UNSET, Meta, UnsetType

from app.http import monitored, shapes
from app.http.bodies import given
from app.http.monitored import (
    DashboardShown,
    HealthShown,
    ModelsShown,
    OverviewShown,
    TopUsersShown,
    UsageShown,
)
from app.http.parts import Parts
from app.http.problems import invalid
from app.http.queries import Query
from app.http.routes import reading
from app.http.wire import Answer, LedgerRequest
from app.monitoring import Period, WindowRefused

_WINDOW = frozenset({"since", "until", "tz"})
_TAKES = {
    "overview": frozenset[str](),
    "health": frozenset[str](),
    "usage": _WINDOW | {"period"},
    "top-users": frozenset({"period", "limit"}),
    "models": frozenset({"period"}),
    "dashboard": _WINDOW | {"period", "limit"},
}
"""What may be asked beside each type."""


class MonitoringQuery(Query, kw_only=True, rename={"since": "from", "until": "to"}):
    """What to tell, and of when."""

    integers = frozenset({"limit"})

    type: Literal["overview", "health", "usage", "top-users", "models", "dashboard"]
    period: Annotated[
        Period, Meta(description="The step of `usage`; of others how long the window is that ends now.")
    ] = "day"
    since: Annotated[shapes.Instant, Meta(description="Its step is shown whole.")] | UnsetType = UNSET
    until: Annotated[shapes.Instant, Meta(description="Now, if left out.")] | UnsetType = UNSET
    tz: Annotated[str, Meta(max_length=64, description="By whose clocks steps begin.")] = "UTC"
    limit: Annotated[shapes.Limit, Meta(description="How many users at most.")] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        usual = dict(zip(self.__struct_fields__[1:], self.__struct_defaults__, strict=True))
        shown = dict(zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True))
        for name in usual.keys() - _TAKES[self.type]:
            if getattr(self, name) != usual[name]:
                raise ValueError(f"`{shown[name]}`: not with `type={self.type}`")
        self.zone()

    def zone(self) -> ZoneInfo:
        """The time zone."""
        try:
            return ZoneInfo(self.tz)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"`tz`: {self.tz!r} is no time zone; name one such as UTC or America/Sao_Paulo"
            ) from None


async def _overview(_: MonitoringQuery, parts: Parts) -> OverviewShown:
    return monitored.overview(await parts.monitoring.overview())


async def _health(_: MonitoringQuery, parts: Parts) -> HealthShown:
    return monitored.health(await parts.health.report())


async def _usage(query: MonitoringQuery, parts: Parts) -> UsageShown:
    since, until = given(query.since), given(query.until)
    try:
        found = await parts.monitoring.usage(query.period, since, until, query.zone())
    except WindowRefused as refusal:
        raise invalid(f"{refusal}.", field="from") from None
    return monitored.usage(found)


async def _top_users(query: MonitoringQuery, parts: Parts) -> TopUsersShown:
    return monitored.top_users(await parts.monitoring.top_accounts(query.period, query.limit))


async def _models(query: MonitoringQuery, parts: Parts) -> ModelsShown:
    return monitored.models(await parts.monitoring.models(query.period))


async def _dashboard(query: MonitoringQuery, parts: Parts) -> DashboardShown:
    return monitored.dashboard(
        *await asyncio.gather(
            _overview(query, parts),
            _health(query, parts),
            _usage(query, parts),
            _top_users(query, parts),
            _models(query, parts),
        )
    )


_ANSWERS: dict[str, Callable[[MonitoringQuery, Parts], Awaitable[Any]]] = {
    "overview": _overview,
    "health": _health,
    "usage": _usage,
    "top-users": _top_users,
    "models": _models,
    "dashboard": _dashboard,
}


class Monitoring(Controller):
    """Monitoring."""

    path = "/api/credits"
    tags = ("operating",)

    @reading(
        "/monitoring",
        name="monitoring",
        query=MonitoringQuery,
        summary="Overview, health, usage, who spent most, models; or all of it",
    )
    async def monitoring(
        self, request: LedgerRequest
    ) -> Answer[OverviewShown | HealthShown | UsageShown | TopUsersShown | ModelsShown | DashboardShown]:
        """From sums that are kept behind the journal, by a second or so: `asOf` says until when they go."""
        query = request.asked(MonitoringQuery)
        request.caller.concerns_all("These numbers are")
        return Answer(await _ANSWERS[query.type](query, request.parts))

"""What monitoring shows over HTTP. Every answer says how far it has come."""

from datetime import datetime
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from app import monitoring
from app.health import CheckName, HealthReport, Status
from app.http.answers import Time
from app.http.times import iso, milliseconds
from app.ledger.entries import Kind

T = TypeVar("T", bound=Struct)

Ratio = Annotated[float | None, Meta(description="`null` where it would be divided by nothing.")]
Since = Annotated[Time, Meta(description="The period that ends now begins at a quarter of an hour.")]
Signed = Annotated[int, Meta(description="Added, less what was taken.")]


class Shown(Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """An answer of monitoring."""

    as_of: Annotated[Time, Meta(description="All that happened until then is in it.")]
    lag_seconds: Annotated[float | None, Meta(description="How long ago that was; `null`: not known.")]


class ModelShown(Struct, kw_only=True, rename="camel"):
    """What a model was used for. `credits`: deducted and confirmed, before refunds."""

    model_id: str
    transactions: int
    credits: int
    reserved: Annotated[int, Meta(description="By the reservations that were confirmed.")]
    captured: Annotated[int, Meta(description="Of that.")]
    capture_ratio: Annotated[Ratio, Meta(description="captured / reserved")]
    success_rate: Annotated[Ratio, Meta(description="confirmed / ended; a late confirm is one more ending")]
    average_seconds: Annotated[Ratio, Meta(description="From the reserve to the confirm.")]


class OverviewShown(Shown, kw_only=True):
    """How everything stands, and what there was since the beginning."""

    accounts: monitoring.AccountCounts
    available: int
    held: int
    liability: Annotated[int, Meta(description="Held and positive available.")]
    buckets: list[monitoring.BucketSum]
    reservations: monitoring.ReservationCounts
    transactions: Annotated[
        dict[Kind, monitoring.KindSum], Meta(description="Kinds that never happened are left out.")
    ]
    models: Annotated[list[ModelShown], Meta(description="Most used first.")]


class StepShown(Struct, kw_only=True, rename="camel"):
    """What happened until the next step: the kinds in credits, the others counted."""

    start: Time
    granted: int
    deducted: int
    confirmed: int
    cancelled: int
    expired: int
    refunded: int
    lapsed: int
    adjusted: Signed
    transactions: int
    reservations: int
    accounts: Annotated[int, Meta(description="Different ones that had a transaction.")]


class UsageShown(Shown, kw_only=True):
    """A series without holes. `previous`: all of as many steps, before the first one."""

    period: monitoring.Period
    series: list[StepShown]
    previous: StepShown


class UserShown(Struct, kw_only=True, rename="camel"):
    """What an account did. `spent`: deducted and confirmed, before refunds."""

    account_id: str
    spent: int
    refunded: int
    transactions: int
    reservations: int
    last_activity_at: Time


class TopUsersShown(Shown, kw_only=True):
    """The accounts that spent most since `since`, first."""

    period: monitoring.Period
    since: Since
    users: list[UserShown]


class ModelsShown(Shown, kw_only=True):
    """What models were used for since `since`, most used first."""

    period: monitoring.Period
    since: Since
    models: list[ModelShown]


class CheckShown(Struct, kw_only=True):
    """A look at one thing. `value`: `null` where it could not be told."""

    name: CheckName
    status: Status
    value: int | float | None
    warning: int | float | None
    critical: int | float | None
    message: str


class HealthShown(Shown, kw_only=True):
    """All checks; the whole is as bad as its worst."""

    status: Status
    checked_at: Time
    checks: list[CheckShown]


class DashboardShown(Shown, kw_only=True):
    """All of it in one answer; `asOf` is that of the oldest."""

    overview: OverviewShown
    health: HealthShown
    usage: UsageShown
    top_users: TopUsersShown
    models: ModelsShown


def overview(found: monitoring.Overview) -> OverviewShown:
    """As it is answered."""
    return _like(OverviewShown, found, **_age(found), models=[_model(each) for each in found.models])


def usage(found: monitoring.Usage) -> UsageShown:
    """As it is answered."""
    series = [_step(each) for each in found.series]
    return _like(UsageShown, found, **_age(found), series=series, previous=_step(found.previous))


def top_users(found: monitoring.TopAccounts) -> TopUsersShown:
    """As it is answered."""
    users = [
        _like(
            UserShown,
            each,
            account_id=each.account,
            last_activity_at=_time(each.last_activity_at),
        )
        for each in found.users
    ]
    return _like(TopUsersShown, found, **_age(found), since=_time(found.since), users=users)


def models(found: monitoring.ModelsUse) -> ModelsShown:
    """As it is answered."""
    return _like(
        ModelsShown,
        found,
        **_age(found),
        since=_time(found.since),
        models=[_model(each) for each in found.models],
    )


def health(found: HealthReport) -> HealthShown:
    """As it is answered."""
    checked_at = _time(found.checked_at)
    checks = [_like(CheckShown, each) for each in found.checks]
    return _like(HealthShown, found, as_of=checked_at, checked_at=checked_at, checks=checks)


def dashboard(
    seen: OverviewShown, checked: HealthShown, used: UsageShown, top: TopUsersShown, by_model: ModelsShown
) -> DashboardShown:
    """All of it."""
    oldest = min((seen, used, top, by_model), key=lambda each: each.as_of)
    return DashboardShown(
        as_of=oldest.as_of,
        lag_seconds=oldest.lag_seconds,
        overview=seen,
        health=checked,
        usage=used,
        top_users=top,
        models=by_model,
    )


def _step(step: monitoring.Step) -> StepShown:
    return _like(StepShown, step, start=_time(step.start))


def _model(use: monitoring.ModelUse) -> ModelShown:
    return _like(ModelShown, use, model_id=use.model)


def _age(
    found: monitoring.Overview | monitoring.Usage | monitoring.TopAccounts | monitoring.ModelsUse,
) -> dict[str, Any]:
    return {"as_of": _time(found.as_of), "lag_seconds": round(found.lag_seconds, 3)}


def _time(at: datetime) -> str:
    return iso(milliseconds(at))


def _like(shown: type[T], found: Struct, **other: Any) -> T:
    """What is found, with fields that are shown otherwise."""
    same = {name: getattr(found, name) for name in shown.__struct_fields__ if name not in other}
    return shown(**same, **other)

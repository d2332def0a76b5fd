"""Holds every number of monitoring against what adding up the whole journal by hand gives."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from app.monitoring import Period
from app.periods import edges
from persistence.monitoring import PostgresMonitoring
from tests.integration.monitoring.tally import Tally, quarter_before

ZONES = (
    "UTC", "America/Sao_Paulo", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Antarctica/Troll",
)  # fmt: skip
HOURS: dict[Period, int] = {"hour": 1, "day": 24, "week": 24 * 7, "month": 24 * 30}


async def assert_all(
    tally: Tally, monitoring: PostgresMonitoring, chance: random.Random, now: datetime
) -> None:
    """Demand that everything is right."""
    await assert_overview(tally, monitoring)
    for period in HOURS:
        await assert_window(tally, monitoring, period, now)
    await assert_series(tally, monitoring, chance, now)


async def assert_overview(tally, monitoring) -> None:
    shown = await monitoring.overview()
    balances = tally.balances().values()
    assert (len(balances), sum(max(each) > 0 for each in balances)) == (
        shown.accounts.total,
        shown.accounts.with_balance,
    )
    assert sum(available for available, _ in balances) == shown.available
    assert sum(held for _, held in balances) == shown.held
    assert sum(held + max(available, 0) for available, held in balances) == shown.liability
    buckets = {each.bucket: (each.available, each.held, each.liability) for each in shown.buckets}
    assert tally.buckets() == {name: sums for name, sums in buckets.items() if any(sums)}
    assert sum(each.liability for each in shown.buckets) == shown.liability
    assert {**dict.fromkeys(msgspec.structs.asdict(shown.reservations), 0), **tally.statuses} == (
        msgspec.structs.asdict(shown.reservations)
    )
    assert tally.kinds() == {kind: (each.count, each.credits) for kind, each in shown.transactions.items()}
    assert_models(tally.models(datetime.min.replace(tzinfo=UTC)), shown.models)


def assert_models(wanted, shown) -> None:
    assert len(wanted) == len(shown)
    for each in shown:
        found = msgspec.structs.asdict(each)
        assert pytest.approx(found) == wanted[each.model]
    used = [(-each.transactions, -each.credits, each.model) for each in shown]
    assert sorted(used) == used


async def assert_window(tally, monitoring, period, now) -> None:
    since = quarter_before(now, timedelta(hours=HOURS[period]))
    top = await monitoring.top_accounts(period, 4)
    assert since == top.since
    assert tally.top(since)[:4] == [msgspec.structs.asdict(each) for each in top.users]
    models = await monitoring.models(period)
    assert since == models.since
    assert_models(tally.models(since), models.models)


async def assert_series(tally, monitoring, chance, now) -> None:
    first = min(each.at for each in tally.lines)
    for period, hours in HOURS.items():
        for zone in ZONES:
            tz = ZoneInfo(zone)
            await assert_usage(tally, monitoring, (period, None, None, tz), now)
            since = first + chance.random() * (now - first)
            until = since + chance.random() * min(now - since, timedelta(hours=200 * hours))
            await assert_usage(tally, monitoring, (period, since, until, tz), now)


async def assert_usage(tally, monitoring, asked, now) -> None:
    shown = await monitoring.usage(*asked)
    before, steps = edges(*asked, now)
    assert tally.step(before, steps[0]) == msgspec.structs.asdict(shown.previous)
    assert len(steps) - 1 == len(shown.series)
    for start, end, step in zip(steps, steps[1:], shown.series, strict=False):
        assert tally.step(start, end) == msgspec.structs.asdict(step), asked

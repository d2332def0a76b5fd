"""The first page: numbers that are the ledger's, what needs somebody, and where that is."""

import asyncio
from datetime import UTC, datetime

import pytest

from app.dashboard.overview import KINDS, WHERE
from app.health import CHECKS, Check, HealthReport
from app.ledger.backing import BackingUnavailable
from persistence.monitoring.following import count
from persistence.monitoring.snapshots import Snapshots
from tests.dashboard.browsing import HOME
from tests.http.steps import do


async def counted(database) -> None:
    """Adds up what is journaled, as workers do beside the journal."""
    async with asyncio.timeout(20):
        while await database.fetchval("SELECT count(*) FROM journal") < 7:  # noqa: ASYNC110 - so it is
            await asyncio.sleep(0.02)
    async with database.acquire() as connection:
        while await count(connection):
            pass
        await Snapshots().renew(connection, datetime.now(UTC))


@pytest.fixture
def report(app, monkeypatch):
    """Makes health find these checks."""

    def find(*checks: Check) -> None:
        async def found() -> HealthReport:
            worst = "critical" if checks else "healthy"
            return HealthReport(
                status=worst, checked_at=datetime.now(UTC), lag_seconds=0.0, checks=list(checks)
            )

        monkeypatch.setattr(app.state.parts.health, "report", found)

    return find


async def test_without_any_traffic_the_page_says_how_to_see_some(operator, report):
    report()
    page = await operator.get(HOME)
    assert 200 == page.status
    assert "Nothing moved in the last 24 hours" in page.text
    assert "lastro demo" in page.text
    assert "Nothing. All 0 checks are well." in page.text


async def test_the_numbers_are_those_of_the_ledger(operator, report, client, database, journal):
    report()
    await do(client, "grant", accountId="alice", amount=1_000_000)
    await do(client, "grant", accountId="bob", amount=500)
    await do(client, "deduct", accountId="bob", amount=120, modelId="flux")
    made = await do(client, "reserve", accountId="alice", amount=3_000, modelId="kling-v2")
    await do(client, "confirm", reservationId=made["reservation"]["id"], amount=2_500)
    await do(client, "reserve", accountId="alice", amount=7_000, modelId="kling-v2")
    await do(client, "grant", accountId="carol", amount=1)
    await counted(database)
    page = await operator.get(HOME)
    for told in (
        f"Available {1_000_000 - 2_500 - 7_000 + 380 + 1:,}",
        "Held 7,000 by 1 open reservations",
        "Spent 2,620",
        f"Liability {1_000_000 - 2_500 + 380 + 1:,}",
        "3 accounts, 3 with credits",
        "2,620 credits spent in the last 24 hours",
        "flux 120",
        "kling-v2 2,500",
    ):
        assert told in page.text, told
    series = [given["data-value"] for tag, given in page.tags if "data-value" in given]
    steps = [series[place : place + len(KINDS)] for place in range(0, len(series), len(KINDS))]
    assert len(steps) == 24
    assert ["1000501", "120", "2500", "0", "0", "0"] in steps


async def test_what_is_not_well_is_a_card_that_leads_to_where_it_is_seen(operator, report):
    report(
        Check(
            name="overdue_reservations", status="critical", value=1234, warning=1, critical=100, message="<b>"
        ),
        Check(name="workers", status="warning", value=1, warning=1, critical=0, message="One worker only."),
        Check(name="backlog", status="healthy", value=0.25, warning=0.5, message="Little."),
    )
    page = await operator.get(HOME)
    cards = {
        given["id"]: given["href"]
        for tag, given in page.tags
        if tag == "a" and given.get("id", "").startswith("attention-")
    }
    assert {
        "attention-overdue_reservations": "/dashboard/reservations?status=overdue",
        "attention-workers": "/dashboard/journal",
    } == cards
    assert "One worker only." in page.text
    assert "&lt;b&gt;" in page.html
    assert "<b>" not in page.html
    for told in ("1,234", "0.25", "Health: critical"):
        assert told in page.text


@pytest.mark.parametrize("check", CHECKS)
async def test_every_check_leads_to_a_page_that_is_there(operator, report, check):
    report(Check(name=check, status="warning", message="why"))
    page = await operator.get(HOME)
    (leads,) = [given["href"] for _, given in page.tags if given.get("id") == f"attention-{check}"]
    assert 200 == (await operator.get(leads)).status, leads


async def test_while_postgresql_is_away_the_page_shows_what_fails(app, operator, report, monkeypatch):
    report(Check(name="postgres", status="critical", message="It does not answer."))

    async def away(*_: object) -> None:
        raise BackingUnavailable("away")

    for of, asked in (("monitoring", "overview"), ("monitoring", "usage"), ("monitoring", "models"),
                      ("ongoing", "per_second")):  # fmt: skip
        monkeypatch.setattr(getattr(app.state.parts, of), asked, away)
    page = await operator.get(HOME)
    assert 200 == page.status
    assert "PostgreSQL does not answer" in page.text
    assert "It does not answer." in page.text


def test_where_checks_lead_names_checks_that_there_are():
    assert set(CHECKS) >= WHERE.keys()


@pytest.mark.parametrize("window", ["hour", "day", "week", "month"])
async def test_every_window_has_a_series_and_a_wrong_one_is_a_mistake(operator, report, window):
    report()
    page = await operator.get(f"{HOME}?period={window}")
    assert 200 == page.status
    assert window in {given["href"].partition("period=")[2] for tag, given in page.tags if tag == "a"}
    assert 400 == (await operator.get(f"{HOME}?period=year")).status


async def test_a_poll_is_answered_with_the_part_that_it_asks_for(operator, report):
    report()
    for part, other in (("live", "usage"), ("usage", "live")):
        page = await operator.get(HOME, **{"hx-request": "true", "hx-target": part})
        ids = {given.get("id") for _, given in page.tags}
        assert part in ids
        assert other not in ids

"""The first page: numbers that are the ledger's, what needs somebody, and where that is."""

import asyncio
from datetime import UTC, datetime

import pytest

from app.dashboard.overview import WHERE
from app.health import CHECKS, Check, HealthReport
from tests.dashboard.browsing import HOME
from tests.http.conftest import app, client, clock, journal, settings  # noqa: F401 (fixtures)


async def see(browser, path, *texts, seconds=30):
    """The page, once it says these: numbers are added up behind the journal."""
    async with asyncio.timeout(seconds):
        while True:
            page = await browser.get(path)
            if all(text in page.text for text in texts):
                return page
            await asyncio.sleep(0.2)


@pytest.fixture
def report(app, monkeypatch):  # noqa: F811
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

"""Steps of a series: where they begin when clocks are changed."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.monitoring import POINTS_MAX, TooManyPoints, WindowRefused
from app.periods import USUAL, edges, quarter

NOW = datetime(2026, 11, 22, 8, 27, tzinfo=UTC)
HOUR = timedelta(hours=1)


def steps(period, since, until, zone):
    tz = ZoneInfo(zone)
    found = edges(period, datetime.fromisoformat(since), datetime.fromisoformat(until), tz, NOW)[1]
    return [f"{each.astimezone(tz):%m-%d %H:%M}" for each in found], found


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Africa/Cairo", "2026-04-24", 23),
        ("America/Havana", "2026-03-08", 23),
        ("America/Havana", "2026-11-01", 25),
        ("Asia/Kathmandu", "2026-11-01", 24),
    ],
)
def test_a_day_on_which_clocks_are_changed_is_one_step_from_midnight_to_midnight(zone, day, hours):
    tz = ZoneInfo(zone)
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=tz)
    found = edges("day", noon, noon + HOUR, tz, NOW)[1]
    assert [timedelta(hours=hours)] == [end - start for start, end in pairwise(found)]
    assert day == f"{found[0].astimezone(tz):%Y-%m-%d}"


def test_an_hour_that_happens_twice_is_two_steps_and_one_that_is_left_out_is_none():
    twice, _ = steps("hour", "2026-10-24T23:30Z", "2026-10-25T02:30Z", "Europe/Berlin")
    assert ["10-25 01:00", "10-25 02:00", "10-25 02:00", "10-25 03:00", "10-25 04:00"] == twice
    none, _ = steps("hour", "2026-03-29T00:30Z", "2026-03-29T01:30Z", "Europe/Berlin")
    assert ["03-29 01:00", "03-29 03:00", "03-29 04:00"] == none


def test_where_clocks_move_by_half_an_hour_hours_still_begin_at_full_ones():
    shown, found = steps("hour", "2026-04-04T13:30Z", "2026-04-04T16:00Z", "Australia/Lord_Howe")
    assert ["04-05 00:00", "04-05 01:00", "04-05 02:00", "04-05 03:00"] == shown
    assert [HOUR, 1.5 * HOUR, HOUR] == [end - start for start, end in pairwise(found)]


def test_a_day_that_a_country_leaves_out_is_no_step():
    shown, _ = steps("day", "2011-12-29T12:00Z", "2012-01-01T00:00Z", "Pacific/Apia")
    assert ["12-29 00:00", "12-31 00:00", "01-01 00:00", "01-02 00:00"] == shown


def test_weeks_begin_on_monday_and_months_on_the_first():
    weeks, _ = steps("week", "2026-12-30T00:00Z", "2027-01-05T00:00Z", "UTC")
    assert ["12-28 00:00", "01-04 00:00", "01-11 00:00"] == weeks
    months, _ = steps("month", "2027-12-31T23:30Z", "2028-02-01T00:00Z", "America/Sao_Paulo")
    assert ["12-01 00:00", "01-01 00:00", "02-01 00:00"] == months


ZONES = st.sampled_from(("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"))
MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(period=st.sampled_from(sorted(USUAL)), zone=ZONES, now=MOMENTS)
def test_a_usual_series_ends_with_the_step_that_goes_on_and_as_many_come_before_it(period, zone, now):
    before, found = edges(period, None, None, ZoneInfo(zone), now)
    assert before < found[0]
    assert all(start < end for start, end in pairwise(found))
    assert found[-2] < now <= found[-1]
    assert USUAL[period] - 1 <= len(found) - 1 <= USUAL[period]  # one less where a day was left out


@given(period=st.sampled_from(sorted(USUAL)), zone=ZONES, since=MOMENTS, points=st.integers(1, 50))
def test_whatever_is_asked_for_lies_between_the_first_edge_and_the_last(period, zone, since, points):
    length = {"hour": 1, "day": 24, "week": 168, "month": 720}[period]
    until = since + points * timedelta(hours=length)
    _, found = edges(period, since, until, ZoneInfo(zone), NOW)
    assert found[0] <= since < found[1]
    assert found[-2] < until <= found[-1]
    assert edges(period, found[0], found[-1], ZoneInfo(zone), NOW)[1] == found


def test_more_steps_than_are_shown_are_refused_and_so_are_the_ends_of_time():
    since = NOW - POINTS_MAX * HOUR
    assert POINTS_MAX == len(edges("hour", since + HOUR, NOW, UTC, NOW)[1]) - 1
    with pytest.raises(TooManyPoints):
        edges("hour", since - HOUR, NOW, UTC, NOW)
    for year in (1, 9999):
        moment = datetime(year, 6, 1, tzinfo=UTC)
        with pytest.raises(WindowRefused):
            edges("month", moment, moment + 200 * 24 * HOUR, ZoneInfo("Asia/Tokyo"), NOW)
    with pytest.raises(WindowRefused):
        edges("day", NOW, NOW, UTC, NOW)


def test_a_quarter_begins_at_a_quarter():
    assert datetime(2026, 11, 22, 8, 15, tzinfo=UTC) == quarter(NOW)

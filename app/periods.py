"""Steps of a series: hours, days, weeks and months as the clocks of a time zone show them.

A step begins where its hour or day begins there, whatever the clocks do meanwhile: a day on which they are
changed has 23 or 25 hours, and one that a country leaves out is no step.
"""

from collections.abc import Callable
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, time, timedelta, tzinfo

from app.monitoring import POINTS_MAX, Period, TooManyPoints, WindowRefused

USUAL: dict[Period, int] = {"hour": 24, "day": 30, "week": 12, "month": 12}
"""How many steps a series has by default; the last one goes on."""

RECENT: dict[Period, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}
"""The period that ends now."""

QUARTER = timedelta(minutes=15)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = timedelta()

Move = Callable[[datetime, int], datetime]
"""The beginning (UTC) of the step that is so many steps behind the one in which a moment is."""


def quarter(at: datetime) -> datetime:
    """The quarter of an hour in which a moment is."""
    return _EPOCH + (at - _EPOCH) // QUARTER * QUARTER


def edges(
    period: Period, since: datetime | None, until: datetime | None, tz: tzinfo, now: datetime
) -> tuple[datetime, list[datetime]]:
    """When as many steps before the series begin; and when its own begin, and the last one ends.

    All in UTC. The steps that `since` and `until` are in are whole ones.

    Raises:
        TooManyPoints
        WindowRefused: `until` is not after `since`, or it leaves the years that there are.
    """
    move = _mover(period, tz)
    end = now if until is None else until
    if since is not None and since >= end:
        raise WindowRefused("`from`: it is not earlier than `to`, which is now where it is left out")
    try:
        last = move(end, 0)
        if last == end:
            last = move(end, -1)
        found = [move(last, 1 - USUAL[period]) if since is None else move(since, 0)]
        while found[-1] <= last:
            if len(found) > POINTS_MAX:
                raise TooManyPoints(
                    f"`from`: more than {POINTS_MAX} steps; a later `from`, or a longer `period`"
                )
            found.append(move(found[-1], 1))
        return move(found[0], 1 - len(found)), found
    except OverflowError:
        raise WindowRefused("`from` and `to`: too near to the years 1 and 9999") from None


def _mover(period: Period, tz: tzinfo) -> Move:
    if period == "hour":
        return lambda at, by: _hours(at, by, tz)
    shift = {"day": _days, "week": _weeks, "month": _months}[period]
    return lambda at, by: datetime.combine(shift(at.astimezone(tz).date(), by), time(), tz).astimezone(UTC)


def _days(day: date, by: int) -> date:
    return day + timedelta(days=by)


def _weeks(day: date, by: int) -> date:
    return day + timedelta(days=7 * by - day.weekday())


def _months(day: date, by: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + by, 12)
    if not MINYEAR <= year <= MAXYEAR:
        raise OverflowError(f"the year {year}")
    return date(year, month + 1, 1)


def _hours(at: datetime, by: int, tz: tzinfo) -> datetime:
    at = _full_hour(at, tz)
    for _ in range(by):
        at += timedelta(hours=1)
        # Where clocks are moved by half an hour the next full one is further on.
        while (past := _past_the_hour(at, tz)) != _NOTHING:
            at += timedelta(hours=1) - past
    for _ in range(-by):
        at = _full_hour(at - QUARTER, tz)
    return at


def _full_hour(at: datetime, tz: tzinfo) -> datetime:
    while (past := _past_the_hour(at, tz)) != _NOTHING:
        at -= past
    return at


def _past_the_hour(at: datetime, tz: tzinfo) -> timedelta:
    local = at.astimezone(tz)
    return timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)

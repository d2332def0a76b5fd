"""How things look on a page: numbers, times, ids. Everything else that a template writes is escaped.

Times stand in the visitor's zone, with UTC beside them for whoever points at them. Numbers have commas.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from app.http.times import milliseconds, moment
from app.monitoring import KindSum

MINUTE, HOUR, DAY = 60, 3600, 86_400
_SHORT_ID = 13


def number(value: float) -> str:
    """`1234567` is `1,234,567`; a minus is one."""
    return f"{value:,}".replace("-", "\u2212")


def signed(value: int) -> str:
    """The same for what was added or taken; nothing for 0."""
    return "" if not value else ("+" if value > 0 else "") + number(value)


def percent(share: float | None) -> str:
    """A share of 1, `None` where there is none."""
    return "\u2013" if share is None else f"{share * 100:.1f}%"


def change(share: float) -> str:
    """How much more or less, in percent: `+8%`."""
    return f"{share * 100:+,.0f}%".replace("-", "\u2212")


def measure(value: float | None) -> str:
    """A value of any kind: whole as a number, else with as many places as tell something."""
    if value is None:
        return ""
    return number(int(value)) if float(value).is_integer() else f"{value:.3g}"


def spent(kinds: Mapping[str, KindSum]) -> int:
    """Of transactions by kind: what was deducted and confirmed, before refunds."""
    return sum(kinds[kind].credits for kind in ("deducted", "confirmed") if kind in kinds)


def duration(seconds: float | None) -> str:
    """About how long, in one unit or two."""
    if seconds is None:
        return "\u2013"
    whole = round(abs(seconds))
    if whole < MINUTE:
        return f"{seconds:.1f} s" if 0 < abs(seconds) < 10 and seconds != whole else f"{whole} s"  # noqa: PLR2004
    if whole < HOUR:
        return f"{whole // MINUTE} min" + (f" {whole % MINUTE} s" if whole % MINUTE else "")
    if whole < DAY:
        return f"{whole // HOUR} h" + (f" {whole % HOUR // MINUTE} min" if whole % HOUR // MINUTE else "")
    return f"{whole // DAY} d" + (f" {whole % DAY // HOUR} h" if whole % DAY // HOUR else "")


def _at(value: datetime | int) -> datetime:
    return moment(value) if isinstance(value, int) else value.astimezone(UTC)


def _time(at: datetime, text: str) -> Markup:
    told = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), told, text)


@pass_context
def when(context: Context, value: datetime | int | None) -> Markup:
    """A moment (milliseconds, or a datetime) in the visitor's zone."""
    if value is None:
        return Markup("\u2013")
    at = here = _at(value)
    with suppress(OverflowError):  # the last hours of the year 9999 are in the next one east of London
        here = at.astimezone(context["visitor"].zone)
    return _time(at, f"{here:%d %b %Y, %H:%M:%S}")


@pass_context
def ago(context: Context, value: datetime | int | None) -> Markup:
    """How long ago, or in how long, as of the page's own moment."""
    if value is None:
        return Markup("\u2013")
    at = _at(value)
    seconds = (milliseconds(context["now"]) - milliseconds(at)) / 1000
    return _time(at, f"{duration(round(seconds))} ago" if seconds >= 0 else f"in {duration(round(-seconds))}")


def short(value: str) -> Markup:
    """The end of a long id, which tells it from others; the whole for whoever points at it."""
    if len(value) <= _SHORT_ID:
        return Markup('<span class="id">{}</span>').format(value)
    return Markup('<span class="id" title="{}">\u2026{}</span>').format(value, value[-_SHORT_ID + 1 :])


def is_past(value: datetime | int, now: datetime) -> bool:
    """Whether a moment has passed."""
    return _at(value) <= now


def link(path: str, **query: Any) -> str:
    """A path with a query, of which what is `None` is left out."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def humane(word: str) -> str:
    """`journal_lag` is `Journal lag`."""
    return word.replace("_", " ").capitalize()


_FILTERS = (number, signed, percent, change, measure, spent, duration, when, ago, is_past, short, humane)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for each in _FILTERS:
        environment.filters[each.__name__] = each
    environment.globals["link"] = link
    return environment


_PAGES = _environment()


def rendered(template: str, values: dict[str, Any]) -> bytes:
    """The page as bytes."""
    return _PAGES.get_template(template).render(values).encode()

"""What people read of an alert."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from app.alerts import Alert
from persistence.alerts.edges import Change

TITLE_MAX = 200
MINUTES_MAX = 180


class Notice(NamedTuple):
    """For one telling."""

    title: str
    body: str


_HOW = {"fires": "", "worse": " (it was a warning)", "over": ""}


def notice_of(change: Change) -> Notice:
    """Which alert, since when, and what to do."""
    alert = change.alert
    name = alert.rule.replace("_", " ") + (f" ({alert.subject})" if alert.subject else "")
    if change.what == "over":
        assert alert.resolved_at is not None, "what is over has an end"
        lasted = _lasted(alert.resolved_at - alert.since)
        return Notice(f"Lastro: over: {name}"[:TITLE_MAX], f"It lasted {lasted}. It was: {alert.message}")
    title = f"Lastro: {alert.level}: {name}{_HOW[change.what]}"[:TITLE_MAX]
    return Notice(title, f"{alert.message}\n{_numbers(alert)}since {_at(alert.since)}, alert {alert.id}")


def _numbers(alert: Alert) -> str:
    if alert.threshold is None or alert.value is None:
        return ""
    return f"{alert.value:g}, threshold {alert.threshold:g}, "


def _at(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _lasted(time: timedelta) -> str:
    minutes = round(time.total_seconds() / 60)
    return f"{minutes} min" if minutes < MINUTES_MAX else f"{minutes // 60} h"

"""What is watched: one table, which the guide shows and the settings change."""

import re
from pathlib import Path

import pytest

from app.alerts import channel_urls, heartbeat_url
from app.health import CHECKS
from app.rules import RULES, read_rules

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \| ([\d.]*) \| ([\d.]*) \|$", re.MULTILINE)


def shown(number: float | None) -> str:
    return "" if number is None else format(number, "g")


def test_the_guide_shows_every_rule_with_its_thresholds():
    rules = [(each.name, each.says, shown(each.warning), shown(each.critical)) for each in RULES.values()]
    assert rules == ROW.findall(GUIDE)


def test_whoever_is_told_of_an_alert_finds_it_in_the_runbooks():
    runbooks = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+`) \| .+ \|$", runbooks, re.MULTILINE)
    assert set(RULES) == set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_the_checks_of_health_are_those_of_the_contract_in_its_order():
    assert CHECKS == (
        "overdue_reservations", "expired_last_hour", "below_floor", "reconciliation", "failure_rate",
        "reservation_not_found", "journal_lag", "backlog", "workers", "failed_jobs", "redis_persistence",
        "redis_eviction", "fence", "cleanup", "postgres",
    )  # fmt: skip


def test_thresholds_are_changed_by_name_and_the_others_stay():
    rules = read_rules(" backlog=0.25:0.75,workers=3:1 , expired_last_hour=:7,failed_jobs=2:,")
    changed = {name for name in RULES if rules[name] != RULES[name]}
    assert {"backlog", "workers", "expired_last_hour", "failed_jobs"} == changed
    assert (0.25, 0.75) == (rules["backlog"].warning, rules["backlog"].critical)
    assert (None, 7) == (rules["expired_last_hour"].warning, rules["expired_last_hour"].critical)
    assert (2, None) == (rules["failed_jobs"].warning, rules["failed_jobs"].critical)
    assert RULES == read_rules("")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("backlog", "`<rule>=<warning>:<critical>` is wanted"),
        ("backlog=0.5", "is wanted"),
        ("backlog=x:1", "is wanted"),
        ("backlog=-1:1", "is wanted"),
        ("backlog=1.2.3:4", "1.2.3 is no number"),
        ("nothing=1:2", "no rule is called nothing: there are overdue_reservations, "),
        ("fence=1:2", "no number decides about fence"),
        ("backlog=0.9:0.5", "what is critical of backlog is above the warning"),
        ("workers=1:2", "what is critical of workers is below the warning"),
    ],
)
def test_what_is_wrong_with_thresholds_is_said(given, why):
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        read_rules(f"failed_jobs=1:2, {given}")
    assert given in str(refused.value)


@pytest.mark.parametrize(
    ("value", "status"), [(0, "critical"), (1, "warning"), (2, "healthy"), (9, "healthy")]
)
def test_where_fewer_is_worse_thresholds_are_reached_from_above(value, status):
    assert status == RULES["workers"].judge(value)


@pytest.mark.parametrize(("value", "status"), [(0.49, "healthy"), (0.5, "warning"), (0.9, "critical")])
def test_where_more_is_worse_thresholds_are_reached_from_below(value, status):
    assert status == RULES["backlog"].judge(value)


def test_urls_of_channels_may_have_commas_inside():
    assert ["slack://a/b/c", "mailto://u:p@x.example?to=a,b", "json://h/p"] == channel_urls(
        " slack://a/b/c, mailto://u:p@x.example?to=a,b\njson://h/p, "
    )
    assert [] == channel_urls(" ")


@pytest.mark.parametrize("text", ["s3cret", "json://h, s3cret", "://s3cret", "json://" + "s3cret" * 400])
def test_what_is_no_channel_is_refused_without_being_shown(text):
    with pytest.raises(ValueError, match="none that begins with a scheme") as refused:
        channel_urls(text if text != "json://h, s3cret" else "json://h s3cret x")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["s3cret", "ftp://h/s3cret", "https://h/s3cret x", "https://"])
def test_what_is_no_heartbeat_is_refused_without_being_shown(text):
    with pytest.raises(ValueError, match="begins with http") as refused:
        heartbeat_url(text)
    assert "s3cret" not in str(refused.value)

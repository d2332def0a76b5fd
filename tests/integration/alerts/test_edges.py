"""When an alert begins, becomes worse and ends."""

import random
from datetime import UTC, datetime, timedelta

from app.rules import RULES
from persistence.alerts.edges import CALM_FOR, Change, Edges
from persistence.health.seen import Seen, counted, untold

AT = datetime(2026, 11, 22, tzinfo=UTC)
ROUND = timedelta(seconds=15)
BACKLOG, WORKERS, FENCE = RULES["backlog"], RULES["workers"], RULES["fence"]
CONFLICT = RULES["webhook_conflict"]


class Story:
    """Rounds one after the other; remembers what fires."""

    def __init__(self) -> None:
        self.edges = Edges()
        self.firing = {}
        self.now = AT

    def sees(self, *seen: Seen, each: frozenset[str] = frozenset()) -> list[Change]:
        """What a round changes."""
        changes = self.edges.changes(self.firing, seen, self.now, rules=each)
        self.now += ROUND
        for change in changes:
            key = change.alert.rule, change.alert.subject
            if change.what == "over":
                del self.firing[key]
            else:
                self.firing[key] = change.alert
        return changes

    def what(self, *values: float) -> list[str]:
        """The changes of rounds that see these values of the backlog."""
        return [change.what for value in values for change in self.sees(counted(BACKLOG, value, "x"))]


def test_a_threshold_that_is_crossed_fires_once_however_long_it_lasts():
    story = Story()
    (fires,) = story.sees(counted(BACKLOG, 0.5, "half full", do="Look."))
    assert ("fires", "backlog", "warning", 0.5, 0.5, AT, "half full Look.") == (
        fires.what,
        fires.alert.rule,
        fires.alert.level,
        fires.alert.value,
        fires.alert.threshold,
        fires.alert.since,
        fires.alert.message,
    )
    assert [] == story.what(*[0.6] * 300)


def test_what_hovers_about_its_threshold_is_told_once():
    assert ["fires"] == Story().what(*[0.49, 0.51] * 200)


def test_it_ends_after_a_minute_well_below_the_threshold_and_may_fire_again():
    story = Story()
    assert ["fires"] == story.what(0.5)
    assert [] == story.what(*[0.41] * 100), "not well below"
    assert [] == story.what(0.39, 0.39, 0.39, 0.39)
    assert [] == story.what(0.42), "the minute begins again"
    assert [] == story.what(0.39, 0.39, 0.39, 0.39)
    (over,) = story.sees(counted(BACKLOG, 0.1, "x"))
    assert ("over", "resolved", story.now - ROUND) == (over.what, over.alert.state, over.alert.resolved_at)
    assert [] == story.what(0.1, 0.3, 0.49)
    assert ["fires"] == story.what(0.5)


def test_what_becomes_worse_is_told_once_more_and_not_when_it_becomes_better():
    story = Story()
    assert ["fires", "worse"] == story.what(0.6, 0.95, 0.95, 0.6, 0.95)
    assert "critical" == story.firing["backlog", ""].level
    assert 0.9 == story.firing["backlog", ""].threshold
    assert AT == story.firing["backlog", ""].since


def test_what_is_critical_at_once_is_told_once():
    assert ["fires"] == Story().what(0.95, 0.6, 0.99)


def test_exactly_one_alert_for_each_crossing_in_hundreds_of_rounds():
    random_ = random.Random(7)
    story = Story()
    crossings = 0
    changes: list[str] = []
    for _ in range(300):
        crossings += 1
        changes += story.what(*[random_.uniform(0.5, 0.89) for _ in range(random_.randint(1, 9))])
        changes += story.what(*[random_.uniform(0, 0.39) for _ in range(5)])
    assert ["fires", "over"] * crossings == changes


def test_what_nobody_can_tell_changes_nothing():
    story = Story()
    assert ["fires"] == story.what(0.5)
    for _ in range(20):
        assert [] == story.sees(untold(BACKLOG, "PostgreSQL is away"))
    assert {("backlog", "")} == set(story.firing)
    assert [] == Story().sees(untold(BACKLOG, "PostgreSQL is away"))


def test_where_fewer_is_worse_it_fires_at_the_threshold_and_below():
    story = Story()
    found = []
    for value in (3, 2, 1, 0, 1, 2, 2, 2, 2, 2):
        found += [change.what for change in story.sees(counted(WORKERS, value, "x"))]
    assert ["fires", "worse", "over"] == found


def test_what_is_not_counted_fires_as_it_is_found():
    story = Story()
    seen = [Seen(rule=FENCE, status=status, message="x") for status in ("critical", "warning", "healthy")]
    assert [["fires"], [], []] == [[change.what for change in story.sees(each)] for each in seen]
    assert ["over"] == [change.what for _ in range(5) for change in story.sees(seen[2])]


def test_each_subject_has_an_alert_of_its_own_which_ends_when_it_is_seen_no_more():
    story = Story()
    seen = [Seen(rule=CONFLICT, status="warning", message="x", subject=f"inbox:{n}") for n in range(3)]
    each = frozenset({"webhook_conflict"})
    assert ["fires"] * 2 == [change.what for change in story.sees(*seen[:2], each=each)]
    assert ["fires"] == [change.what for change in story.sees(*seen[1:], each=each)]
    over = [change.alert.subject for _ in range(5) for change in story.sees(*seen[1:], each=each)]
    assert ["inbox:0"] == over
    assert [] == [change for _ in range(9) for change in story.sees()], "nobody has looked for them"


def test_calm_lasts_longer_than_a_round():
    assert CALM_FOR > 2 * ROUND

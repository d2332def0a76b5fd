"""However much goes wrong, people are told what helps, and not all of it, and nothing twice."""

from datetime import timedelta

from app.ledger.findings import Finding
from app.rules import RULES
from persistence.alerts.alone import Alone
from persistence.alerts.edges import Edges
from persistence.alerts.telling import Channels
from persistence.health.endings import SUBJECTS_MAX
from persistence.health.seen import found
from tests.integration.alerts.conftest import hearing
from tests.integration.alerts.test_watching import FAILING, INBOX

QUIET = "failure_rate=:, expired_last_hour=:"
NOW = timedelta()


async def test_models_that_are_rarely_used_hide_none_that_often_fails(watchman, database):
    watchman = watchman(thresholds=QUIET)
    for number in range(SUBJECTS_MAX + 5):
        await database.execute(FAILING, 1, "failed", f"rare-{number}")
    await database.execute(FAILING, 20, "failed", "sora")
    await database.execute(FAILING, 20, "requested", "sora")
    await watchman.round(2)
    assert "critical" == (await watchman.firing())["model_failure_rate", "sora"]


async def test_a_model_of_which_was_told_is_not_over_because_others_are_worse(watchman, database, ears):
    watchman = watchman(thresholds=QUIET, urls=ears.url)
    await database.execute(FAILING, 20, "failed", "sora")
    await database.execute(FAILING, 20, "requested", "sora")
    await watchman.round(2)
    for number in range(SUBJECTS_MAX + 5):
        await database.execute(FAILING, 20, "failed", f"worse-{number}")
    await watchman.round(7)
    firing = {subject for rule, subject in await watchman.firing() if rule == "model_failure_rate"}
    assert "sora" in firing
    assert SUBJECTS_MAX == len(firing)
    assert not [title for title in ears.titles if "over: model" in title]
    assert SUBJECTS_MAX == len([title for title in ears.titles if "model" in title])


async def conflicts(watchman) -> set[str]:
    return {subject for rule, subject in await watchman.firing() if rule == "webhook_conflict"}


async def test_very_many_deliveries_that_need_a_decision_are_told_of_a_few_at_a_time(
    watchman, database, ears
):
    watchman = watchman(urls=ears.url)
    for number in range(25):
        await database.fetchval(INBOX, f"first-{number}", "conflict", NOW)
    await watchman.round(2)
    first = await conflicts(watchman)
    assert 20 == len(first)
    for number in range(25):
        await database.fetchval(INBOX, f"later-{number}", "conflict", NOW)
    await watchman.round(7)
    assert first == await conflicts(watchman)
    assert 20 == len([title for title in ears.titles if "webhook conflict" in title])
    settled = int(min(first).removeprefix("inbox:"))
    await database.execute("UPDATE webhook_inbox SET status = 'verified' WHERE id = $1", settled)
    await watchman.round(7)
    now = await conflicts(watchman)
    assert (20, 1) == (len(now), len(now - first)), "another one finds room"


async def test_whoever_is_to_be_told_from_now_on_is_not_told_what_was_long_ago(watchman, database, ears):
    before = watchman(thresholds=QUIET)
    await database.execute(FAILING, 20, "failed", "sora")
    await before.round(2)
    assert ("model_failure_rate", "sora") in await before.firing()
    await before.watching.stop()
    await database.execute("DELETE FROM reservations")
    after = watchman(thresholds=QUIET, urls=ears.url)
    await after.round(7)
    assert ["Lastro: over: model failure rate (sora)"] == [each for each in ears.titles if "model" in each]


async def test_alone_a_channel_that_fails_is_waited_for_once_a_round_and_ever_more_seldom(redis, clock):
    names = ("fence", "postgres", "cleanup", "backup", "redis_eviction")
    seen = [found(RULES[name], [Finding(name, "critical", "bad", "mend it")]) for name in names]
    async with hearing() as deaf, hearing() as good:
        deaf.status = 500
        alone = Alone(redis, Channels([deaf.url, good.url]), "this")
        await alone.heed(Edges().changes({}, seen, clock(), rules=frozenset()), clock())
        assert (1, 5) == (len(deaf.got), len(good.got))
        for _ in range(240):
            clock.move(seconds=15)
            await alone.heed([], clock())
        assert 5 == len(good.got)
        assert 5 * 5 <= len(deaf.got) <= 5 * 9, "within an hour"
        deaf.status, deaf.got = 200, []
        for _ in range(240):
            clock.move(seconds=15)
            await alone.heed([], clock())
    assert sorted(good.titles) == sorted(deaf.titles), "each of them once"


async def test_people_are_told_though_the_clock_of_postgresql_is_ahead(watchman, database, clock, ears):
    clock.move(seconds=-300)
    watchman = watchman(thresholds=QUIET, urls=ears.url)
    await database.execute(FAILING, 20, "failed", "sora")
    await watchman.round(2)
    assert [title for title in ears.titles if "model" in title]

"""A ledger is watched: what goes wrong is kept and told, once."""

import asyncio
import logging
from datetime import timedelta

import msgspec
import pytest

from app.ledger.operations import Grant
from persistence.doctor import Bounds
from persistence.drain import drain
from persistence.events.managed import PostgresEvents
from persistence.fences import fence
from persistence.health.mishaps import PostgresMishaps
from persistence.health.seen import Seen
from tests.integration.alerts.conftest import SECRET, hearing
from tests.integration.ledgers import ACCOUNTS, process

FAILING = """
INSERT INTO reservations (id, shard, account, status, reserved, released, held, expires_at, created_at,
  settled_at, cancel_cause, model, reserved_seq, ended_seq)
SELECT gen_random_uuid(), 0, 'ana', 'cancelled', 1, 1, 0, now(), now(), now(), $2, $3, 1, 1
FROM generate_series(1, $1)
"""


async def test_one_alert_for_each_crossing_in_hundreds_of_operations(
    watchman, database, database_url, redis_url, ears
):
    watchman = watchman(urls=ears.url, bounds=Bounds(backlog_max=100), thresholds="journal_lag=:")
    await watchman.round(2)
    async with process(database, redis_url) as ledger:
        for _ in range(2):
            for _ in range(12):
                for _ in range(10):
                    await ledger.grant(Grant(account=ACCOUNTS[2], amount=1))
                await watchman.round()
            assert "critical" == (await watchman.firing())["backlog", ""]
            await drain(database_url, redis_url, 0.3, keep=None)
            await watchman.round(6)
            assert ("backlog", "") not in await watchman.firing()
    kept = [each for each in await watchman.alerts.alerts() if each.rule == "backlog"]
    assert [("resolved", "critical", 0.9)] * 2 == [(each.state, each.level, each.threshold) for each in kept]
    warning, worse, over = (
        "Lastro: warning: backlog",
        "Lastro: critical: backlog (it was a warning)",
        "Lastro: over: backlog",
    )
    assert [warning, worse, over] * 2 == [each for each in ears.titles if "backlog" in each]


async def test_whoever_takes_over_after_a_gap_lets_a_round_pass(watchman):
    watchman = watchman(thresholds="workers=5:0")
    await watchman.round()
    assert {} == await watchman.firing()
    await watchman.round()
    assert {("workers", ""): "warning"} == await watchman.firing()


async def test_one_process_judges_at_a_time_and_workers_go_before_the_api(watchman, database):
    first, second, api = watchman(), watchman(), watchman(is_worker=False)
    holder = "SELECT holder FROM alert_judge"
    await api.round(2, seconds=1)
    assert api.watching._name == await database.fetchval(holder)
    await first.round(seconds=1)
    assert first.watching._name == await database.fetchval(holder), "a worker takes it"
    for other in (second, api):
        await other.round(seconds=1)
        assert first.watching._name == await database.fetchval(holder)
    await first.round(seconds=46)  # it is heard of no more
    await api.round(seconds=1)
    assert api.watching._name == await database.fetchval(holder), "the workers are dead"
    await api.watching.stop()
    await second.round(seconds=1)
    assert second.watching._name == await database.fetchval(holder)


async def test_two_that_think_they_judge_fire_once(watchman, database, clock):
    first, second = watchman(thresholds="workers=5:0"), watchman(thresholds="workers=5:0")
    await first.round(2)
    alive = "UPDATE alert_judge SET holder = $1"
    await database.execute(alive, second.watching._name)
    await asyncio.gather(first.round(), second.round())
    assert 1 == await database.fetchval("SELECT count(*) FROM alerts WHERE rule = 'workers'")


async def test_an_api_process_judges_when_no_worker_does(watchman, database, redis, redis_url, ears):
    api = watchman(is_worker=False, urls=ears.url)
    await redis.delete(*[each async for each in redis.scan_iter("rq:worker*")])
    await api.round(2)
    assert ("workers", "") in await api.firing()
    assert "Lastro: critical: workers" in ears.titles


async def test_a_channel_that_fails_is_tried_again_and_the_others_are_told_once(
    watchman, redis, database, ears, caplog
):
    caplog.set_level(logging.DEBUG)
    async with hearing() as good:
        watchman = watchman(urls=f"{ears.url}, {good.url}", thresholds="workers=5:0")
        ears.status = 500
        await watchman.round(2)
        assert (1, 1) == (_of_workers(ears), _of_workers(good))
        await watchman.round(seconds=1)
        assert 2 == _of_workers(ears), "15 seconds later"
        await watchman.round(seconds=1)
        assert 2 == _of_workers(ears), "a minute has not passed"
        ears.status = 200
        watchman.clock.move(seconds=60)
        await watchman.round(2)
        assert (3, 1) == (_of_workers(ears), _of_workers(good))
    kept = await database.fetch("SELECT * FROM alert_notices")
    assert SECRET not in str(kept) + caplog.text
    assert "channel 1 (JSON) was not told" in caplog.text


def _of_workers(listener) -> int:
    return sum("workers" in each for each in listener.titles)


async def test_a_notice_is_given_up_after_a_day(watchman, database, ears):
    ears.status = 404
    watchman = watchman(urls=ears.url, thresholds="workers=5:0")
    await watchman.round(2)
    for _ in range(14):
        watchman.clock.move(hours=9)
        await watchman.round()
    given_up = await database.fetch(
        "SELECT attempts FROM alert_notices WHERE title LIKE '%workers' AND given_up"
    )
    assert [12] == [each["attempts"] for each in given_up]


async def test_redirects_are_not_followed(watchman, ears):
    ears.status = 307
    watchman = watchman(urls=ears.url, thresholds="workers=5:0")
    await watchman.round(2)
    assert {f"POST /{SECRET} HTTP/1.1"} == {each.line for each in ears.got}


async def test_who_is_told_nothing_costs_nothing(watchman, database):
    watchman = watchman(thresholds="workers=5:0")
    await watchman.round(2)
    assert {("workers", ""): "warning"} == await watchman.firing()


async def test_what_becomes_critical_is_an_outgoing_event(watchman, database, redis):
    await PostgresEvents(database, private=True).create("https://shop.example/", ["health.critical"], "test")
    watchman = watchman(thresholds="workers=5:0")
    await watchman.round(2)
    await fence(database, redis, [1], "work")  # a warning
    await watchman.round()
    await database.execute("UPDATE shards SET fence = 'a fork', fenced_by = 'journal' WHERE shard = 1")
    await watchman.round(3)
    bodies = [each["body"] for each in await database.fetch("SELECT body FROM events ORDER BY id")]
    data = [msgspec.json.decode(each)["data"] for each in bodies]
    (told,) = [each for each in data if each["rule"] == "fence"]
    assert (None, "") == (told["threshold"], told["subject"])
    assert "a fork" in told["message"]
    assert "workers" not in [each["rule"] for each in data]
    firing = {each.rule: each.id for each in await watchman.alerts.alerts("firing")}
    assert firing["fence"] == told["alertId"]


INBOX = """
INSERT INTO webhook_inbox (provider, named, outcome, status, task, reservation, account, why, last_at,
  settled_at)
VALUES ('fal', $1, 'succeeded', $2, $1, 'r-' || $1, 'ana', 'it was cancelled', now() - interval '25 h',
  now() - $3::interval)
RETURNING id
"""


async def test_each_webhook_that_needs_a_decision_is_told_of_and_ends_when_it_is_made(
    watchman, database, ears
):
    watchman = watchman(urls=ears.url)
    now, before = timedelta(), timedelta(hours=25)
    ids = {
        status: await database.fetchval(INBOX, f"task-{status}", status, now)
        for status in ("conflict", "refused", "unknown")
    }
    await database.fetchval(INBOX, "old", "conflict", before)
    await watchman.round(3)
    wanted = {(f"webhook_{status}", f"inbox:{row}"): "warning" for status, row in ids.items()}
    assert wanted == await watchman.firing()
    (conflict,) = [each for each in await watchman.alerts.alerts() if each.rule == "webhook_conflict"]
    for named in ("fal", "task-conflict", "r-task-conflict", "ana", "it was cancelled"):
        assert named in conflict.message
    await database.execute("UPDATE webhook_inbox SET status = 'verified' WHERE id = $1", ids["refused"])
    await watchman.round(6)
    del wanted["webhook_refused", f"inbox:{ids['refused']}"]
    assert wanted == await watchman.firing()
    assert 1 == sum("over: webhook refused" in each for each in ears.titles)


async def test_rejected_webhooks_are_told_of_by_their_number(watchman, database):
    watchman = watchman()
    for number, wanted in ((19, {}), (20, "warning"), (500, "critical")):
        await database.execute(
            """INSERT INTO webhook_inbox (provider, named, outcome, why, status, deliveries)
            VALUES ('fal', 'now', 'rejected', 'a wrong signature', 'rejected', $1)
            ON CONFLICT (provider, path, named, outcome) DO UPDATE SET deliveries = $1""",
            number,
        )
        await watchman.round(2)
        assert ({("webhook_rejections", ""): wanted} if wanted else {}) == await watchman.firing()


async def test_each_model_has_a_failure_rate(watchman, database):
    watchman = watchman(thresholds="failure_rate=:, expired_last_hour=:")
    await database.execute(FAILING, 20, "failed", "sora")
    await database.execute(FAILING, 16, "requested", "flux")
    await database.execute(FAILING, 4, "expired", "flux")
    await database.execute(FAILING, 19, "failed", "rare")
    await database.execute(FAILING, 30, "failed", None)
    await watchman.round(2)
    wanted = {("model_failure_rate", "sora"): "critical", ("model_failure_rate", "flux"): "warning"}
    assert wanted == await watchman.firing()


async def test_confirms_that_contradict_each_other_are_told_of(watchman, database):
    watchman = watchman()
    mishaps = PostgresMishaps(database)
    mishaps.note("confirm_conflict", "reservation r1 of ana, 3 the first time")
    await mishaps.write_now()
    await watchman.round(2)
    assert {("confirm_conflict", ""): "warning"} == await watchman.firing()
    (alert,) = [each for each in await watchman.alerts.alerts() if each.rule == "confirm_conflict"]
    assert "reservation r1 of ana, 3 the first time" in alert.message
    await database.execute("UPDATE mishaps SET minute = minute - interval '61 min'")
    await watchman.round(6)
    assert {} == await watchman.firing()


async def test_a_backup_that_failed_is_told_of(watchman, database):
    watchman = watchman()
    await watchman.round(2)
    assert {} == await watchman.firing(), "none was ever wanted"
    await database.execute("INSERT INTO backups (finished_at, path, error) VALUES (now(), 'x', 'no space')")
    await watchman.round()
    assert {("backup", ""): "critical"} == await watchman.firing()


async def test_what_has_been_over_for_long_is_forgotten(watchman, database):
    watchman = watchman(thresholds="workers=5:0")
    await watchman.round(2)
    await database.execute(
        "UPDATE alerts SET state = 'resolved', resolved_at = $1::timestamptz - interval '91 days'",
        watchman.clock(),
    )
    watchman.watching._forgotten_at = float("-inf")
    await watchman.round()
    found = [each.state for each in await watchman.alerts.alerts() if each.rule == "workers"]
    assert ["firing"] == found


@pytest.mark.parametrize("status", [200, 204])
async def test_the_heartbeat_comes_each_minute_while_nothing_is_critical(
    watchman, redis, database, monkeypatch, ears, status
):
    ears.status = status
    watchman = watchman(heartbeat=f"http://127.0.0.1:{ears.port}/{SECRET}")
    monkeypatch.setattr("persistence.health.of_records.of_server", _fine)
    await watchman.round(9)
    assert [f"GET /{SECRET} HTTP/1.1"] * 2 == [each.line for each in ears.got], "eight rounds in two minutes"
    await database.execute("UPDATE shards SET fence = 'a fork', fenced_by = 'journal', fenced_at = now()")
    await watchman.round(9)
    assert 2 == len(ears.got)


async def _fine(_, rules):
    """Tests' PostgreSQL may lose what it has, which is critical."""
    return Seen(rule=rules["postgres"], status="healthy", message="fine")


async def test_a_heartbeat_that_is_not_taken_is_tried_again_and_its_url_is_not_told(
    watchman, monkeypatch, ears, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("persistence.health.of_records.of_server", _fine)
    ears.status = 302
    watchman = watchman(heartbeat=f"http://127.0.0.1:{ears.port}/{SECRET}")
    await watchman.round(4)
    assert [f"GET /{SECRET} HTTP/1.1"] * 3 == [each.line for each in ears.got], "and no redirect is followed"
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("persistence")]
    assert ["the heartbeat is not taken: it answered 302"] == [each for each in ours if "heartbeat" in each]
    assert SECRET not in "".join(ours)

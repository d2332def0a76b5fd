"""What PostgreSQL tells of the ledger's health: each cause, caused, as a warning and as critical."""

import pytest

from persistence.health.mishaps import PostgresMishaps
from tests.integration.health.conftest import look_of
from tests.integration.ledgers import ACCOUNTS

pytestmark = pytest.mark.usefixtures("well")

ENDED = """
INSERT INTO reservations (id, shard, account, status, reserved, captured, released, held, expires_at,
  created_at, settled_at, cancel_cause, model, reserved_seq, ended_seq)
SELECT gen_random_uuid(), 0, 'ana', $2, 1, CASE WHEN $2 = 'confirmed' THEN 1 ELSE 0 END,
  CASE WHEN $2 = 'confirmed' THEN 0 ELSE 1 END, 0, now(), now(), now() - make_interval(mins => $4), $3, $5,
  1, 1
FROM generate_series(1, $1)
"""


async def ended(database, number, status="confirmed", cause=None, *, minutes=5, model=None) -> None:
    await database.execute(ENDED, number, status, cause, minutes, model)


async def check(looking, name) -> tuple[str, float | None, str]:
    seen = {each.name: each for each in (await looking._report()).checks}[name]
    return seen.status, seen.value, seen.message


@pytest.mark.parametrize(
    ("number", "status"), [(9, "healthy"), (10, "warning"), (99, "warning"), (100, "critical")]
)
async def test_ten_that_expired_within_an_hour_warn_and_a_hundred_are_critical(
    database, looking, number, status
):
    await ended(database, number, "cancelled", "expired", minutes=59)
    await ended(database, 500, "cancelled", "expired", minutes=61)
    await ended(database, 500, "cancelled", "failed")
    found, value, says = await check(looking, "expired_last_hour")
    assert (status, number) == (found, value)
    lately = await database.fetch(
        "SELECT id::text AS id FROM reservations WHERE settled_at > now() - interval '1 hour'"
    )
    assert any(each["id"] in says for each in lately)


@pytest.mark.parametrize(
    ("good", "failed", "expired", "status"),
    [
        (1, 9, 9, "healthy"),  # fewer than 20
        (17, 2, 1, "healthy"),
        (16, 2, 2, "warning"),
        (10, 5, 5, "critical"),
    ],
)
async def test_the_failure_rate_is_judged_from_twenty_endings_on(
    database, looking, good, failed, expired, status
):
    await ended(database, good)
    await ended(database, failed, "cancelled", "failed")
    await ended(database, expired, "cancelled", "expired")
    await ended(database, 300, "cancelled", "failed", minutes=61)
    found, value, says = await check(looking, "failure_rate")
    total = good + failed + expired
    assert (status, round((failed + expired) / total, 4)) == (found, value)
    assert f"{failed + expired} of {total} " in says


@pytest.mark.parametrize(
    ("missed", "asked", "status"),
    [(9, 1, "healthy"), (10, 990, "healthy"), (10, 190, "warning"), (100, 100, "critical")],
)
async def test_who_finds_no_reservation_is_counted_among_those_who_ended_one(
    database, looking, missed, asked, status
):
    await ended(database, asked - 1)
    await ended(database, 1, "cancelled", "requested")
    await ended(database, 1000, "cancelled", "expired")  # which nobody asked for
    mishaps = PostgresMishaps(database)
    for number in range(missed):
        mishaps.note("reservation_not_found", f"confirm of task t{number}\x00 of fal")
    await mishaps.write_now()
    await database.execute(
        "INSERT INTO mishaps VALUES ('reservation_not_found', now() - interval '61 min', 900, '')"
    )
    found, value, says = await check(looking, "reservation_not_found")
    assert (status, round(missed / (missed + asked), 4)) == (found, value)
    assert status == "healthy" or f"confirm of task t{missed - 1}  of fal" in says


async def test_an_account_below_its_floor_is_critical_whichever_store_says_so(database, looking):
    assert ("healthy", 0) == (await check(looking, "below_floor"))[:2]
    first, second, third = list(ACCOUNTS.values())[:3]
    await database.execute("ALTER TABLE accounts DROP CONSTRAINT accounts_check")
    await database.execute("UPDATE accounts SET available = -1 WHERE account = $1", first)
    await database.execute(
        "UPDATE accounts SET available = -1, overdraft_limit = 1 WHERE account = $1", third
    )
    await database.execute(
        """INSERT INTO reconciliations (started_at, finished_at, status, by, drift)
        VALUES (now() + interval '1 s', now(), 'drift', 'test', jsonb_build_array(
          jsonb_build_object('accountId', $1::text, 'field', 'available', 'redis', -5, 'journal', 3),
          jsonb_build_object('accountId', $2::text, 'field', 'available', 'redis', -1, 'journal', 3),
          jsonb_build_object('accountId', 'nobody', 'field', 'available', 'redis', 'x', 'journal', 3)
        ))""",
        second,
        third,
    )
    status, value, says = await check(looking, "below_floor")
    assert ("critical", 2) == (status, value)
    assert all(each in says for each in (first, second))
    assert third not in says


async def test_a_comparison_that_found_drift_is_critical_and_names_the_accounts(database, looking):
    assert ("healthy", 0) == (await check(looking, "reconciliation"))[:2]
    await database.execute(
        """UPDATE reconciliations SET status = 'drift', drift =
        '[{"accountId": "ana", "field": "held", "redis": 1, "journal": 2}]'"""
    )
    status, value, says = await check(looking, "reconciliation")
    assert ("critical", 1) == (status, value)
    assert "ana" in says
    assert "lastro reconcile --repair" in says


async def test_a_comparison_that_is_old_or_could_not_tell_warns(database, looking):
    await database.execute("UPDATE reconciliations SET finished_at = now() - interval '2 h'")
    assert (await check(looking, "reconciliation"))[0] == "warning"
    await database.execute(
        "UPDATE reconciliations SET finished_at = now(), status = 'unknown', why = 'behind'"
    )
    status, _, says = await check(looking, "reconciliation")
    assert ("warning", True) == (status, "behind" in says)


async def test_clean_up_that_is_stopped_warns_and_names_who_stopped_it(database, looking):
    assert (await check(looking, "cleanup"))[0] == "healthy"
    await database.execute("UPDATE cleanup SET enabled = false, changed_by = 'key:ana', changed_at = now()")
    status, _, says = await check(looking, "cleanup")
    assert ("warning", True) == (status, "key:ana" in says)


async def test_clean_ups_that_fail_warn_and_three_in_a_row_are_critical(database, looking):
    for number, wanted in enumerate(("warning", "warning", "critical"), start=1):
        await database.execute(
            """INSERT INTO cleanups (started_at, finished_at, by, whole, error)
            VALUES (clock_timestamp(), clock_timestamp(), 'system', true, 'the disk is full')"""
        )
        status, value, says = await check(looking, "cleanup")
        assert (wanted, number, True) == (status, value, "the disk is full" in says)
    await database.execute(
        """INSERT INTO cleanups (started_at, finished_at, by, whole)
        VALUES (clock_timestamp(), now(), 'x', true)"""
    )
    assert ("healthy", 0) == (await check(looking, "cleanup"))[:2]


async def test_clean_up_that_does_not_come_is_critical(database, looking):
    await database.execute("UPDATE cleanups SET started_at = now() - interval '41 min'")
    status, _, says = await check(looking, "cleanup")
    assert ("critical", True) == (status, "41 minutes" in says)


async def test_thresholds_are_settings(database, redis, redis_url):
    await ended(database, 3, "cancelled", "expired")
    for thresholds, wanted in (
        ("", "healthy"),
        ("expired_last_hour=3:", "warning"),
        ("expired_last_hour=:3", "critical"),
        ("backlog=0.1:0.2, expired_last_hour=2:4", "warning"),
    ):
        looking = look_of(database, redis, redis_url, thresholds=thresholds)
        assert wanted == (await check(looking, "expired_last_hour"))[0], thresholds

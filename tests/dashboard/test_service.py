"""The pages about the service: the journal with its queues, and the reconciliation."""

import msgspec
import pytest
from redis import Redis

from app.embedded.ports import free_port
from app.ledger.connection import connect as connect_ledger
from app.settings import Settings
from persistence.journaling import StreamsAndJournal
from persistence.reconcile.slice import reconcile_slice
from persistence.schedule import connect
from tests.dashboard.browsing import Browser
from tests.http.conftest import SHARDS, running
from tests.http.serving import create_app
from tests.http.steps import do
from tests.integration.jobs.test_alive import fail

JOURNAL, RUNS = "/dashboard/journal", "/dashboard/reconciliation"
WHY = "the disk was full"


@pytest.fixture
def queues(redis_url: str) -> Redis:
    with connect(redis_url) as client:
        yield client


async def test_an_empty_ledger_teaches_what_is_missing(operator):
    page = await operator.get(JOURNAL)
    assert 200 == page.status
    for said in ("The journal is empty", "lastro demo", "No worker is at work", "lastro worker", "no cron"):
        assert said in page.text
    page = await operator.get(RUNS)
    assert "No run yet" in page.text


async def test_entries_streams_and_cursors_are_shown(operator, client, journal, until_journaled):
    await do(client, "grant", accountId="alice", amount=1_234, reason="<script>alert(1)</script>")
    await until_journaled(1)
    page = await operator.get(JOURNAL)
    assert "granted" in page.text
    assert "1,234" in page.text
    assert "/dashboard/accounts/one?account=alice" in page.links()


async def test_a_failed_job_is_shown_with_its_error_and_tried_again_with_a_reason(operator, queues):
    fail(queues, "unlucky")
    page = await operator.get(JOURNAL)
    assert "LookupError" in page.text
    assert f"{JOURNAL}/job?id=unlucky" in page.links()
    page = await operator.get(f"{JOURNAL}/job?id=unlucky")
    assert "Traceback (most recent call last)" in page.text
    form = page.form(f"{JOURNAL}/job")
    assert 400 == (await operator.post(form.action, form.fields)).status_code  # no reason
    assert 1 == queues.zcard("rq:failed:lastro-tasks")
    page = await operator.send(form, reason=WHY)
    assert "put into its queue again" in page.text
    assert WHY in page.text
    assert "dashboard:ana" in page.text
    assert (0, 1) == (queues.zcard("rq:failed:lastro-tasks"), queues.llen("rq:queue:lastro-tasks"))
    await operator.send(form, reason=WHY)  # the same form once more
    page = await operator.get(f"{JOURNAL}/job?id=unlucky")
    assert 1 == page.text.count(WHY)


async def test_a_job_that_nobody_knows_is_no_page(operator):
    assert 404 == (await operator.get(f"{JOURNAL}/job?id=nobodys")).status
    assert 400 == (await operator.get(f"{JOURNAL}/job")).status


async def test_while_the_queues_are_away_the_journal_is_shown_and_jobs_are_not(browsers, settings, key):
    nowhere = f"redis://127.0.0.1:{free_port()}"
    app = create_app(msgspec.structs.replace(settings, queue_url=nowhere))
    async with running(app):
        operator: Browser = browsers(of=app)
        await operator.sign_in(key)
        page = await operator.get(JOURNAL)
        assert 200 == page.status
        assert "The queues' Redis does not answer" in page.text
        assert 503 == (await operator.get(f"{JOURNAL}/job?id=any")).status


async def test_while_redis_says_nothing_the_journal_shows_what_postgresql_knows(
    operator, app, client, database, journal, until_journaled
):
    await do(client, "grant", accountId="alice", amount=5)
    await until_journaled(1)
    nobody = connect_ledger(f"redis://127.0.0.1:{free_port()}")
    app.state.parts.journaling = StreamsAndJournal(database, nobody)
    page = await operator.get(JOURNAL)
    await nobody.aclose()
    assert 200 == page.status
    assert "Redis does not answer" in page.text
    assert "/dashboard/accounts/one?account=alice" in page.links()
    assert page.html.count(">unknown</span>") == SHARDS


async def test_a_run_is_asked_for_with_a_reason_and_once_for_each_form(
    operator, database, settings: Settings
):
    page = await operator.get(RUNS)
    form = page.form(RUNS)
    page = await operator.send(form, reason=WHY)
    assert "Done: reconcile" in page.text
    await operator.send(form, reason=WHY)
    assert [("running", "dashboard:ana")] == [
        tuple(row) for row in await database.fetch("SELECT status, by FROM reconciliations")
    ]
    assert 1 == await database.fetchval("SELECT count(*) FROM operator_actions WHERE act = 'reconcile'")
    while await reconcile_slice(settings.database_url, settings.redis_url, keep=None, seconds=2.0):
        pass
    page = await operator.get(RUNS)
    assert "equal" in page.text


async def test_drift_is_shown_account_by_account(operator, database):
    drift = '[{"accountId": "bob", "field": "available", "redis": 7, "journal": 5}]'
    run = await database.fetchval(
        "INSERT INTO reconciliations (by, status, finished_at, accounts, drift)"
        " VALUES ('system', 'drift', now(), 3, $1) RETURNING id",
        drift,
    )
    await database.execute(
        "INSERT INTO reconciliations (by, status, started_at, finished_at, accounts)"
        " VALUES ('system', 'equal', now() + interval '1 minute', now() + interval '2 minutes', 3)"
    )
    page = await operator.get(RUNS)
    assert "What differs" in page.text  # of the run before the latest, until somebody has looked
    assert "/dashboard/accounts/one?account=bob" in page.links()
    assert f"{RUNS}?run={run}" in page.links()
    assert "What differs" in (await operator.get(f"{RUNS}?run={run}")).text
    unknown = "01a1ffa5-4956-7003-abd8-99c175348713"
    assert 404 == (await operator.get(f"{RUNS}?run={unknown}")).status
    assert 400 == (await operator.get(f"{RUNS}?run=x")).status

"""What Prometheus is told: of this process what it has done, of the whole what there is now, or nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from time import monotonic

import pytest
from litestar import Litestar

from app.metrics import look
from app.settings import Settings
from persistence.api_keys import create
from persistence.birth import give_birth
from persistence.pool import open_pool
from tests.http.conftest import ALL, SHARDS, _client, running
from tests.http.scraped import Samples, scrape, value
from tests.http.serving import create_app
from tests.http.steps import CREDITS, JOURNALED, do, is_refused, op

NOBODYS = "01a1ffa5-4956-7003-abd8-99c175348713"


@pytest.fixture(autouse=True)
def _not_kept(monkeypatch):
    """Every scrape looks anew."""
    monkeypatch.setattr(look, "KEPT_SECONDS", 0.0)


def counted(samples: Samples, operation: str, outcome: str) -> float | None:
    return value(samples, "lastro_operations_total", operation=operation, outcome=outcome)


async def test_operations_are_counted_by_what_came_of_them(client):
    await do(client, "grant", accountId="alice", amount=100)
    for _ in range(2):
        await do(client, "deduct", key="once", accountId="alice", amount=7)
    await is_refused(client, "deduct", 402, "insufficient_credits", accountId="alice", amount=1000)
    held = await do(client, "reserve", accountId="alice", amount=10)
    await do(client, "confirm", reservationId=held["reservation"]["id"], amount=4)
    await is_refused(client, "confirm", 404, "reservation_not_found", reservationId=NOBODYS)
    samples = await scrape(client)
    assert (1, 1, 1, 1, 1, 1) == (
        counted(samples, "grant", "done"),
        counted(samples, "deduct", "done"),
        counted(samples, "deduct", "replayed"),
        counted(samples, "deduct", "insufficient_credits"),
        counted(samples, "confirm", "done"),
        counted(samples, "confirm", "reservation_not_found"),
    )
    assert {"grant": 100, "deduct": 7, "reserve": 10, "confirm": 4} == {
        labels[0][1]: amount for labels, amount in samples["lastro_operation_credits_total"].items()
    }


async def test_those_of_a_batch_count_each_for_itself_and_so_do_settings(client):
    await do(client, "grant", accountId="alice", amount=10)
    operations = [op("deduct", accountId="alice", amount=amount) for amount in (3, 100, 4)]
    await do(client, "batch", operations=operations)
    await do(client, "batch", operations=operations, atomic=True)
    changed = await client.patch(f"{CREDITS}/accounts/alice", json={"lowBalance": 5})
    assert 200 == changed.status_code
    samples = await scrape(client)
    assert (2, 2, 2, 1) == (
        counted(samples, "deduct", "done"),
        counted(samples, "deduct", "insufficient_credits"),
        counted(samples, "deduct", "batch_failed"),
        counted(samples, "configure", "done"),
    )


async def test_calls_say_how_many_operations_travelled_together(client):
    await do(client, "grant", accountId="alice", amount=100)
    before = await scrape(client)
    await do(client, "batch", operations=[op("deduct", accountId="alice", amount=1)] * 20)
    after = await scrape(client)
    for part, more in (("count", 1), ("sum", 20)):
        name = f"lastro_call_operations_{part}"
        assert more == value(after, name) - value(before, name)
    assert 0 == value(after, "lastro_call_operations_bucket", le="16.0") - value(
        before, "lastro_call_operations_bucket", le="16.0"
    )
    assert 1 == value(after, "lastro_call_operations_bucket", le="32.0") - value(
        before, "lastro_call_operations_bucket", le="32.0"
    )
    assert 0 < value(after, "lastro_call_duration_seconds_sum") < 10


async def test_requests_are_counted_by_the_template_of_their_route(client, stranger):
    await do(client, "grant", accountId="alice", amount=100)
    await client.get(f"{CREDITS}/reservations/{NOBODYS}")
    await client.get("/nowhere/at/all")
    await stranger.request("FOO", "/nowhere/else")
    await stranger.get(f"{CREDITS}/balance")
    samples = await scrape(client)

    def requests(method: str, route: str, status: int) -> float | None:
        return value(samples, "lastro_http_requests_total", method=method, route=route, status=str(status))

    assert 1 == requests("POST", f"{CREDITS}/grant", 201)
    assert 1 == requests("GET", f"{CREDITS}/reservations/{{reservation}}", 404)
    assert 2 == requests("any", "unrouted", 404) + (requests("any", "unrouted", 405) or 0)
    assert 1 == requests("GET", f"{CREDITS}/balance", 401)
    assert 1 == value(
        samples,
        "lastro_http_problems_total",
        route=f"{CREDITS}/reservations/{{reservation}}",
        code="reservation_not_found",
    )
    assert 1 == value(samples, "lastro_http_request_duration_seconds_count", route=f"{CREDITS}/grant")
    assert 1 == value(samples, "lastro_http_requests_in_progress"), "this one"


async def test_paths_that_do_not_exist_make_no_series_however_many_are_asked(client):
    await scrape(client)
    before = await scrape(client)
    for number in range(50):
        await client.get(f"/nowhere/{number}")
        await client.get(f"{CREDITS}/accounts/nobody-{number}")
    after = await scrape(client)
    new = {(name, labels) for name in after for labels in after[name].keys() - before.get(name, {}).keys()}
    assert {dict(labels)["route"] for _, labels in new} == {"unrouted", f"{CREDITS}/accounts/{{account}}"}


async def test_the_journal_is_shown_shard_by_shard_and_how_far_it_is_behind(client, journal):
    await do(client, "grant", accountId="alice", amount=100)
    journaled = await client.post(
        f"{CREDITS}/deduct", json={"accountId": "alice", "amount": 1}, headers=JOURNALED
    )
    assert "true" == journaled.headers["lastro-journaled"]
    samples = await scrape(client)
    assert SHARDS == len(samples["lastro_journal_cursor_entries"])
    assert 2 == sum(samples["lastro_journal_cursor_entries"].values())
    assert 2 == sum(samples["lastro_stream_sequence_entries"].values())
    assert 0 == sum(samples["lastro_backlog_entries"].values())
    assert 0 == value(samples, "lastro_journal_lag_seconds")
    assert 0 == sum(samples["lastro_shard_fenced"].values())
    assert (1, 1, 1) == tuple(
        value(samples, "lastro_store_up", store=store) for store in ("redis", "postgres", "queues")
    )


async def test_entries_that_nobody_journals_are_a_backlog_that_grows_old(client):
    await do(client, "grant", accountId="alice", amount=100)
    await asyncio.sleep(0.02)
    samples = await scrape(client)
    assert 1 == sum(samples["lastro_backlog_entries"].values())
    assert 0.02 <= value(samples, "lastro_journal_lag_seconds") < 60


async def test_what_is_open_is_counted(client, journal):
    await do(client, "grant", accountId="alice", amount=100)
    held = await do(client, "reserve", accountId="alice", amount=1)
    await do(client, "reserve", accountId="alice", amount=1)
    done = await client.post(
        f"{CREDITS}/confirm", json={"reservationId": held["reservation"]["id"]}, headers=JOURNALED
    )
    assert "true" == done.headers["lastro-journaled"]
    samples = await scrape(client)
    assert 1 == value(samples, "lastro_open_holds")
    assert {"received": 0, "waiting": 0} == {
        labels[0][1]: count for labels, count in samples["lastro_webhook_inbox_rows"].items()
    }
    assert {"waiting": 0, "dead": 0} == {
        labels[0][1]: count for labels, count in samples["lastro_event_deliveries"].items()
    }


async def test_without_workers_there_are_none_and_no_reconciliation_is_no_series(client):
    samples = await scrape(client)
    assert (0, 0) == (value(samples, "lastro_workers"), value(samples, "lastro_cron_up"))
    assert "lastro_reconciliation_status" not in samples


async def test_the_latest_reconciliation_is_shown(client, database):
    await database.execute(
        """INSERT INTO reconciliations (started_at, finished_at, status, by, accounts, drift)
        VALUES ('2026-01-02 03:04:05Z', now(), 'drift', 'system', 17, $1)""",
        '[{"accountId": "a", "field": "available", "redis": 1, "journal": 2},'
        ' {"accountId": "a", "field": "held", "redis": 1, "journal": 2}]',
    )
    samples = await scrape(client)
    assert {"running": 0, "equal": 0, "drift": 1, "unknown": 0} == {
        labels[0][1]: stands for labels, stands in samples["lastro_reconciliation_status"].items()
    }
    assert (1, 17, 1767323045) == (
        value(samples, "lastro_reconciliation_drift_accounts"),
        value(samples, "lastro_reconciliation_accounts"),
        value(samples, "lastro_reconciliation_started_timestamp_seconds"),
    )


OF_POSTGRES = {"lastro_journal_cursor_entries", "lastro_open_holds", "lastro_shard_fenced"}
OF_REDIS = {"lastro_stream_sequence_entries", "lastro_backlog_entries", "lastro_journal_lag_seconds"}


@pytest.fixture
async def apart(own_valkey, own_postgres) -> AsyncIterator[Litestar]:
    """An application whose servers the test may stop."""
    url = own_postgres.database_url("lastro")
    await give_birth(url, own_valkey.url, SHARDS)
    application = create_app(Settings(redis_url=own_valkey.url, database_url=url, shards=SHARDS))
    async with running(application):
        yield application


async def test_what_nobody_can_tell_is_missing_and_the_rest_is_there_in_time(apart, own_valkey, own_postgres):
    async with await open_pool(own_postgres.database_url("lastro")) as pool:
        token = await create(pool, "all", ALL)
    async with _client(apart, token) as client:
        await do(client, "grant", accountId="alice", amount=100)
        samples = await scrape(client)
        assert OF_POSTGRES | OF_REDIS <= samples.keys()

        own_postgres.stop()
        samples = await scrape(client)
        assert not (OF_POSTGRES | OF_REDIS) & samples.keys()
        assert (0, 1, 1) == (
            value(samples, "lastro_store_up", store="postgres"),
            value(samples, "lastro_store_up", store="queues"),
            counted(samples, "grant", "done"),
        )

        own_postgres.start()
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            began = monotonic()
            samples = await scrape(client)
            assert monotonic() - began < 10, "what Prometheus waits for"
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)
        assert samples.keys() >= OF_POSTGRES
        assert not OF_REDIS & samples.keys()
        assert {"postgres": 1, "queues": 0, "redis": 0} == {
            labels[0][1]: up for labels, up in samples["lastro_store_up"].items()
        }
        assert "lastro_workers" not in samples, "nobody can tell, which is not 0"


async def test_scrapers_at_the_same_time_make_one_look_and_its_answer_is_kept(client, app, monkeypatch):
    monkeypatch.setattr(look, "KEPT_SECONDS", 60.0)
    looked = 0
    asked = app.state.parts.metrics._whole._open._ask

    async def ask_once() -> object:
        nonlocal looked
        looked += 1
        return await asked()

    monkeypatch.setattr(app.state.parts.metrics._whole._open, "_ask", ask_once)
    await asyncio.gather(*(scrape(client) for _ in range(5)))
    await scrape(client)
    assert 1 == looked


async def test_metrics_are_everybodys_and_so_not_for_a_key_of_one_account(client_of):
    bobs = await client_of("spend", account="bob")
    answer = await bobs.get("/metrics")
    assert (403, "forbidden") == (answer.status_code, answer.json()["code"])


async def test_the_answer_is_what_prometheus_reads(client):
    answer = await client.get("/metrics")
    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["content-type"]
    assert "no-store" == answer.headers["cache-control"]

"""What operators ask while PostgreSQL is away, or hangs: a clear 503, or what can be told without it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from tests.hanging import hanging
from tests.http.conftest import running
from tests.http.serving import create_app
from tests.http.test_health import client_of, own

__all__ = ["own"]

MONITORING = "/api/credits/monitoring?type="
ASKS_POSTGRES = (
    ("GET", f"{MONITORING}overview", None),
    ("GET", f"{MONITORING}usage", None),
    ("GET", f"{MONITORING}usage&period=hour&tz=Asia/Kathmandu", None),
    ("GET", f"{MONITORING}top-users", None),
    ("GET", f"{MONITORING}models&period=month", None),
    ("GET", f"{MONITORING}dashboard", None),
    ("GET", "/api/credits/alerts", None),
    ("GET", "/api/credits/reconciliation", None),
    ("GET", "/api/credits/cleanup?action=count", None),
    ("GET", "/api/credits/auto-cleanup?action=status", None),
    ("POST", "/api/credits/cleanup", {}),
    ("POST", "/api/credits/auto-cleanup", {"action": "stop"}),
    ("POST", "/api/credits/auto-cleanup", {"action": "force"}),
)
SECONDS_MAX = 20.0
"""A few seconds, on a machine that has other things to do."""


@contextmanager
def killed(postgres) -> Iterator[None]:
    postgres.kill()
    yield


async def until(ask: Callable[[], Awaitable[httpx.Response]]) -> None:
    """Ask until it is answered well."""
    async with asyncio.timeout(2 * SECONDS_MAX):
        while not (await ask()).is_success:  # noqa: ASYNC110 - the answer is the event
            await asyncio.sleep(0.05)


@pytest.fixture(params=[killed, hanging])
async def away(request, own, own_postgres) -> AsyncIterator[httpx.AsyncClient]:
    settings, token = own
    app = create_app(settings)
    async with running(app), client_of(app, token) as client:
        for ask in (
            partial(client.post, "/api/credits/grant", json={"accountId": "alice", "amount": 1}),
            partial(client.get, f"{MONITORING}dashboard"),
        ):
            await until(ask)
        with request.param(own_postgres):
            yield client
    gc.collect()  # CPython 3.11 loses count of its stack when this happens while it compiles


async def test_what_only_postgres_knows_is_503_and_no_bug(away):
    async with asyncio.timeout(SECONDS_MAX):
        asked = [away.request(method, path, json=body) for method, path, body in ASKS_POSTGRES]
        answers = await asyncio.gather(*asked)
    for (_, path, _), answer in zip(ASKS_POSTGRES, answers, strict=True):
        assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"]), path
        assert "retry-after" in answer.headers
        assert "127.0.0.1" not in answer.text


async def checks(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    async with asyncio.timeout(SECONDS_MAX):
        health = await client.get(f"{MONITORING}health")
    assert 200 == health.status_code
    return {each["name"]: each for each in health.json()["checks"]}


async def test_health_and_metrics_are_told_all_the_same(away):
    async with asyncio.timeout(2 * SECONDS_MAX):
        while "not answer" not in (found := await checks(away))["postgres"]["message"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # what was seen a moment ago is told for a second
    async with asyncio.timeout(SECONDS_MAX):
        metrics = await away.get("/metrics")
    assert {("warning", None)} == {
        (found[name]["status"], found[name]["value"])
        for name in ("below_floor", "expired_last_hour", "reconciliation", "failure_rate", "cleanup")
    }
    assert "healthy" == found["overdue_reservations"]["status"], "Redis tells"
    assert 200 == metrics.status_code
    assert 'lastro_store_up{store="postgres"} 0.0' in metrics.text

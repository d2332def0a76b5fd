"""PostgreSQL goes away and comes back: what Redis knows is acted on, its row follows, and what only
PostgreSQL could tell has to be sent again.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.ledger.backing import BackingUnavailable
from app.webhooks import receiving
from tests.http.conftest import running
from tests.http.doors import FAILED, SUCCEEDED, deliver, inbox, reserved, told, url, with_doors
from tests.http.payments import checkout
from tests.http.serving import create_app
from tests.http.steps import find, sums
from tests.http.test_health import client_of, own, until  # noqa: F401

PATIENCE_SECONDS = 20.0


@pytest.fixture
async def shop(own: Any) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:  # noqa: F811
    settings, token = own
    app = create_app(with_doors(settings))
    async with running(app), client_of(app, token) as client:
        await until(lambda: client.get("/health/ready"), 200)
        yield app, client


async def rows(client: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """What the inbox shows, as soon as there are so many rows."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await client.get("/api/credits/webhooks")
            if answer.status_code == 200 and len(answer.json()["data"]) >= count:
                return list(answer.json()["data"])
            await asyncio.sleep(0.1)


async def test_what_redis_knows_is_acted_on_and_the_row_follows(shop, own_postgres):
    _, client = shop
    one, other = [await reserved(client, provider="sync", taskId=task) for task in ("one", "other")]
    path = await reserved(client, provider="luma")
    own_postgres.kill()
    assert "verified" == await told(client, "sync", SUCCEEDED["sync"]("one"))
    assert "verified" == await told(client, "sync", SUCCEEDED["sync"]("one"))
    assert "verified" == await told(client, "sync", FAILED["sync"]("other"))
    assert "conflict" == await told(client, "sync", SUCCEEDED["sync"]("other"))
    by_path = url("luma", path["reservation"]["id"])
    assert "verified" == await told(client, "luma", SUCCEEDED["luma"]("t"), path=by_path, signed=False)
    statuses = [(await find(client, each["reservation"]["id"]))["status"] for each in (one, other, path)]
    assert ["confirmed", "cancelled", "confirmed"] == statuses
    assert (200, 0) == (await sums(client))[:2]
    for provider, body in (("sync", SUCCEEDED["sync"]("unknown")), ("stripe", checkout())):
        answer = await deliver(client, provider, body)
        assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])
        assert "retry-after" in answer.headers
    own_postgres.restart()
    found = await rows(client, 4)
    assert {
        ("one", "succeeded", "verified", 2),
        ("other", "failed", "verified", 1),
        ("other", "succeeded", "conflict", 1),
        ("t", "succeeded", "verified", 1),
    } == {(row["taskId"], row["outcome"], row["status"], row["deliveries"]) for row in found}
    assert "waiting" == await told(client, "sync", SUCCEEDED["sync"]("unknown"))
    assert "verified" == await told(client, "stripe", checkout())
    assert "duplicate" == await told(client, "sync", SUCCEEDED["sync"]("one"))


async def test_what_waits_for_postgres_is_bounded(shop, own_postgres, monkeypatch):
    monkeypatch.setattr(receiving, "LATER_MAX", 2)
    _, client = shop
    for task in "abc":
        await reserved(client, provider="sync", taskId=task)
    own_postgres.kill()
    for task in "ab":
        assert "verified" == await told(client, "sync", SUCCEEDED["sync"](task))
    answer = await deliver(client, "sync", SUCCEEDED["sync"]("c"))
    assert (503, "overloaded", "webhooks") == (
        answer.status_code, answer.json()["code"], answer.json()["cause"],
    )  # fmt: skip
    assert (150, 50) == (await sums(client))[:2]
    own_postgres.restart()
    await rows(client, 2)
    assert "verified" == await told(client, "sync", SUCCEEDED["sync"]("c"))


async def test_forgeries_during_an_outage_are_counted_afterwards(shop, own_postgres):
    app, client = shop
    own_postgres.kill()
    for _ in range(5):
        assert 401 == (await deliver(client, "sync", b"{}", secret="wrong")).status_code
    await app.state.parts.receiving.inbox.write_rejected_now()
    own_postgres.restart()
    (row,) = await rows(client, 1)
    assert ("rejected", 5) == (row["status"], row["deliveries"])


async def test_what_was_done_is_written_when_the_process_ends(own, own_postgres):  # noqa: F811
    settings, token = own
    app = create_app(with_doors(settings))
    async with running(app), client_of(app, token) as client:
        await until(lambda: client.get("/health/ready"), 200)
        made = await reserved(client, provider="sync", taskId="t")
        kept = app.state.parts.receiving.inbox
        received, app.state.parts.receiving.inbox = kept, _Away(kept)
        assert "verified" == await told(client, "sync", SUCCEEDED["sync"]("t"))
        app.state.parts.receiving.inbox = received
    app = create_app(with_doors(settings))
    async with running(app), client_of(app, token) as client:
        await until(lambda: client.get("/health/ready"), 200)
        (row,) = await inbox(client)
        assert ("verified", made["reservation"]["id"]) == (row["status"], row["reservationId"])


class _Away:
    """An inbox whose PostgreSQL is away for those who write."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    async def receive(self, *_: object) -> None:

        raise BackingUnavailable

    settle = keep = receive

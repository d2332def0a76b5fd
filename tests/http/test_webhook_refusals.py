"""What comes to the doors and is let in by none: nothing moves, nobody learns why, and nothing grows."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from app.settings import Settings
from app.webhooks.configured import Doors
from app.webhooks.providers import PROVIDERS
from app.webhooks.receiving import LINES_PER_SECOND
from persistence.inbox.rejected import REASONS_MAX, ROWS_OF_A_DAY_MAX
from tests.http.doors import (
    FAILED,
    FAL_PRIVATE,
    SECRET,
    SIGNING,
    SUCCEEDED,
    deliver,
    inbox,
    reserved,
    told,
    with_doors,
)  # fmt: skip
from tests.http.steps import find

MIB = 1_048_576
OTHER_SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
STALE_SECONDS = 301


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


def signed(provider: str, raw: bytes, secret: str = SECRET) -> dict[str, str]:
    return PROVIDERS[provider].sign(raw, secret, time.time(), "t")


async def test_a_provider_that_is_not_turned_on_has_no_door(app, stranger):
    app.state.parts.receiving.doors = Doors({})
    for provider in (*SUCCEEDED, "stripe", "unheard-of"):
        for path in (f"webhooks/{provider}", f"webhook/{provider}", f"webhooks/{provider}/x/y"):
            answer = await deliver(stranger, provider, b"{}", signed=False, path=f"/api/{path}")
            assert (404, "not_found") == (answer.status_code, answer.json()["code"]), path


async def test_who_cannot_prove_it_is_refused_without_a_reason(client, stranger):
    made = {each: await reserved(client, provider=each, taskId="t") for each in SIGNING}
    for provider, its in made.items():
        raw = msgspec.json.encode(SUCCEEDED[provider]("t"))
        another = FAL_PRIVATE[:-2] + "AA" if provider == "fal" else OTHER_SECRET
        answers = [
            await stranger.post(f"/api/webhooks/{provider}", content=raw),
            await stranger.post(
                f"/api/webhooks/{provider}", content=raw, headers=signed(provider, raw, another)
            ),
        ]
        if provider not in ("bfl", "heygen"):  # they sign no time
            body = SUCCEEDED[provider]("t")
            answers.append(await deliver(stranger, provider, body, now=time.time() - STALE_SECONDS))
        for answer in answers:
            assert {
                "type": "urn:lastro:problem:unauthenticated",
                "title": "Who are you?",
                "status": 401,
                "code": "unauthenticated",
                "detail": "This delivery does not prove who sent it. Nothing was done.",
                "cause": "delivery",
            } == answer.json(), provider
        assert "pending" == (await find(client, its["reservation"]["id"]))["status"]


async def test_what_was_changed_on_the_way_is_refused(client, stranger):
    await reserved(client, provider="sync", taskId="t")
    raw = msgspec.json.encode(FAILED["sync"]("t"))
    headers = signed("sync", raw)
    changed = raw.replace(b"FAILED", b"COMPLETED")
    for body in (changed, raw + b" ", b""):
        assert 401 == (await stranger.post("/api/webhooks/sync", content=body, headers=headers)).status_code
    twice = [*signed("replicate", b"{}").items(), ("Webhook-Id", "other")]
    answer = await stranger.post("/api/webhooks/replicate", content=b"{}", headers=twice)
    assert 401 == answer.status_code


async def test_an_empty_body_is_not_taken_for_an_empty_object(stranger):
    answer = await stranger.post("/api/webhooks/replicate", headers=signed("replicate", b"{}"))
    assert 401 == answer.status_code


async def test_a_body_of_a_mebibyte_is_read_and_one_byte_more_is_not(client, stranger):
    await reserved(client, provider="sync", taskId="t")
    start, end = b'{"id": "t", "status": "COMPLETED", "filler": "', b'"}'
    body = start + b"x" * (MIB - len(start) - len(end)) + end
    answer = await deliver(stranger, "sync", body + b" ")
    assert (413, "body_too_large") == (answer.status_code, answer.json()["code"])

    async def pieces() -> Any:
        for _ in range(MIB // 1024 + 1):
            yield b"x" * 1024

    answer = await stranger.post("/api/webhooks/sync", content=pieces())
    assert 413 == answer.status_code
    assert "verified" == await told(stranger, "sync", body)


async def test_long_bodies_of_nobody_knows_whom_are_read_a_few_at_a_time(client, stranger, monkeypatch):
    """Otherwise as much memory as they like belongs to all who can reach the door."""
    monkeypatch.setattr("app.http.room.LONG_DELIVERIES_MAX", 3)
    monkeypatch.setattr("app.http.webhooks.BODY_SECONDS", 3)
    come, end = asyncio.Semaphore(0), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * (MIB - 1)
        come.release()
        await end.wait()

    held = [asyncio.create_task(stranger.post("/api/webhooks/sync", content=slow())) for _ in range(3)]
    for _ in held:
        await come.acquire()
    answer = await stranger.post("/api/webhooks/sync", content=b"x" * 65_537)
    assert (503, "overloaded", "long_deliveries") == (
        answer.status_code, answer.json()["code"], answer.json()["cause"],
    )  # fmt: skip
    assert "retry-after" in answer.headers
    await reserved(client, provider="sync", taskId="t")
    assert "verified" == await told(stranger, "sync", SUCCEEDED["sync"]("t"))
    end.set()
    assert [401] * 3 == [(await each).status_code for each in held]
    body = SUCCEEDED["sync"]("t") | {"filler": "x" * 65_536}
    assert "duplicate" == await told(stranger, "sync", body)


NOT_UNDERSTOOD = [
    ("replicate", b"", "no JSON"),
    ("replicate", b"\xff", "no JSON"),
    ("replicate", b"[]", "JSON object"),
    ("replicate", b'{"id": "t", "status": "surprised"}', "`status`"),
    ("replicate", b'{"status": "succeeded"}', "`id`"),
    ("generic", b'{"status": "succeeded"}', "`taskId`"),
    ("generic", b'{"taskId": "t", "status": "succeeded", "amount": 1.5}', "`amount`"),
    ("heygen", b'{"event_type": "avatar_video.success", "event_data": 1}', "`event_data`"),
    ("stripe", b'{"type": "invoice.paid"}', "`id`"),
]


async def test_what_is_genuine_and_not_understood_is_told_why(client, stranger):
    for provider, body, field in NOT_UNDERSTOOD:
        answer = await deliver(stranger, provider, body)
        assert (400, "invalid_request") == (answer.status_code, answer.json()["code"]), body
        assert field in answer.json()["detail"], body
    answer = await deliver(stranger, "heygen", b'{"event_type": "a\\u0000b"}')
    assert (200, {"status": "verified"}) == (answer.status_code, answer.json())
    (row,) = await inbox(client, provider="heygen")
    assert "a b" == row["providerStatus"]


async def test_only_posts_come_in_and_no_query(stranger):
    assert 405 == (await stranger.get("/api/webhooks/replicate")).status_code
    assert 400 == (await deliver(stranger, "sync", b"{}", path="/api/webhooks/sync?a=b")).status_code


async def test_heygen_may_look_whether_there_is_a_door(stranger):
    answer = await stranger.options("/api/webhooks/heygen")
    assert (200, b"", "OPTIONS, POST") == (answer.status_code, answer.content, answer.headers["allow"])
    assert 404 == (await stranger.options("/api/webhooks/unheard-of")).status_code


async def test_a_flood_of_forgeries_is_a_row_that_counts(app, client, stranger):
    write = app.state.parts.receiving.inbox.write_rejected_now
    for number in range(20):
        body = {"id": f"task-{number}", "status": "COMPLETED"}
        assert 401 == (await deliver(stranger, "sync", body, secret="wrong")).status_code
        late = time.time() - 1000 - number
        assert 401 == (await deliver(stranger, "sync", body, now=late)).status_code
    await write()
    await deliver(stranger, "sync", b"{}", secret="wrong")
    await write()
    await write()
    assert {
        ("sync", 21, "the signature is of another body, another time or another secret"),
        ("sync", 20, "signed too long ago"),
    } == {(row["provider"], row["deliveries"], row["why"]) for row in await inbox(client, status="rejected")}


async def test_a_flood_of_forgeries_has_a_few_lines_in_the_log_which_say_how_many_there_were(
    app, stranger, capsys
):
    second = app.state.parts.receiving._sparing
    second._until = math.inf
    for _ in range(2 * LINES_PER_SECOND):
        await deliver(stranger, "sync", b"{}", secret="wrong")
    second._until = 0
    await deliver(stranger, "sync", b"{}", secret="wrong")
    lines = [line for line in capsys.readouterr().out.splitlines() if "webhook rejected" in line]
    said = [int(re.search(r"unsaid=.*?(\d+)", re.sub(r"\x1b\[[0-9]*m", "", line))[1]) for line in lines]
    assert [0] * LINES_PER_SECOND + [LINES_PER_SECOND] == said


async def test_reasons_without_end_are_counted_together(app, client):
    """As many rows as a day may have, and what one process can hold, but every delivery is counted."""
    receiving = app.state.parts.receiving
    letters = "abcdefghijklmnopqrstuvwxyz"
    for first in letters[:15]:
        for second in letters:
            for third in letters[:3]:
                receiving.inbox.reject("sync", f"because of {first}{second}{third}")
        await receiving.inbox.write_rejected_now()
    rows = await everything(client)
    assert 15 * 26 * 3 == sum(row["deliveries"] for row in rows)
    assert ROWS_OF_A_DAY_MAX <= len(rows) <= ROWS_OF_A_DAY_MAX + REASONS_MAX + 1


async def everything(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query = {"limit": "200"}
    while True:
        page = (await client.get("/api/credits/webhooks", params=query)).json()
        found += page["data"]
        if not page["hasMore"]:
            return found
        query["cursor"] = page["nextCursor"]

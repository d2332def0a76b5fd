"""Whatever Redis has forgotten is answered from the journal, byte for byte as the first time."""

import time
from collections.abc import Awaitable, Callable

import httpx
import pytest
from redis.asyncio import Redis

from tests.http.steps import CREDITS

Asked = tuple[str, str, dict, httpx.Response]
"""A request (method, path, body) under the key of its number, and how it was answered."""

NOTES = {
    "reason": 'why not, <é> / "or" \\ \u2028',
    "metadata": {"z": "1", "a": 'é/"\\', "10": "y", "2": "", "1": "x"},
}
MADE_MS = int(time.time() * 1000) - 20 * 3_600_000
TASK = 'the task\'s "id" \\ 1'


def key(number: int) -> str:
    """A UUIDv7 of twenty hours ago: it holds for ever, and Redis may have forgotten it."""
    digits = f"{MADE_MS:012x}70008{number:015x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@pytest.fixture
async def asked(client, journal, clock) -> list[Asked]:
    """One of every kind of request, with everything that can be said in it, all of it journaled."""
    done: list[Asked] = []

    async def ask(method: str, path: str, **body) -> dict:
        headers = {"idempotency-key": key(len(done)), "lastro-ack": "journaled"}
        answer = await client.request(method, f"{CREDITS}/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        assert "true" == answer.headers["lastro-journaled"]
        done.append((method, path, body, answer))
        return answer.json()

    async def held(**body) -> str:
        return (await ask("POST", "reserve", accountId="alice", **body))["reservation"]["id"]

    await client.put(f"{CREDITS}/models", json={"modelId": "m/1", "base": "0.5", "price": "1.25"})
    plan = {"bucket": "plan/1", "priority": 3, "expiresAt": "2100-01-01T00:00:00.5+01:00"}
    await ask("POST", "grant", accountId="alice", amount=1000, **plan, **NOTES)
    await ask("POST", "grant", accountId="alice", amount=100, bucket="plan/1", rollover=40)
    spent = await ask("POST", "deduct", accountId="alice", units="3.50", modelId="m/1", **NOTES)
    late = await held(amount=20, ttlSeconds=1, onExpired="charge")
    charged = {"overCapture": "charge", "onExpired": "charge", "resourceId": "r/1"}
    parts = await held(units=10, modelId="m/1", taskId=TASK, provider="fal", **charged, **NOTES)
    other = await held(amount=20, **NOTES)
    await ask("PUT", f"reservations/{other}/task", taskId="u", provider="fal", resourceId="x")
    await ask("POST", "extend", taskId=TASK, provider="fal", ttlSeconds=7200)
    await ask("POST", "confirm", reservationId=parts, units=1, final=False)
    await ask("POST", "confirm", reservationId=parts, amount=2, final=False, modelId="m2")
    await ask("POST", "confirm", reservationId=parts, amount=30)
    await ask("POST", "cancel", reservationId=other, cause="failed", reason="no \u0085 face")
    await clock.advance(1_000)
    await ask("POST", "confirm", reservationId=late, amount=15)
    await ask("POST", "refund", transactionId=spent["transaction"]["id"], amount=2, reason="r")
    await ask("POST", "refund", reservationId=parts, amount=25)
    await ask("POST", "refund", reservationId=parts, bucket="new")
    await ask("POST", "adjust", accountId="alice", amount=-(10**9), short="take", reason="all of it")
    return done


async def forget(redis: Redis) -> None:
    """All that Redis forgets in the course of time, at once."""
    for forgotten in ("reservation", "operation", "task", "refunded"):
        async for name in redis.scan_iter(match=f"lastro:*:{forgotten}:*"):
            await redis.delete(name)
    async for name in redis.scan_iter(match="lastro:*:journal"):
        await redis.xtrim(name, maxlen=0, approximate=False)


def cut(text: str, after: str, before: str) -> str:
    return text[text.index(after) : text.index(before)]


async def is_replayed(
    asked: list[Asked], again: Callable[[int, str, str, dict], Awaitable[httpx.Response]]
) -> None:
    for number, (method, path, body, first) in enumerate(asked):
        answer = await again(number, method, path, body)
        assert first.status_code == answer.status_code, (path, answer.text)
        assert "true" == answer.headers["idempotency-replayed"], (path, body)
        assert "lastro-conflict" not in answer.headers
        assert list(first.json()) == list(answer.json())
        assert first.json().get("shortfall") == answer.json().get("shortfall")
        transactions = [
            cut(each.text, '"transaction":', ',"balance":{"accountId"') for each in (first, answer)
        ]
        assert transactions[0] == transactions[1]


async def test_under_its_key_every_request_is_answered_as_the_first_time(client, redis, asked):
    async def again(number: int, method: str, path: str, body: dict) -> httpx.Response:
        headers = {"idempotency-key": key(number)}
        return await client.request(method, f"{CREDITS}/{path}", json=body, headers=headers)

    before = (await client.get(f"{CREDITS}/balance", params={"accountId": "alice"})).text
    await is_replayed(asked, again)
    await forget(redis)
    await is_replayed(asked, again)
    assert before == (await client.get(f"{CREDITS}/balance", params={"accountId": "alice"})).text


async def test_without_a_key_an_ending_is_answered_as_the_first_time(client, redis, asked):
    async def again(_: int, method: str, path: str, body: dict) -> httpx.Response:
        return await client.request(method, f"{CREDITS}/{path}", json=body)

    endings = [each for each in asked if each[1] in {"cancel", "confirm"} and "final" not in each[2]]
    assert 3 == len(endings)
    await is_replayed(endings, again)
    await forget(redis)
    await is_replayed(endings, again)


async def test_a_reservation_reads_the_same_from_the_journal(client, redis, asked):
    """Also the order of its metadata, which Redis does not keep."""
    named = [each[3].json()["reservation"]["id"] for each in asked if each[1] == "reserve"]
    seen = [(await client.get(f"{CREDITS}/reservations/{each}")).text for each in named]
    await forget(redis)
    assert seen == [(await client.get(f"{CREDITS}/reservations/{each}")).text for each in named]

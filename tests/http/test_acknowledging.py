"""`Lastro-Ack: journaled`: every request that writes may wait until PostgreSQL has what it did."""

import asyncio

import httpx

from tests.http.steps import CREDITS, deduct, do, grant, reserve

WAITING = {"lastro-ack": "journaled"}


async def acknowledged(client: httpx.AsyncClient, method: str, path: str, **body) -> str | None:
    answer = await client.request(method, f"{CREDITS}/{path}", json=body, headers=WAITING)
    assert answer.is_success, answer.text
    return answer.headers.get("lastro-journaled")


async def test_every_verb_may_wait_for_the_journal(client, journal):
    await grant(client)
    held = [(await reserve(client, amount=5))["reservation"]["id"] for _ in range(3)]
    spent = (await do(client, "deduct", accountId="alice", amount=5))["transaction"]["id"]
    alice = {"accountId": "alice", "amount": 1}
    assert ["true"] * 11 == [
        await acknowledged(client, "POST", "grant", **alice),
        await acknowledged(client, "POST", "deduct", **alice),
        await acknowledged(client, "POST", "reserve", **alice),
        await acknowledged(client, "POST", "extend", reservationId=held[0], ttlSeconds=7200),
        await acknowledged(client, "POST", "confirm", reservationId=held[0]),
        await acknowledged(client, "POST", "cancel", reservationId=held[1]),
        await acknowledged(client, "POST", "refund", transactionId=spent),
        await acknowledged(client, "POST", "adjust", **alice, reason="why"),
        await acknowledged(client, "PUT", f"reservations/{held[2]}/task", taskId="t"),
        await acknowledged(client, "PATCH", "accounts/alice", lowBalance=5),
        await acknowledged(client, "POST", "batch", operations=[deduct(1), deduct(2)]),
    ]


async def test_without_a_worker_a_batch_says_false_once_for_all_of_it(client, monkeypatch):
    monkeypatch.setattr("persistence.journaled.WAIT_SECONDS", 0.2)
    for account in "abcdefgh":
        await grant(client, account)
    operations = [deduct(1, account) for account in "abcdefgh"]
    async with asyncio.timeout(2.0):
        assert "false" == await acknowledged(client, "POST", "batch", operations=operations)


async def test_what_changes_nothing_has_nothing_to_wait_for(client):
    await grant(client)
    assert await acknowledged(client, "PATCH", "accounts/alice", status="active") is None

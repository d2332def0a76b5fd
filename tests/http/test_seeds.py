"""What the first shops suffered (seeds 000 and 004), asked of two services over one ledger at one instant."""

import asyncio
from collections import Counter

import httpx
import pytest

from tests.http.conftest import running
from tests.http.serving import create_app
from tests.http.steps import grant, reserve


@pytest.fixture
async def both(client, settings):
    """Two clients, each of a service of its own (its own batcher, lane and connections)."""
    async with running(other := create_app(settings)):
        second = httpx.AsyncClient(
            transport=httpx.ASGITransport(other, raise_app_exceptions=False),
            base_url="http://lastro.test",
            headers=client.headers,
        )
        async with second:
            yield [client, second]


@pytest.fixture(params=["one service", "two services"])
def clients(request, both):
    return both[:1] if request.param == "one service" else both


async def deduct_at_once(clients, amounts):
    """The statuses of that many deducts, begun at the same instant, taken in turns by the clients."""
    return Counter(
        answer.status_code
        for answer in await asyncio.gather(
            *[
                clients[number % len(clients)].post(
                    "/api/credits/deduct", json={"accountId": "alice", "amount": amount}
                )
                for number, amount in enumerate(amounts)
            ]
        )
    )


async def available(client) -> int:
    return (await client.get("/api/credits/balance?accountId=alice")).json()["available"]


async def test_three_jobs_at_the_same_instant_are_all_paid(clients):
    await grant(clients[0], amount=100)
    assert {201: 3} == await deduct_at_once(clients, [51, 13, 13])
    assert 23 == await available(clients[0])


async def test_of_twenty_jobs_of_13_exactly_seven_fit_into_100_credits(clients):
    await grant(clients[0], amount=100)
    assert {201: 7, 402: 13} == await deduct_at_once(clients, [13] * 20)
    assert 9 == await available(clients[0])


async def test_frontend_and_webhook_confirm_the_same_reservation_and_one_charge_is_made(both):
    await grant(both[0])
    held = (await reserve(both[0], taskId="t"))["reservation"]["id"]
    named = [{"reservationId": held}, {"taskId": "t"}]
    answers = await asyncio.gather(
        *[both[number % 2].post("/api/credits/confirm", json=named[number % 2]) for number in range(10)]
    )
    assert {200} == {answer.status_code for answer in answers}
    assert 1 == len({answer.json()["transaction"]["id"] for answer in answers})
    assert 9 == sum(answer.headers.get("idempotency-replayed") == "true" for answer in answers)
    assert all(answer.json()["transaction"] == answers[0].json()["transaction"] for answer in answers)
    assert 60 == await available(both[0])


async def test_of_a_confirm_and_a_cancel_one_wins_and_the_other_is_told_how_it_ended(both):
    await grant(both[0], amount=1000)
    for round_ in range(20):
        held = {"reservationId": (await reserve(both[0], amount=10))["reservation"]["id"]}
        confirmed, cancelled = await asyncio.gather(
            both[round_ % 2].post("/api/credits/confirm", json=held),
            both[1 - round_ % 2].post("/api/credits/cancel", json=held),
        )
        assert (confirmed.status_code, cancelled.status_code) in {(200, 409), (409, 200)}
        loser = confirmed if confirmed.status_code == 409 else cancelled
        code = "reservation_cancelled" if loser is confirmed else "reservation_confirmed"
        winner = cancelled if loser is confirmed else confirmed
        assert (code, winner.json()["reservation"]["settledAt"]) == (loser.json()["code"], loser.json()["at"])


async def test_the_same_key_from_two_services_is_one_operation(both):
    await grant(both[0])
    answers = await asyncio.gather(
        *[
            both[number % 2].post(
                "/api/credits/deduct",
                json={"accountId": "alice", "amount": 7},
                headers={"idempotency-key": "k"},
            )
            for number in range(10)
        ]
    )
    assert {201} == {answer.status_code for answer in answers}
    assert 1 == len({answer.json()["transaction"]["id"] for answer in answers})
    assert 93 == await available(both[0])


async def test_a_service_that_stops_answers_whoever_waits(settings, client):
    await grant(client, amount=100)
    async with running(other := create_app(settings)):
        transport = httpx.ASGITransport(other, raise_app_exceptions=False)
        leaving = httpx.AsyncClient(
            transport=transport, base_url="http://lastro.test", headers=client.headers
        )
        assert 200 == (await leaving.get("/api/credits/balance?accountId=alice")).status_code
        waiting = asyncio.gather(
            *[
                leaving.post("/api/credits/deduct", json={"accountId": "alice", "amount": 1})
                for _ in range(50)
            ]
        )
        await asyncio.sleep(0)  # begun, not answered
    statuses = Counter(answer.status_code for answer in await waiting)
    assert {201, 503} >= statuses.keys()
    assert 100 - statuses[201] == await available(client)

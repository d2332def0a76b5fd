"""Two processes of the API and one restart: what one has answered the other answers, and forgets with it."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from persistence import api_keys
from persistence.birth import give_birth
from persistence.drain import drain
from tests.chaos.test_between_forgotten import SHARDS, served
from tests.http.conftest import ALL


@pytest.fixture
async def token(database, database_url, redis_url) -> str:
    await give_birth(database_url, redis_url, SHARDS)
    return await api_keys.create(database, "all", ALL)


async def test_one_key_sent_to_two_processes_and_to_a_third_one_after_them_moves_once(
    token, database, database_url, redis_url
):
    body = {"accountId": "ana", "amount": 100}
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(served(redis_url, database_url, token)) for _ in range(2)]
        answers = await asyncio.gather(
            *(
                client.post("/api/credits/grant", json=body, headers={"idempotency-key": "k"})
                for client in both * 20
            )
        )
        refusals = await asyncio.gather(
            *(
                client.post(
                    "/api/credits/deduct",
                    json={"accountId": "ana", "amount": 101},
                    headers={"idempotency-key": "too much"},
                )
                for client in both * 5
            )
        )
        await both[0].post("/api/credits/grant", json=body)
    async with served(redis_url, database_url, token) as third:
        answers.append(await third.post("/api/credits/grant", json=body, headers={"idempotency-key": '"k"'}))
        refusals.append(
            await third.post(
                "/api/credits/deduct",
                json={"amount": 101, "accountId": "ana"},
                headers={"idempotency-key": "too much"},
            )
        )
        mismatch = await third.post("/api/credits/deduct", json=body, headers={"idempotency-key": "k"})
        assert (await third.get("/api/credits/balance?accountId=ana")).json()["available"] == 200
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["transaction"]["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count(None) == 1
    assert {answer.status_code for answer in refusals} == {402}
    assert len({answer.text for answer in refusals}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in refusals].count(None) == 1
    assert (422, "idempotency_mismatch") == (mismatch.status_code, mismatch.json()["code"])


async def test_a_revoked_key_is_refused_by_every_process_within_five_seconds(
    token, database, database_url, redis_url
):
    leaked = await api_keys.create(database, "leaked", ALL)
    async with (
        served(redis_url, database_url, leaked) as one,
        served(redis_url, database_url, leaked) as two,
    ):
        for client in (one, two):
            answer = await client.post("/api/credits/grant", json={"accountId": "ana", "amount": 1})
            assert answer.status_code == 201
        await api_keys.revoke(database, "leaked")
        async with asyncio.timeout(5):
            for client in (one, two):
                while (await client.get("/api/credits/balance?accountId=ana")).status_code != 401:
                    await client.get("/health/ready")


async def test_an_unchanged_tag_means_an_unchanged_balance_also_when_holds_run_out_and_lots_lapse(
    token, database_url, redis_url
):
    """Nobody but the reader touches the account: what time does must change the tag by itself."""
    async with served(redis_url, database_url, token) as client:
        await client.post("/api/credits/grant", json={"accountId": "ana", "amount": 5})
        held = {"accountId": "ana", "amount": 3, "ttlSeconds": 1}
        await client.post("/api/credits/reserve", json=held)
        before = await client.get("/api/credits/balance?accountId=ana")
        assert (before.json()["available"], before.json()["held"]) == (2, 3)
        async with asyncio.timeout(5):
            while True:
                headers = {"if-none-match": before.headers["etag"]}
                after = await client.get("/api/credits/balance?accountId=ana", headers=headers)
                if after.status_code == 200:
                    break
        assert (after.json()["available"], after.json()["held"]) == (5, 0)
        assert after.headers["etag"] != before.headers["etag"]


async def test_what_is_acknowledged_as_journaled_is_in_the_journal(token, database, database_url, redis_url):
    async with served(redis_url, database_url, token) as client:
        draining = asyncio.create_task(drain(database_url, redis_url, 1.5, keep=None))
        answers = await asyncio.gather(
            *(
                client.post(
                    "/api/credits/grant",
                    json={"accountId": f"account-{number}", "amount": 1},
                    headers={"lastro-ack": "journaled", "idempotency-key": "k"},
                )
                for number in [*range(50), *range(10)]
            )
        )
        assert {answer.headers["lastro-journaled"] for answer in answers} == {"true"}
        for answer in answers:
            shard, incarnation, sequence = map(int, answer.json()["transaction"]["id"].split("-"))
            row = await database.fetchrow(
                "SELECT account, incarnation FROM journal WHERE shard = $1 AND seq = $2", shard, sequence
            )
            assert tuple(row) == (answer.json()["transaction"]["accountId"], incarnation)
        await draining

"""Webhooks that are as they should be: each provider's success confirms, its failure cancels, once."""

import httpx
import pytest

from app.jwks import Jwks
from app.settings import Settings
from tests.http.doors import (
    FAILED,
    FAL_JWKS,
    FAL_PUBLIC,
    SIGNING,
    SUCCEEDED,
    deliver,
    inbox,
    reserved,
    told,
    url,
    with_doors,
)
from tests.http.steps import ask, do, find, members, sums


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


@pytest.mark.parametrize("provider", SIGNING)
async def test_a_success_confirms_what_is_held(provider, client, stranger):
    made = await reserved(client, provider=provider, taskId="task-1")
    assert "verified" == await told(stranger, provider, SUCCEEDED[provider]("task-1"))
    now = await find(client, made["reservation"]["id"])
    assert ("confirmed", 50, 0) == members(now, "status", "captured", "held")
    (row,) = await inbox(client)
    assert (provider, "verified", "succeeded", "task-1", now["id"], "alice", 50, 1) == members(
        row, "provider", "status", "outcome", "taskId", "reservationId", "accountId", "amount", "deliveries"
    )
    transaction = (await client.get(f"/api/credits/transactions?reservationId={now['id']}")).json()
    assert not transaction["data"] or row["transactionId"] == transaction["data"][0]["id"]


@pytest.mark.parametrize("provider", SIGNING)
async def test_a_failure_cancels_and_says_why(provider, client, stranger):
    made = await reserved(client, provider=provider, taskId="task-1")
    body = FAILED[provider]("task-1")
    assert "verified" == await told(stranger, provider, body)
    now = await find(client, made["reservation"]["id"])
    assert ("cancelled", "failed", 50) == members(now, "status", "cancelCause", "released")
    assert (100, 0) == (await sums(client))[:2]
    (row,) = await inbox(client)
    assert ("failed", "verified", now.get("cancelReason")) == members(row, "outcome", "status", "reason")


@pytest.mark.parametrize("provider", ["kling", "luma"])
async def test_one_that_signs_nothing_is_proved_by_its_callback_url(provider, client, stranger):
    made = await reserved(client, provider=provider, taskId="task-1")
    body = SUCCEEDED[provider]("task-1")
    assert 401 == (await deliver(stranger, provider, body, signed=False)).status_code
    path = url(provider, made["reservation"]["id"])
    assert "verified" == await told(stranger, provider, body, path=path, signed=False)
    assert "confirmed" == (await find(client, made["reservation"]["id"]))["status"]


async def test_the_same_again_is_a_duplicate_and_does_nothing(client, stranger):
    await reserved(client, provider="replicate", taskId="task-1")
    body = SUCCEEDED["replicate"]("task-1")
    assert ["verified", "duplicate", "duplicate"] == [
        await told(stranger, "replicate", body) for _ in range(3)
    ]
    assert (50, 0, 3) == await sums(client)
    (row,) = await inbox(client, status="duplicate")
    assert ("verified", 3) == members(row, "status", "deliveries")


async def test_the_path_of_the_seeds_is_the_same_door(client, stranger):
    await reserved(client, provider="bfl", taskId="task-1")
    answer = await deliver(stranger, "bfl", SUCCEEDED["bfl"]("task-1"), path="/api/webhook/bfl")
    assert (200, {"status": "verified"}) == (answer.status_code, answer.json())


async def test_a_task_without_a_provider_is_found_too(client, stranger):
    made = await reserved(client, taskId="task-1")
    assert "verified" == await told(stranger, "sync", SUCCEEDED["sync"]("task-1"))
    assert "confirmed" == (await find(client, made["reservation"]["id"]))["status"]


async def test_the_task_of_another_provider_is_another(client, stranger):
    await reserved(client, provider="fal", taskId="task-1")
    assert "waiting" == await told(stranger, "sync", SUCCEEDED["sync"]("task-1"))


async def test_what_was_confirmed_before_stays_and_says_by_whom(client, stranger):
    made = await reserved(client, provider="sync", taskId="task-1")
    await do(client, "confirm", reservationId=made["reservation"]["id"], amount=20)
    assert "verified" == await told(stranger, "sync", SUCCEEDED["sync"]("task-1"))
    (row,) = await inbox(client)
    assert "it was confirmed already by key:all: 20 credits" == row["why"]
    assert (80, 0) == (await sums(client))[:2]


async def test_progress_is_noted_and_nothing_else(client, stranger):
    made = await reserved(client, provider="replicate", taskId="task-1")
    for word in ("starting", "processing", "processing"):
        assert "verified" == await told(stranger, "replicate", {"id": "task-1", "status": word})
    assert "pending" == (await find(client, made["reservation"]["id"]))["status"]
    (row,) = await inbox(client)
    assert ("progress", "processing", 3) == members(row, "outcome", "providerStatus", "deliveries")


async def test_generic_says_what_it_has_cost(client, stranger):
    made = await reserved(client, provider="generic")
    id_ = made["reservation"]["id"]
    body = {"reservationId": id_, "status": "succeeded", "amount": 12}
    assert "verified" == await told(stranger, "generic", body)
    now = await find(client, id_)
    assert ("confirmed", 12, 38) == members(now, "status", "captured", "released")


async def test_webhooks_are_in_the_journal_under_their_name(client, stranger, journal):
    await reserved(client, provider="sync", taskId="task-1")
    await told(stranger, "sync", SUCCEEDED["sync"]("task-1"))
    again = await ask(client, "confirm", taskId="task-1", provider="sync")
    assert ("webhook:sync", "true") == (
        again.json()["transaction"]["by"],
        again.headers["idempotency-replayed"],
    )


async def test_keys_of_fal_that_were_changed_are_fetched_once_they_are_missed(app, client, stranger):
    """One question however many forgeries come; what was known stays while nobody answers."""
    asked: list[str] = []
    published = ['{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "' + "A" * 43 + '"}]}']

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, stream=httpx.ByteStream(published[-1].encode()))

    time_ = [0.0]
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as source:
        jwks = Jwks("https://fal.example/jwks.json", source, clock=lambda: time_[0])
        app.state.parts.receiving._of_fal = jwks
        await reserved(client, provider="fal", taskId="t")
        body = SUCCEEDED["fal"]("t")
        for _ in range(3):
            assert 401 == (await deliver(stranger, "fal", body)).status_code
        assert 1 == len(asked)
        published.append(FAL_JWKS)
        time_[0] += 31
        assert "verified" == await told(stranger, "fal", body)
        for _ in range(3):
            assert "duplicate" == await told(stranger, "fal", body)
        assert 2 == len(asked)


async def test_a_key_of_fal_that_is_for_something_else_proves_nothing(app, client, stranger):
    await reserved(client, provider="fal", taskId="t")
    receiving = app.state.parts.receiving
    async with httpx.AsyncClient() as nobody:
        for kind in ('"kty": "EC", "crv": "P-256"', '"kty": "OKP", "crv": "X25519"', '"kid": "x"'):
            receiving._of_fal = Jwks(f'{{"keys": [{{{kind}, "x": "{FAL_PUBLIC}"}}]}}', nobody)
            assert 401 == (await deliver(stranger, "fal", SUCCEEDED["fal"]("t"))).status_code


async def test_while_the_keys_of_fal_were_never_fetched_it_is_to_be_sent_again(app, stranger):
    async def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    async with httpx.AsyncClient(transport=httpx.MockTransport(away)) as source:
        app.state.parts.receiving._of_fal = Jwks("https://fal.example/jwks.json", source)
        answer = await deliver(stranger, "fal", SUCCEEDED["fal"]("t"))
        assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])

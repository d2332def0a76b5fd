"""What a callback means for a reservation that has ended, is late, or is not paid for; and acting again."""

import pytest

from app.settings import Settings
from tests.http.doors import FAILED, SUCCEEDED, inbox, reserved, told, with_doors
from tests.http.steps import do, find, members, setting, sums

CREDITS = "/api/credits"


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings, webhook_units="replicate=/metrics/predict_time,sync=/outputDuration")


async def test_endings_that_contradict_each_other_are_conflicts_and_move_nothing(client, stranger):
    failed_after = await reserved(client, provider="sync", taskId="confirmed")
    await told(stranger, "sync", SUCCEEDED["sync"]("confirmed"))
    before = await sums(client)
    assert "conflict" == await told(stranger, "sync", FAILED["sync"]("confirmed"))
    requested = await reserved(client, provider="sync", taskId="requested")
    await do(client, "cancel", reservationId=requested["reservation"]["id"])
    assert "conflict" == await told(stranger, "sync", SUCCEEDED["sync"]("requested"))
    failed = await reserved(client, provider="sync", taskId="failed")
    await told(stranger, "sync", FAILED["sync"]("failed"))
    assert "conflict" == await told(stranger, "sync", SUCCEEDED["sync"]("failed"))
    assert before[0] + 200 == (await sums(client))[0]
    assert {
        (failed_after["reservation"]["id"], "reservation_confirmed"),
        (requested["reservation"]["id"], "reservation_cancelled (cause requested)"),
        (failed["reservation"]["id"], "reservation_cancelled (cause failed)"),
    } == {(row["reservationId"], row["why"]) for row in await inbox(client, status="conflict")}
    for row in await inbox(client, status="conflict"):
        answer = await client.post(f"{CREDITS}/webhooks/{row['id']}/replay")
        assert (200, "conflict") == (answer.status_code, answer.json()["status"])


async def test_a_success_after_the_deadline_is_as_the_reservation_wants_it(client, stranger, clock):
    await reserved(client, provider="sync", taskId="charge", onExpired="charge", ttlSeconds=10)
    rejects = await reserved(client, provider="sync", taskId="reject", ttlSeconds=10)
    await reserved(client, provider="sync", taskId="failed", ttlSeconds=10)
    await clock.advance(11_000)
    assert "late" == await told(stranger, "sync", SUCCEEDED["sync"]("charge") | {"outputDuration": None})
    assert "refused" == await told(stranger, "sync", SUCCEEDED["sync"]("reject"))
    assert "verified" == await told(stranger, "sync", FAILED["sync"]("failed"))
    assert (250, 0) == (await sums(client))[:2]
    (late,) = await inbox(client, status="late")
    assert 50 == late["amount"]
    (refused,) = await inbox(client, status="refused")
    assert (rejects["reservation"]["id"], "alice", "reservation_expired") == members(
        refused, "reservationId", "accountId", "why"
    )
    assert "duplicate" == await told(stranger, "sync", SUCCEEDED["sync"]("charge"))


async def rate(client, **row) -> None:
    answer = await client.put(f"{CREDITS}/models", json=row)
    assert 200 == answer.status_code, answer.text


async def held_by_units(client, provider: str, task: str, **more) -> str:
    made = await do(
        client, "reserve", accountId="alice", modelId="m", units=10, provider=provider, taskId=task, **more
    )
    return made["reservation"]["id"]


async def test_the_real_cost_is_that_of_the_units_at_the_price_that_was_reserved(client, stranger):
    await do(client, "grant", accountId="alice", amount=1_000)
    await rate(client, modelId="m", base="1", price="2.5")
    ids = [await held_by_units(client, "replicate", task) for task in ("some", "none", "less")]
    unpriced = await reserved(client, provider="replicate", taskId="unpriced")
    await rate(client, modelId="m", base="100", price="100")
    some = {"id": "some", "status": "succeeded", "metrics": {"predict_time": 3.20000001}}
    assert "verified" == await told(stranger, "replicate", some)
    none = {"id": "none", "status": "succeeded", "metrics": {"predict_time": "soon"}}
    assert "verified" == await told(stranger, "replicate", none)
    less = {"id": "less", "status": "succeeded", "metrics": {"predict_time": 0}}
    assert "verified" == await told(stranger, "replicate", less)
    assert "verified" == await told(stranger, "replicate", SUCCEEDED["replicate"]("unpriced"))
    captured = [(await find(client, each))["captured"] for each in (*ids, unpriced["reservation"]["id"])]
    assert [10, 26, 1, 50] == captured  # ceil(1 + 3.200001 x 2.5), all, the base alone, all


async def test_more_than_is_held_is_as_the_reservation_wants_it(client, stranger):
    await do(client, "grant", accountId="alice", amount=100)
    await rate(client, modelId="m", base="0", price="1")
    await held_by_units(client, "sync", "reject")
    await held_by_units(client, "sync", "cap", overCapture="cap")
    await held_by_units(client, "sync", "charge", overCapture="charge")
    statuses = [
        await told(stranger, "sync", SUCCEEDED["sync"](task) | {"outputDuration": 30})
        for task in ("reject", "cap", "charge")
    ]
    assert ["refused", "verified", "verified"] == statuses
    (row,) = await inbox(client, status="refused")
    assert "exceeds_reservation (required 30, held 10)" == row["why"]
    assert (50, 10) == (await sums(client))[:2]


async def test_what_was_refused_can_be_acted_on_again_when_it_is_mended(client, stranger):
    made = await reserved(client, provider="sync", taskId="t", overCapture="charge")
    await rate(client, modelId="m", base="0", price="1")
    await do(client, "deduct", accountId="alice", amount=50)
    await do(client, "grant", accountId="alice", amount=10)
    await held_by_units(client, "sync", "dear", overCapture="charge")
    body = SUCCEEDED["sync"]("dear") | {"outputDuration": 40}
    assert "refused" == await told(stranger, "sync", body)
    assert "duplicate" == await told(stranger, "sync", body)
    (row,) = await inbox(client, taskId="dear")
    assert "insufficient_credits" in row["why"] or "credits_held" in row["why"]
    again = f"{CREDITS}/webhooks/{row['id']}/replay"
    assert "refused" == (await client.post(again)).json()["status"]
    await do(client, "grant", accountId="alice", amount=100)
    await setting(client, status="frozen")
    assert ("refused", "account_frozen") == members((await client.post(again)).json(), "status", "why")
    await setting(client, status="active")
    mended = (await client.post(again)).json()
    assert ("verified", 40, body, 2) == members(mended, "status", "amount", "payload", "deliveries")
    before = await sums(client)
    assert mended == (await client.post(again)).json() | {"settledAt": mended["settledAt"]}
    assert before == await sums(client)
    assert "pending" == (await find(client, made["reservation"]["id"]))["status"]


async def test_parts_that_were_captured_stay_when_the_job_fails(client, stranger):
    made = await reserved(client, provider="sync", taskId="t")
    id_ = made["reservation"]["id"]
    await do(client, "confirm", key="part", reservationId=id_, amount=20, final=False)
    assert "verified" == await told(stranger, "sync", FAILED["sync"]("t"))
    assert ("cancelled", 20, 30) == members(await find(client, id_), "status", "captured", "released")

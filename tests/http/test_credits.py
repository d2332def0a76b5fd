"""The verbs over HTTP: what is answered, what is answered again, and what is refused."""

from app.http.times import iso
from tests.http.steps import grant, reserve

TRANSACTION = "/api/credits/transactions/"


async def test_a_grant_opens_the_account_and_says_everything_about_it(client):
    answer = await client.post(
        "/api/credits/grant",
        json={
            "accountId": "alice",
            "amount": 100,
            "bucket": "plan",
            "priority": 10,
            "expiresAt": "2100-01-01T01:30:00.5+01:30",
            "reason": "january",
            "metadata": {"order": "17"},
        },
    )
    assert 201 == answer.status_code
    assert "no-store" == answer.headers["cache-control"]
    body = answer.json()
    made = body["transaction"]
    assert made["id"].endswith("-1")
    lot = {"bucket": "plan", "expiresAt": "2100-01-01T00:00:00.500Z", "available": 100, "held": 0}
    assert {
        "transaction": {
            "id": made["id"],
            "kind": "granted",
            "accountId": "alice",
            "amount": 100,
            "at": made["at"],
            "version": 1,
            "by": "key:all",
            "reason": "january",
            "metadata": {"order": "17"},
            "legs": [lot],
            "balance": {"available": 100, "held": 0},
        },
        "balance": {
            "accountId": "alice",
            "available": 100,
            "held": 0,
            "version": 1,
            "overdraftLimit": 0,
            "status": "active",
            "buckets": [{**lot, "priority": 10}],
        },
    } == body


async def test_a_deduct_takes_from_the_lots_in_their_order(client):
    await grant(client, amount=10, bucket="extras")
    await grant(client, amount=5, bucket="plan", priority=1)
    answer = await client.post(
        "/api/credits/deduct", json={"accountId": "alice", "amount": 7, "modelId": "flux/pro"}
    )
    assert 201 == answer.status_code
    made = answer.json()["transaction"]
    assert "deducted" == made["kind"]
    assert "flux/pro" == made["modelId"]
    assert [
        {"bucket": "plan", "available": -5, "held": 0},
        {"bucket": "extras", "available": -2, "held": 0},
    ] == made["legs"]
    assert 8 == answer.json()["balance"]["available"]


async def test_a_reservation_is_shown_with_all_that_was_said_about_it(client):
    await grant(client)
    body = await reserve(
        client,
        ttlSeconds=60,
        taskId="job 1",
        provider="fal",
        resourceId="img_1",
        modelId="flux",
        reason="a cat",
        metadata={"a": "b"},
    )
    held, made = body["reservation"], body["transaction"]
    assert {
        "id": held["id"],
        "accountId": "alice",
        "status": "pending",
        "reserved": 40,
        "captured": 0,
        "charged": 0,
        "released": 0,
        "held": 40,
        "expiresAt": held["expiresAt"],
        "createdAt": made["at"],
        "late": False,
        "extensions": 0,
        "taskId": "job 1",
        "provider": "fal",
        "resourceId": "img_1",
        "modelId": "flux",
        "overCapture": "reject",
        "onExpired": "reject",
        "metadata": {"a": "b"},
    } == held
    assert ("reserved", 40, held["id"], "job 1", "img_1", "flux", "a cat", {"a": "b"}) == tuple(
        made[name]
        for name in (
            "kind",
            "amount",
            "reservationId",
            "taskId",
            "resourceId",
            "modelId",
            "reason",
            "metadata",
        )
    )
    assert (60, 40) == (body["balance"]["available"], body["balance"]["held"])


async def test_a_confirm_of_less_releases_the_rest(client):
    await grant(client)
    held = (await reserve(client))["reservation"]
    answer = await client.post(
        "/api/credits/confirm", json={"reservationId": held["id"].upper(), "amount": 30}
    )
    assert 200 == answer.status_code
    body = answer.json()
    assert ("confirmed", 30, 0, 10, 0) == tuple(
        body["reservation"][name] for name in ("status", "captured", "charged", "released", "held")
    )
    assert body["transaction"]["at"] == body["reservation"]["settledAt"]
    assert ("confirmed", 30) == (body["transaction"]["kind"], body["transaction"]["amount"])
    assert 70 == body["balance"]["available"]


async def test_a_confirm_of_nothing_releases_all_and_ends_as_confirmed(client):
    await grant(client)
    held = await reserve(client)
    for replayed in (None, "true"):
        answer = await client.post(
            "/api/credits/confirm", json={"reservationId": held["reservation"]["id"], "amount": 0}
        )
        assert (200, replayed) == (answer.status_code, answer.headers.get("idempotency-replayed"))
        body = answer.json()
        assert ("confirmed", 0) == (body["transaction"]["kind"], body["transaction"]["amount"])
        assert ("confirmed", 0, 40) == tuple(
            body["reservation"][n] for n in ("status", "captured", "released")
        )
        assert (100, 0) == (body["balance"]["available"], body["balance"]["held"])


async def test_a_second_confirm_is_the_first_one_whatever_amount_it_names(client):
    await grant(client)
    held = (await reserve(client))["reservation"]
    ask = {"reservationId": held["id"]}
    first = await client.post("/api/credits/confirm", json=ask)
    assert "idempotency-replayed" not in first.headers
    for amount, conflict in ((None, None), (40, None), (39, "amount"), (5000, "amount")):
        again = await client.post("/api/credits/confirm", json=ask | ({"amount": amount} if amount else {}))
        assert 200 == again.status_code
        assert first.json()["transaction"] == again.json()["transaction"]
        assert "true" == again.headers["idempotency-replayed"]
        assert conflict == again.headers.get("lastro-conflict")
    assert 60 == again.json()["balance"]["available"]


async def test_a_cancel_says_how_and_when_for_ever_after(client):
    await grant(client)
    held = (await reserve(client))["reservation"]
    ask = {"reservationId": held["id"], "cause": "failed", "reason": "out of memory"}
    first = await client.post("/api/credits/cancel", json=ask)
    again = await client.post("/api/credits/cancel", json={"reservationId": held["id"]})
    assert (200, 200) == (first.status_code, again.status_code)
    assert first.json() == again.json()
    assert ("cancelled", "failed", "out of memory") == tuple(
        first.json()["reservation"][name] for name in ("status", "cancelCause", "cancelReason")
    )
    assert "out of memory" == first.json()["transaction"]["reason"]
    late = await client.post("/api/credits/confirm", json={"reservationId": held["id"]})
    assert (409, "reservation_cancelled", "failed", first.json()["transaction"]["at"]) == (
        late.status_code,
        late.json()["code"],
        late.json()["cause"],
        late.json()["at"],
    )


async def test_a_task_may_be_named_later_and_then_confirms(client):
    await grant(client)
    held = (await reserve(client))["reservation"]
    path = f"/api/credits/reservations/{held['id']}/task"
    bound = await client.put(path, json={"taskId": "t-1", "provider": "fal", "resourceId": "img_1"})
    assert 200 == bound.status_code
    assert ("bound", 0, []) == tuple(bound.json()["transaction"][name] for name in ("kind", "amount", "legs"))
    assert "img_1" == bound.json()["reservation"]["resourceId"]
    assert bound.json() == (await client.put(path, json={"taskId": "t-1", "provider": "fal"})).json()
    by_wrong_provider = await client.post("/api/credits/confirm", json={"taskId": "t-1"})
    assert "reservation_not_found" == by_wrong_provider.json()["code"]
    confirmed = await client.post("/api/credits/confirm", json={"taskId": "t-1", "provider": "fal"})
    assert held["id"] == confirmed.json()["reservation"]["id"]


async def test_credits_that_reservations_hold_are_told_from_credits_that_are_not_there(client):
    await grant(client)
    held = (await reserve(client, amount=90))["reservation"]
    answer = await client.post("/api/credits/deduct", json={"accountId": "alice", "amount": 20})
    assert (402, "credits_held") == (answer.status_code, answer.json()["code"])
    assert {
        "required": 20,
        "available": 10,
        "held": 90,
        "openReservations": 1,
        "nextReleaseAt": held["expiresAt"],
    }.items() <= answer.json().items()


async def test_an_expiry_in_the_past_is_refused_even_where_zero_would_mean_never(client):
    for past in (
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "2020-02-29T12:00:00Z",
    ):
        answer = await client.post(
            "/api/credits/grant", json={"accountId": "a", "amount": 1, "expiresAt": past}
        )
        assert (422, "already_expired") == (answer.status_code, answer.json()["code"]), past


async def test_the_largest_amount_travels_exactly(client):
    largest = 2**53 - 1
    body = await grant(client, amount=largest)
    assert largest == body["balance"]["available"]
    answer = await client.post("/api/credits/grant", json={"accountId": "alice", "amount": 1})
    assert (422, "balance_overflow") == (answer.status_code, answer.json()["code"])


def test_times_are_utc_with_milliseconds():
    assert "1970-01-01T00:00:00.000Z" == iso(0)
    assert "2026-11-21T19:40:00.007Z" == iso(1_795_290_000_007)
    assert "9999-12-31T23:59:59.999Z" == iso(253_402_300_799_999)

"""Refund: what was spent comes back, at most once, to where it came from."""

import pytest

from app.http.times import iso
from tests.http.steps import ask, do, grant, is_refused, lots, members, reserve, setting, sums

LATER = {"expiresAt": "2100-01-01T00:00:00Z"}


async def deduct(client, amount: int, **more) -> str:
    return (await do(client, "deduct", accountId="alice", amount=amount, **more))["transaction"]["id"]


async def test_a_deducted_transaction_is_given_back_to_the_lots_it_came_from(client):
    await grant(client, amount=10, bucket="plan", priority=1)
    await grant(client, amount=10, bucket="extras")
    spent = await deduct(client, 15, modelId="flux")
    answer = await ask(client, "refund", transactionId=spent, reason="a bad picture")
    assert 201 == answer.status_code
    made = answer.json()["transaction"]
    assert ("refunded", 15, spent, "flux", "a bad picture") == members(
        made, "kind", "amount", "refundOf", "modelId", "reason"
    )
    assert {"plan": 10, "extras": 10} == await lots(client)
    assert {"transaction", "balance"} == answer.json().keys()


async def test_a_part_goes_back_in_reverse(client):
    await grant(client, amount=10, bucket="plan", priority=1)
    await grant(client, amount=10, bucket="extras")
    spent = await deduct(client, 15)
    await do(client, "refund", transactionId=spent, amount=7)
    assert {"plan": 2, "extras": 10} == await lots(client), "extras was spent last and comes back first"
    await do(client, "refund", transactionId=spent)
    assert {"plan": 10, "extras": 10} == await lots(client)


async def test_the_sum_of_all_refunds_never_exceeds_what_was_spent(client):
    await grant(client)
    spent = await deduct(client, 40)
    await do(client, "refund", transactionId=spent, amount=30)
    problem = await is_refused(client, "refund", 422, "exceeds_transaction", transactionId=spent, amount=11)
    assert (11, 30, 10) == members(problem, "required", "refunded", "left")
    await do(client, "refund", transactionId=spent, amount=10)
    for more in ({}, {"amount": 1}):
        problem = await is_refused(client, "refund", 422, "exceeds_transaction", transactionId=spent, **more)
        assert (40, 0) == members(problem, "refunded", "left")
    assert 100 == (await sums(client))[0]


async def test_a_bucket_names_another_place(client):
    await grant(client, amount=10, bucket="plan", **LATER)
    spent = await deduct(client, 10)
    done = await do(client, "refund", transactionId=spent, bucket="goodwill")
    assert [{"bucket": "goodwill", "available": 10, "held": 0}] == done["transaction"]["legs"]


async def test_what_goes_back_into_a_lot_that_has_lapsed_lapses_at_once_as_its_own_entry(client, clock):
    await grant(client, amount=10, bucket="plan", expiresAt=iso(clock.now_ms + 60_000))
    await grant(client, amount=5)
    spent = await deduct(client, 15)
    await clock.advance(60_000)
    done = await do(client, "refund", transactionId=spent)
    assert ("refunded", 15, 10) == members(done["transaction"], "kind", "amount", "lapsed")
    assert (5, 0) == members(done["balance"], "available", "held")
    assert done["transaction"]["version"] + 1 == done["balance"]["version"], (
        "the lapse is an entry of its own"
    )


async def test_a_confirmed_transaction_is_given_back_with_what_was_charged_beyond_the_hold(client):
    await grant(client)
    held = (await reserve(client, taskId="t", modelId="flux"))["reservation"]["id"]
    confirm = {"reservationId": held, "amount": 70, "overCapture": "charge"}
    spent = (await do(client, "confirm", **confirm))["transaction"]["id"]
    done = await do(client, "refund", transactionId=spent)
    assert (70, spent, held, "t", "flux") == members(
        done["transaction"], "amount", "refundOf", "reservationId", "taskId", "modelId"
    )
    assert (100, 0) == (await sums(client))[:2]


async def test_a_reservation_is_given_back_the_latest_capture_first_an_entry_each(client):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    first = await do(client, "confirm", key="a", reservationId=held, amount=10, final=False)
    last = await do(client, "confirm", reservationId=held, amount=20)
    done = await do(client, "refund", reservationId=held, amount=25)
    assert (20, last["transaction"]["id"]) == members(done["transaction"], "amount", "refundOf")
    assert done["transaction"]["version"] + 1 == done["balance"]["version"]
    problem = await is_refused(
        client, "refund", 422, "exceeds_transaction", transactionId=first["transaction"]["id"], amount=6
    )
    assert (5, 5) == members(problem, "refunded", "left")
    await do(client, "refund", reservationId=held)
    assert (100, 0) == (await sums(client))[:2]


async def test_what_parts_have_captured_can_be_given_back_while_the_rest_is_held(client):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    await do(client, "confirm", key="a", reservationId=held, amount=10, final=False)
    assert 10 == (await do(client, "refund", reservationId=held))["transaction"]["amount"]
    assert (70, 30) == (await sums(client))[:2]


async def test_what_spent_nothing_cannot_be_given_back(client):
    granted = (await grant(client))["transaction"]["id"]
    reserved = await reserve(client)
    for named, fact in (
        ({"transactionId": granted}, ("kind", "granted")),
        ({"transactionId": reserved["transaction"]["id"]}, ("kind", "reserved")),
        ({"reservationId": reserved["reservation"]["id"]}, ("reservationStatus", "pending")),
    ):
        problem = await is_refused(client, "refund", 422, "not_refundable", **named)
        assert fact[1] == problem[fact[0]]


async def test_that_nothing_can_be_given_back_is_kept_under_its_key(client):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    first = await is_refused(client, "refund", 422, "not_refundable", key="k", reservationId=held)
    assert "kept under the key" in first["detail"]
    await do(client, "confirm", reservationId=held)
    again = await ask(client, "refund", key="k", reservationId=held)
    assert (422, "true", first) == (again.status_code, again.headers["idempotency-replayed"], again.json())
    await do(client, "refund", key="l", reservationId=held)


async def test_what_does_not_exist_is_404(client):
    granted = (await grant(client))["transaction"]["id"]
    shard, incarnation, sequence = granted.split("-")
    for named in (
        f"{shard}-{incarnation}-{int(sequence) + 7}",
        f"{shard}-{int(incarnation) + 1}-{sequence}",
        f"4095-{incarnation}-{sequence}",
    ):
        await is_refused(client, "refund", 404, "transaction_not_found", transactionId=named)
    nobodys = "01a1ffa5-4956-7003-abd8-99c175348713"
    await is_refused(client, "refund", 404, "reservation_not_found", reservationId=nobodys)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"transactionId": "0-1-1", "reservationId": "01a1ffa5-4956-7003-abd8-99c175348713"},
        {"transactionId": "0-1"},
        {"transactionId": "00-1-1"},
        {"transactionId": "0-1-0"},
        {"transactionId": "0-1-1\n"},
        {"transactionId": 5},
        {"transactionId": "0-1-1", "amount": 0},
        {"transactionId": "0-1-1", "accountId": "alice"},
        {"transactionId": "0-1-1", "bucket": "overdraft"},
    ],
)
async def test_other_shapes_are_400(client, named):
    await is_refused(client, "refund", 400, "invalid_request", **named)


async def test_under_its_key_it_is_given_back_once(client):
    await grant(client)
    spent = await deduct(client, 40)
    first = await ask(client, "refund", key="k", transactionId=spent, amount=10)
    again = await ask(client, "refund", key="k", transactionId=spent, amount=10)
    assert (201, 201, "true") == (
        first.status_code,
        again.status_code,
        again.headers.get("idempotency-replayed"),
    )
    assert first.json()["transaction"] == again.json()["transaction"]
    assert 70 == (await sums(client))[0]
    await is_refused(client, "refund", 422, "idempotency_mismatch", key="k", transactionId=spent)


async def test_a_refund_repays_debt_first(client):
    await grant(client, amount=10)
    spent = await deduct(client, 10)
    await setting(client, overdraftLimit=50)
    await deduct(client, 6)
    done = await do(client, "refund", transactionId=spent)
    assert [
        {"bucket": "default", "available": 4, "held": 0},
        {"bucket": "overdraft", "available": 6, "held": 0},
    ] == done["transaction"]["legs"]
    assert {"default": 4} == await lots(client)


async def test_to_a_key_of_one_account_what_others_have_spent_does_not_exist(client, client_of):
    await grant(client)
    spent = await deduct(client, 10)
    held = (await reserve(client))["reservation"]["id"]
    await do(client, "confirm", reservationId=held)
    await grant(client, account="bob")
    bob = await client_of("grant", account="bob")
    await is_refused(bob, "refund", 404, "transaction_not_found", transactionId=spent)
    await is_refused(bob, "refund", 404, "reservation_not_found", reservationId=held)
    alice = await client_of("grant", account="alice")
    await do(alice, "refund", transactionId=spent)
    await do(alice, "refund", reservationId=held)
    assert 100 == (await sums(client))[0]

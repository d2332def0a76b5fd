"""Settings of accounts: how far below zero, frozen, closed."""

import httpx
import pytest

from tests.http.refused import is_invalid
from tests.http.steps import (
    CREDITS,
    ask,
    balance,
    do,
    grant,
    is_refused,
    lots,
    members,
    reserve,
    setting,
    sums,
)

ALICE = f"{CREDITS}/accounts/alice"
DEFAULTS = {"overdraftLimit": 0, "status": "active", "lowBalance": 0}


async def set_(client: httpx.AsyncClient, **settings) -> httpx.Response:
    return await client.patch(ALICE, json=settings)


async def refused(client: httpx.AsyncClient, code: str, **settings) -> dict:
    answer = await set_(client, **settings)
    assert (409, code) == (answer.status_code, answer.json()["code"]), answer.text
    return answer.json()


async def transactions(client: httpx.AsyncClient) -> int:
    return (await balance(client))["version"]


async def test_settings_are_shown_beside_what_the_account_has(client):
    await grant(client)
    await reserve(client)
    shown = await client.get(ALICE)
    assert 200 == shown.status_code
    assert {"accountId": "alice", "available": 60, "held": 40, "version": 2, **DEFAULTS} == shown.json()
    assert "no-store" == shown.headers["cache-control"]


async def test_an_account_that_does_not_exist_is_404(client):
    answer = await client.get(ALICE)
    assert (404, "account_not_found") == (answer.status_code, answer.json()["code"])


async def test_a_patch_changes_what_it_names_and_leaves_the_rest(client):
    await grant(client)
    first = await setting(client, overdraftLimit=50, lowBalance=10)
    assert (50, "active", 10, 2) == members(first, "overdraftLimit", "status", "lowBalance", "version")
    made = first["transaction"]
    assert ("configured", 0, [], 50, 10, None, "key:all") == members(
        made, "kind", "amount", "legs", "overdraftLimit", "lowBalance", "status", "by"
    )
    second = await setting(client, status="frozen")
    assert (50, "frozen", 10) == members(second, "overdraftLimit", "status", "lowBalance")
    shown = (await client.get(ALICE)).json()
    assert shown == {name: value for name, value in second.items() if name != "transaction"}
    now = await balance(client)
    assert (50, "frozen") == members(now, "overdraftLimit", "status")


async def test_a_patch_that_changes_nothing_makes_no_entry(client):
    await grant(client)
    await setting(client, overdraftLimit=50)
    for settings in (
        {},
        {"overdraftLimit": 50},
        {"status": "active"},
        {"lowBalance": 0},
        DEFAULTS | {"overdraftLimit": 50},
    ):
        unchanged = await setting(client, **settings)
        assert "transaction" not in unchanged
        assert (50, 2) == members(unchanged, "overdraftLimit", "version")
    partly = await setting(client, overdraftLimit=50, lowBalance=3)
    assert (None, 3) == members(partly["transaction"], "overdraftLimit", "lowBalance")


async def test_a_patch_opens_an_unknown_account(client):
    opened = await setting(client, overdraftLimit=50)
    assert (0, 1) == members(opened, "available", "version")
    assert "configured" == opened["transaction"]["kind"]
    await do(client, "deduct", accountId="alice", amount=50)


async def test_a_deduct_draws_on_the_overdraft_and_debt_stands_in_its_bucket(client):
    await grant(client, amount=10)
    await setting(client, overdraftLimit=20)
    done = await do(client, "deduct", accountId="alice", amount=25)
    assert [
        {"bucket": "default", "available": -10, "held": 0},
        {"bucket": "overdraft", "available": -15, "held": 0},
    ] == done["transaction"]["legs"]
    assert -15 == done["balance"]["available"]
    assert {"default": 0, "overdraft": -15} == await lots(client)
    problem = await is_refused(client, "deduct", 402, "insufficient_credits", accountId="alice", amount=6)
    assert (6, -15, 0) == members(problem, "required", "available", "held")


async def test_reservations_never_draw_on_the_overdraft(client):
    await grant(client, amount=10)
    await setting(client, overdraftLimit=20)
    await is_refused(client, "reserve", 402, "insufficient_credits", accountId="alice", amount=11)


async def test_credits_are_held_where_overdraft_and_holds_together_would_suffice(client):
    await grant(client, amount=10)
    await setting(client, overdraftLimit=20)
    await reserve(client, amount=8)
    problem = await is_refused(client, "deduct", 402, "credits_held", accountId="alice", amount=30)
    assert (30, 2, 8) == members(problem, "required", "available", "held")
    await is_refused(client, "deduct", 402, "insufficient_credits", accountId="alice", amount=31)
    await is_refused(client, "reserve", 402, "credits_held", accountId="alice", amount=10)


async def test_a_grant_repays_debt_first_as_a_leg_of_the_same_entry(client):
    await setting(client, overdraftLimit=50)
    await do(client, "deduct", accountId="alice", amount=30)
    part = await grant(client, amount=20)
    assert [{"bucket": "overdraft", "available": 20, "held": 0}] == part["transaction"]["legs"]
    whole = await grant(client, amount=25)
    assert [
        {"bucket": "default", "available": 15, "held": 0},
        {"bucket": "overdraft", "available": 10, "held": 0},
    ] == whole["transaction"]["legs"]
    assert {"default": 15} == await lots(client)


async def test_what_a_reservation_releases_repays_debt_first(client):
    await grant(client, amount=10)
    await setting(client, overdraftLimit=50)
    held = (await reserve(client, amount=10))["reservation"]["id"]
    await do(client, "deduct", accountId="alice", amount=4)
    done = await do(client, "cancel", reservationId=held)
    assert ("cancelled", 10) == members(done["transaction"], "kind", "amount")
    assert {"default": 6} == await lots(client)


async def test_the_limit_never_becomes_less_than_the_debt(client):
    await setting(client, overdraftLimit=50)
    await do(client, "deduct", accountId="alice", amount=30)
    assert 30 == (await refused(client, "overdraft_in_use", overdraftLimit=29))["debt"]
    assert 30 == (await setting(client, overdraftLimit=30))["overdraftLimit"]


async def test_a_frozen_account_takes_no_deduct_reserve_extend_and_charge(client):
    await grant(client)
    held = (await reserve(client, amount=10))["reservation"]["id"]
    await setting(client, status="frozen")
    for verb, body in (
        ("deduct", {"accountId": "alice", "amount": 1}),
        ("reserve", {"accountId": "alice", "amount": 1}),
        ("extend", {"reservationId": held, "ttlSeconds": 86_400}),
        ("confirm", {"reservationId": held, "amount": 11, "overCapture": "charge"}),
    ):
        problem = await is_refused(client, verb, 409, "account_frozen", **body)
        assert "active" in problem["detail"]
    assert (90, 10, 3) == await sums(client)


async def test_a_frozen_account_takes_no_late_confirm(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60, onExpired="charge"))["reservation"]["id"]
    await setting(client, status="frozen")
    await clock.advance(61_000)
    await is_refused(client, "confirm", 409, "account_frozen", reservationId=held)
    await setting(client, status="active")
    await do(client, "confirm", reservationId=held)


async def test_grant_refund_adjust_confirm_and_cancel_pass_on_a_frozen_account(client):
    await grant(client)
    spent = (await do(client, "deduct", accountId="alice", amount=5))["transaction"]["id"]
    first, second = [(await reserve(client, amount=10))["reservation"]["id"] for _ in range(2)]
    await setting(client, status="frozen")
    await grant(client, amount=1)
    await do(client, "refund", transactionId=spent)
    await do(client, "adjust", accountId="alice", amount=-1, reason="a test")
    await do(client, "confirm", reservationId=first)
    await do(client, "cancel", reservationId=second)
    await setting(client, status="active")
    await do(client, "deduct", accountId="alice", amount=90)


async def test_only_an_empty_account_can_be_closed(client):
    await grant(client, amount=10)
    held = (await reserve(client, amount=10))["reservation"]["id"]
    assert (0, 10) == members(
        await refused(client, "account_not_empty", status="closed"), "available", "held"
    )
    await do(client, "cancel", reservationId=held)
    assert (10, 0) == members(
        await refused(client, "account_not_empty", status="closed"), "available", "held"
    )
    await do(client, "deduct", accountId="alice", amount=10)
    assert "closed" == (await setting(client, status="closed"))["status"]


async def test_a_debt_keeps_an_account_open(client):
    await setting(client, overdraftLimit=10)
    await do(client, "deduct", accountId="alice", amount=10)
    assert -10 == (await refused(client, "account_not_empty", status="closed"))["available"]


async def test_a_closed_account_takes_nothing_until_it_is_active(client):
    await grant(client, amount=10)
    spent = (await do(client, "deduct", accountId="alice", amount=10))["transaction"]["id"]
    await setting(client, status="closed")
    for verb, body in (
        ("grant", {"accountId": "alice", "amount": 1}),
        ("deduct", {"accountId": "alice", "amount": 1}),
        ("reserve", {"accountId": "alice", "amount": 1}),
        ("refund", {"transactionId": spent}),
        ("adjust", {"accountId": "alice", "amount": 1, "reason": "a test"}),
    ):
        await is_refused(client, verb, 409, "account_closed", **body)
    await refused(client, "account_closed", overdraftLimit=5)
    assert (0, 0, 3) == await sums(client)
    await setting(client, status="active")
    await grant(client)


async def test_what_a_closed_account_had_answered_it_answers_again(client):
    await grant(client, amount=10)
    spent = {"accountId": "alice", "amount": 10}
    first = await do(client, "deduct", key="k", **spent)
    await setting(client, status="closed")
    again = await ask(client, "deduct", key="k", **spent)
    assert (201, "true", first["transaction"]) == (
        again.status_code,
        again.headers["idempotency-replayed"],
        again.json()["transaction"],
    )


async def test_a_patch_may_wait_for_the_journal(client, journal):
    answer = await client.patch(ALICE, json={"lowBalance": 5}, headers={"lastro-ack": "journaled"})
    assert (200, "true") == (answer.status_code, answer.headers["lastro-journaled"])


WRONG = [
    {"overdraftLimit": -1}, {"overdraftLimit": 2**53}, {"overdraftLimit": 1.0}, {"overdraftLimit": "5"},
    {"overdraftLimit": True}, {"overdraftLimit": None}, {"lowBalance": -1}, {"lowBalance": 2**53},
    {"lowBalance": 0.5}, {"lowBalance": None}, {"lowBalance": [1]}, {"status": "dead"}, {"status": None},
    {"status": 1}, {"status": ""}, {"overdraft_limit": 5}, {"available": 5}, {"reason": "why"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
async def test_other_shapes_are_400(client, wrong):
    answer = await set_(client, **wrong)
    assert is_invalid(answer)
    assert next(iter(wrong)) in answer.json()["detail"]


async def test_ids_that_are_none_are_400(client):
    for account in ("a%20b", "a~b", "%C3%A4", "a" * 129, "a%0A"):
        for answer in (
            await client.get(f"{CREDITS}/accounts/{account}"),
            await client.patch(f"{CREDITS}/accounts/{account}", json={}),
        ):
            assert is_invalid(answer), account
            assert "(?!" not in answer.json()["detail"]
            assert "accountId" == answer.json()["field"]


async def test_the_largest_settings_are_kept_exactly(client):
    largest = 2**53 - 1
    shown = await setting(client, overdraftLimit=largest, lowBalance=largest)
    assert (largest, largest) == members(shown, "overdraftLimit", "lowBalance")
    assert -largest == (await do(client, "deduct", accountId="alice", amount=largest))["balance"]["available"]


async def test_a_key_of_one_account_sees_and_sets_its_own_only(client, client_of):
    await grant(client)
    bob = await client_of("operate", account="bob")
    for answer in (await bob.get(ALICE), await bob.patch(ALICE, json={"status": "frozen"})):
        assert (403, "forbidden") == (answer.status_code, answer.json()["code"])
    assert 200 == (await bob.patch(f"{CREDITS}/accounts/bob", json={"lowBalance": 1})).status_code
    assert 200 == (await bob.get(f"{CREDITS}/accounts/bob")).status_code

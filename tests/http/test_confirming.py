"""Confirm for more than is held, in parts, and too late: what the policies decide."""

import pytest

from tests.http.steps import ask, balance, do, find, grant, is_refused, members, reserve, setting, sums

DAY_MS = 86_400_000
SPENT = ("status", "captured", "charged", "released", "held")


@pytest.fixture
async def held(client) -> str:
    """40 of 100 credits, without a policy."""
    await grant(client)
    return (await reserve(client))["reservation"]["id"]


async def test_more_than_is_held_is_rejected_and_the_reservation_stays_pending(client, held):
    problem = await is_refused(client, "confirm", 422, "exceeds_reservation", reservationId=held, amount=41)
    assert (41, 40) == members(problem, "required", "held")
    assert "overCapture" in problem["detail"]
    assert ("pending", 0, 0, 0, 40) == members(await find(client, held), *SPENT)
    assert (60, 40, 2) == await sums(client)


async def test_cap_takes_what_is_held(client, held):
    answer = await ask(client, "confirm", reservationId=held, amount=41, overCapture="cap")
    assert ("confirmed", 40, 0, 0, 0) == members(answer.json()["reservation"], *SPENT)
    assert 40 == answer.json()["transaction"]["amount"]
    assert "lastro-conflict" not in answer.headers, "it repeats nothing"


async def test_charge_takes_the_rest_from_what_is_available(client, held):
    done = await do(client, "confirm", reservationId=held, amount=90, overCapture="charge")
    assert ("confirmed", 40, 50, 0, 0) == members(done["reservation"], *SPENT)
    assert 90 == done["transaction"]["amount"]
    assert (10, 0, 3) == await sums(client)


async def test_a_charge_that_is_not_covered_changes_nothing(client, held):
    problem = await is_refused(
        client, "confirm", 402, "insufficient_credits", reservationId=held, amount=101, overCapture="charge"
    )
    assert (61, 60, 0) == members(problem, "required", "available", "held"), "its own hold is not spoken of"
    assert ("pending", 0, 0, 0, 40) == members(await find(client, held), *SPENT)
    assert (60, 40, 2) == await sums(client)
    await reserve(client, amount=30)
    await is_refused(
        client, "confirm", 402, "credits_held", reservationId=held, amount=80, overCapture="charge"
    )


async def test_the_policy_of_the_reservation_is_used_by_a_confirm_that_names_none(client):
    await grant(client)
    capped = (await reserve(client, amount=10, overCapture="cap"))["reservation"]
    assert ("cap", "reject") == members(capped, "overCapture", "onExpired")
    assert 10 == (await do(client, "confirm", reservationId=capped["id"], amount=15))["transaction"]["amount"]


async def test_the_policy_of_the_confirm_comes_before_that_of_the_reservation(client):
    await grant(client)
    capped = (await reserve(client, amount=10, overCapture="cap"))["reservation"]["id"]
    await is_refused(
        client, "confirm", 422, "exceeds_reservation", reservationId=capped, amount=15, overCapture="reject"
    )
    charged = await do(client, "confirm", reservationId=capped, amount=15, overCapture="charge")
    assert (10, 5) == members(charged["reservation"], "captured", "charged")


async def test_a_part_is_captured_and_the_rest_stays_held(client, held):
    done = await do(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    assert ("pending", 15, 0, 0, 25) == members(done["reservation"], *SPENT)
    assert ("confirmed", 15) == members(done["transaction"], "kind", "amount")
    assert [{"bucket": "default", "available": 0, "held": -15}] == done["transaction"]["legs"]
    assert (60, 25, 3) == await sums(client)
    final = await do(client, "confirm", key="b", reservationId=held, amount=20)
    assert ("confirmed", 35, 0, 5, 0) == members(final["reservation"], *SPENT)


async def test_when_nothing_is_held_any_more_a_reservation_is_confirmed_also_after_a_part(client, held):
    await do(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    done = await do(client, "confirm", key="b", reservationId=held, amount=25, final=False)
    assert ("confirmed", 40, 0, 0, 0) == members(done["reservation"], *SPENT)
    assert done["transaction"]["at"] == done["reservation"]["settledAt"]


async def test_a_part_that_names_no_amount_is_all_that_is_held(client, held):
    done = await do(client, "confirm", key="a", reservationId=held, final=False)
    assert ("confirmed", 40, 0, 0, 0) == members(done["reservation"], *SPENT)


async def test_a_part_needs_a_key_and_that_is_told_before_whether_there_is_such_a_reservation(client, held):
    nobodys = held[:-4] + "0000"
    for named in ({"reservationId": held}, {"reservationId": nobodys}, {"taskId": "nobody's"}):
        problem = await is_refused(
            client, "confirm", 422, "idempotency_key_required", **named, amount=1, final=False
        )
        assert "Idempotency-Key" in problem["detail"]
        assert "kept under the key" not in problem["detail"]


async def test_a_part_of_nothing_is_of_the_wrong_shape(client, held):
    await is_refused(
        client, "confirm", 400, "invalid_request", key="a", reservationId=held, amount=0, final=False
    )


async def test_a_part_under_its_key_is_captured_once(client, held):
    first = await ask(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    again = await ask(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    assert (200, 200) == (first.status_code, again.status_code)
    assert first.json()["transaction"] == again.json()["transaction"]
    assert "true" == again.headers["idempotency-replayed"]
    assert (60, 25, 3) == await sums(client)
    for other in ({"amount": 16, "final": False}, {"amount": 15}, {"amount": 15, "final": True}):
        await is_refused(client, "confirm", 422, "idempotency_mismatch", key="a", reservationId=held, **other)


async def test_a_part_is_answered_again_after_the_reservation_has_ended(client, held):
    first = await do(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    await do(client, "cancel", reservationId=held)
    again = await ask(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    assert (200, "true") == (again.status_code, again.headers["idempotency-replayed"])
    assert first["transaction"] == again.json()["transaction"]
    assert "cancelled" == again.json()["reservation"]["status"], "the reservation shows the present"


async def test_parts_captured_and_then_cancelled_are_cancelled_and_what_was_captured_stays(client, held):
    await do(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    done = await do(client, "cancel", reservationId=held)
    assert ("cancelled", 15, 0, 25, 0) == members(done["reservation"], *SPENT)
    assert 25 == done["transaction"]["amount"], "what was released"
    assert (85, 0, 4) == await sums(client)


async def test_parts_captured_and_then_expired_are_cancelled_and_what_was_captured_stays(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60))["reservation"]["id"]
    await do(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    await clock.advance(60_000)
    expired = await find(client, held)
    assert ("cancelled", 15, 0, 25, 0) == members(expired, *SPENT)
    assert "expired" == expired["cancelCause"]


async def test_no_more_than_a_hundred_parts_can_be_captured(client):
    await grant(client, amount=1000)
    held = (await reserve(client, amount=500))["reservation"]["id"]
    for number in range(100):
        await do(client, "confirm", key=f"k{number}", reservationId=held, amount=1, final=False)
    part = {"reservationId": held, "amount": 1, "final": False}
    problem = await is_refused(client, "confirm", 422, "limit_reached", key="one more", **part)
    assert ("parts", 100) == members(problem, "what", "limit")
    await do(client, "confirm", key="the rest", reservationId=held)


async def test_after_the_deadline_reject_says_when_it_expired(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60))["reservation"]
    await clock.advance(60_000)
    problem = await is_refused(client, "confirm", 410, "reservation_expired", reservationId=held["id"])
    assert held["expiresAt"] == problem["at"]
    assert (100, 0) == (await sums(client))[:2]


async def test_after_the_deadline_charge_takes_from_what_is_available_and_ends_as_confirmed(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60, onExpired="charge"))["reservation"]["id"]
    await clock.advance(61_000)
    done = await do(client, "confirm", reservationId=held)
    assert ("confirmed", 0, 40, 40, 0) == members(done["reservation"], *SPENT)
    assert (True, None) == members(done["reservation"], "late", "cancelCause")
    assert ("confirmed", 40, True) == members(done["transaction"], "kind", "amount", "late")
    assert (60, 0) == (await sums(client))[:2]
    assert "late" not in (await reserve(client))["transaction"]


async def test_a_late_confirm_is_answered_again_and_another_amount_is_a_conflict(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60, onExpired="charge"))["reservation"]["id"]
    await clock.advance(61_000)
    first = await ask(client, "confirm", reservationId=held, amount=30)
    for amount, conflict in ((None, None), (30, None), (40, "amount")):
        named = {} if amount is None else {"amount": amount}
        again = await ask(client, "confirm", reservationId=held, **named)
        assert (200, conflict) == (again.status_code, again.headers.get("lastro-conflict")), amount
        assert first.json()["transaction"] == again.json()["transaction"]


async def test_a_late_confirm_may_take_more_than_was_reserved_only_as_the_policy_says(client, clock):
    await grant(client)
    policies = {"ttlSeconds": 60, "onExpired": "charge"}
    held = [(await reserve(client, amount=10, **policies))["reservation"]["id"] for _ in range(3)]
    await clock.advance(61_000)
    problem = await is_refused(
        client, "confirm", 422, "exceeds_reservation", reservationId=held[0], amount=11
    )
    assert 10 == problem["held"], "what the expiry released"
    capped = await do(client, "confirm", reservationId=held[1], amount=11, overCapture="cap")
    assert 10 == capped["transaction"]["amount"]
    charged = await do(client, "confirm", reservationId=held[2], amount=11, overCapture="charge")
    assert 11 == charged["transaction"]["amount"]


async def test_a_late_confirm_that_is_not_covered_is_402_and_may_come_again(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60, onExpired="charge"))["reservation"]["id"]
    await clock.advance(61_000)
    await do(client, "deduct", accountId="alice", amount=80)
    problem = await is_refused(client, "confirm", 402, "insufficient_credits", reservationId=held)
    assert (40, 20, 0) == members(problem, "required", "available", "held")
    assert "expired" == (await find(client, held))["cancelCause"]
    await grant(client, amount=20)
    assert 0 == (await do(client, "confirm", reservationId=held))["balance"]["available"]


async def test_the_confirm_may_itself_say_that_it_charges_when_it_is_late(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60))["reservation"]["id"]
    await clock.advance(61_000)
    assert (await do(client, "confirm", reservationId=held, onExpired="charge"))["reservation"]["late"]


async def test_of_what_was_cancelled_there_is_no_late_confirm(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60, onExpired="charge"))["reservation"]["id"]
    await do(client, "cancel", reservationId=held)
    await clock.advance(61_000)
    await is_refused(client, "confirm", 409, "reservation_cancelled", reservationId=held)


async def test_a_late_confirm_is_possible_for_a_day_and_then_no_more(client, clock, journal):
    await grant(client)
    policies = {"ttlSeconds": 60, "onExpired": "charge"}
    held = [(await reserve(client, amount=10, **policies))["reservation"]["id"] for _ in range(2)]
    await client.post(
        "/api/credits/deduct", json={"accountId": "alice", "amount": 1}, headers={"lastro-ack": "journaled"}
    )
    await clock.advance(60_000 + DAY_MS)
    await do(client, "confirm", reservationId=held[0])
    await clock.advance(1)
    await is_refused(client, "confirm", 410, "reservation_expired", reservationId=held[1])


async def test_a_task_confirms_as_its_reservation_says(client):
    await grant(client)
    await reserve(client, amount=10, taskId="t", provider="fal", overCapture="charge")
    done = await do(client, "confirm", taskId="t", provider="fal", amount=12)
    assert (10, 2) == members(done["reservation"], "captured", "charged")


async def test_a_foreign_account_on_confirm_cancel_and_extend_is_404(client, held):
    for verb, more in (("confirm", {}), ("cancel", {}), ("extend", {"ttlSeconds": 60})):
        foreign = {"reservationId": held, "accountId": "bob", **more}
        await is_refused(client, verb, 404, "reservation_not_found", **foreign)


async def test_under_the_same_key_there_is_no_conflict_with_what_the_policy_decided(client, held):
    capped = {"reservationId": held, "amount": 50, "overCapture": "cap"}
    for replayed in (None, "true"):
        answer = await ask(client, "confirm", key="k", **capped)
        assert (40, replayed) == (
            answer.json()["transaction"]["amount"],
            answer.headers.get("idempotency-replayed"),
        )
        assert "lastro-conflict" not in answer.headers


async def test_after_parts_another_amount_than_the_last_one_is_a_conflict(client, held):
    await do(client, "confirm", key="a", reservationId=held, amount=15, final=False)
    await do(client, "confirm", reservationId=held, amount=20)
    for amount, conflict in ((20, None), (35, "amount"), (15, "amount")):
        answer = await ask(client, "confirm", reservationId=held, amount=amount)
        assert conflict == answer.headers.get("lastro-conflict"), amount


async def test_a_charge_may_draw_on_the_overdraft_as_a_deduct_does(client, held):
    await setting(client, overdraftLimit=10)
    done = await do(client, "confirm", reservationId=held, amount=105, overCapture="charge")
    assert (40, 65) == members(done["reservation"], "captured", "charged")
    now = await balance(client)
    assert (-5, 10) == members(now, "available", "overdraftLimit")
    assert "overdraft" in {lot["bucket"] for lot in now["buckets"]}

"""Adjust: an operator puts a balance right, and says why. And what a grant moves along."""

import pytest

from tests.http.steps import ask, do, grant, is_refused, lots, members, reserve, setting, sums

WHY = {"accountId": "alice", "reason": "counted again"}


async def test_what_is_added_goes_to_the_default_bucket_or_the_one_that_is_named(client):
    await grant(client, bucket="plan")
    answer = await ask(client, "adjust", amount=5, **WHY)
    assert 201 == answer.status_code
    assert {"transaction", "balance", "shortfall"} == answer.json().keys()
    assert ("adjusted", 5, "counted again") == members(
        answer.json()["transaction"], "kind", "amount", "reason"
    )
    assert 0 == answer.json()["shortfall"]
    await do(client, "adjust", amount=7, bucket="plan", **WHY)
    assert {"default": 5, "plan": 107} == await lots(client)


async def test_what_is_taken_is_taken_in_spending_order_or_from_the_bucket_that_is_named(client):
    await grant(client, amount=10, bucket="plan", priority=1)
    await grant(client, amount=10)
    done = await do(client, "adjust", amount=-12, **WHY)
    assert -12 == done["transaction"]["amount"], "signed"
    assert {"plan": 0, "default": 8} == await lots(client)
    await do(client, "adjust", amount=-3, bucket="default", **WHY)
    assert 5 == (await lots(client))["default"]


async def test_more_than_there_is_is_rejected_with_the_facts_of_funds(client):
    await grant(client, amount=10)
    problem = await is_refused(client, "adjust", 402, "insufficient_credits", amount=-11, **WHY)
    assert (11, 10, 0) == members(problem, "required", "available", "held")
    await reserve(client, amount=6)
    problem = await is_refused(client, "adjust", 402, "credits_held", amount=-10, **WHY)
    assert (10, 4, 6, 1) == members(problem, "required", "available", "held", "openReservations")
    assert (4, 6, 2) == await sums(client)


async def test_take_takes_what_there_is_and_says_how_much_was_missing(client):
    await grant(client, amount=10)
    done = await do(client, "adjust", amount=-25, short="take", **WHY)
    assert (-10, 15) == members(done["transaction"], "amount", "shortfall")
    assert (15, 0) == (done["shortfall"], done["balance"]["available"])
    again = await do(client, "adjust", amount=-1, short="take", **WHY)
    assert (0, 1) == (again["transaction"]["amount"], again["shortfall"])


async def test_take_of_a_bucket_leaves_the_others_alone(client):
    await grant(client, amount=10, bucket="plan")
    await grant(client, amount=10)
    await is_refused(client, "adjust", 402, "insufficient_credits", amount=-11, bucket="plan", **WHY)
    done = await do(client, "adjust", amount=-11, bucket="plan", short="take", **WHY)
    assert (1, {"plan": 0, "default": 10}) == (done["shortfall"], await lots(client))


async def test_what_is_taken_may_go_into_the_overdraft_and_no_further(client):
    await grant(client, amount=10)
    await setting(client, overdraftLimit=5)
    await is_refused(client, "adjust", 402, "insufficient_credits", amount=-16, **WHY)
    done = await do(client, "adjust", amount=-16, short="take", **WHY)
    assert (-15, 1, -5) == (
        done["transaction"]["amount"],
        done["shortfall"],
        done["balance"]["available"],
    )


async def test_an_account_that_does_not_exist_is_not_opened_by_it(client):
    await is_refused(client, "adjust", 404, "account_not_found", amount=5, **WHY)


async def test_under_its_key_an_adjustment_is_made_once(client):
    await grant(client, amount=10)
    first = await ask(client, "adjust", key="k", amount=-25, short="take", **WHY)
    again = await ask(client, "adjust", key="k", amount=-25, short="take", **WHY)
    assert (201, "true", 15) == (
        again.status_code,
        again.headers["idempotency-replayed"],
        again.json()["shortfall"],
    )
    assert first.json()["transaction"] == again.json()["transaction"]
    await is_refused(client, "adjust", 422, "idempotency_mismatch", key="k", amount=-25, **WHY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": -(2**53)},
        {"amount": 2**53},
        {"amount": 1.0},
        {"amount": "5"},
        {"amount": True},
        {"amount": None},
        {"reason": ""},
        {"reason": None},
        {"reason": "r" * 501},
        {"short": "skip"},
        {"short": None},
        {"bucket": "overdraft"},
        {"bucket": None},
        {"metadata": {"a": "b"}},
        {"units": 1},
    ],
)
async def test_other_shapes_are_400(client, wrong):
    await is_refused(client, "adjust", 400, "invalid_request", **({"amount": 5} | WHY | wrong))


async def test_a_reason_is_required(client):
    await is_refused(client, "adjust", 400, "invalid_request", accountId="alice", amount=5)


NEXT, AFTER = "2100-01-01T00:00:00.000Z", "2100-02-01T00:00:00.000Z"


async def test_rollover_takes_some_of_the_old_plan_along_in_the_same_entry(client):
    await grant(client, amount=30, bucket="plan", expiresAt=NEXT)
    done = await grant(client, amount=100, bucket="plan", expiresAt=AFTER, rollover=20)
    made = done["transaction"]
    assert ("granted", 100, 20, 2) == members(made, "kind", "amount", "rollover", "version")
    assert [
        {"bucket": "plan", "expiresAt": NEXT, "available": -20, "held": 0},
        {"bucket": "plan", "expiresAt": AFTER, "available": 120, "held": 0},
    ] == made["legs"]
    assert {NEXT: 10, AFTER: 120} == {
        lot["expiresAt"]: lot["available"] for lot in done["balance"]["buckets"]
    }


async def test_rollover_takes_nothing_of_other_buckets_of_later_lots_and_of_what_is_held(client):
    await grant(client, amount=7, bucket="other", expiresAt=NEXT)
    await grant(client, amount=7, bucket="plan")
    await grant(client, amount=30, bucket="plan", expiresAt=NEXT)
    await do(client, "reserve", accountId="alice", amount=30)
    done = await grant(client, amount=100, bucket="plan", expiresAt=AFTER, rollover=50)
    assert 7 == done["transaction"]["rollover"]
    now = [members(lot, "bucket", "expiresAt", "available") for lot in done["balance"]["buckets"]]
    assert ("plan", None, 7) in now, "what never lapses stays where it is"
    assert ("plan", AFTER, 107) in now
    assert ("other", NEXT, 0) in now


async def test_a_grant_that_moves_nothing_along_does_not_speak_of_it(client):
    assert "rollover" not in (await grant(client, rollover=5))["transaction"]


async def test_a_rollover_of_nothing_is_the_same_request_as_none(client):
    grant_ = {"accountId": "alice", "amount": 5}
    first = await ask(client, "grant", key="k", **grant_)
    again = await ask(client, "grant", key="k", rollover=0, **grant_)
    assert first.json()["transaction"] == again.json()["transaction"]
    await is_refused(client, "grant", 422, "idempotency_mismatch", key="k", rollover=1, **grant_)

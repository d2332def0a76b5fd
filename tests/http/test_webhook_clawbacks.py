"""Payments of Stripe that go back: each share is taken back once, in any order."""

import asyncio
import random
from itertools import permutations

import pytest

from app.settings import Settings
from app.webhooks.inbox import Granted
from app.webhooks.settling import OURS
from persistence.inbox.retrying import retry_slice
from tests.http.doors import deliver, inbox, with_doors
from tests.http.payments import checkout, disputed, pay, refunded
from tests.http.steps import members, setting, sums
from tests.http.test_webhook_waiting import dies


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings, webhook_stripe_clawback="on")


async def test_what_goes_back_in_steps_and_in_any_order_takes_each_share_once(client, stranger):
    """333 and 666 and 999 coins of 999, for 100 credits: 33, 33 and 34 of them."""
    for number, order in enumerate(permutations([(0, 333), (333, 666), (666, 999)])):
        account, payment = f"user-{number}", f"pi_{number}"
        await pay(stranger, checkout("100", payment, client_reference_id=account))
        left = 100
        for before, after in order:
            step = refunded(before, after, payment=payment)
            assert "verified" == await pay(stranger, step)
            assert "duplicate" == await pay(stranger, step)
            left -= 100 * after // 999 - 100 * before // 999
            assert left == (await sums(client, account))[0]
        assert 0 == left


async def test_what_is_not_there_any_more_cannot_be_taken_and_is_said(client, stranger):
    await pay(stranger, checkout())
    await client.post("/api/credits/deduct", json={"accountId": "alice", "amount": 80})
    assert "verified" == await pay(stranger, refunded(0, 999))
    assert (0, 0) == (await sums(client))[:2]
    row = (await inbox(client))[0]
    assert ("80 credits were not there any more", -20) == members(row, "why", "amount")


async def test_a_dispute_takes_all_of_it_back(client, stranger):
    await pay(stranger, checkout())
    assert "verified" == await pay(stranger, disputed())
    assert (0, 0) == (await sums(client))[:2]


async def test_a_refund_and_a_dispute_take_no_more_than_the_payment_gave(client, stranger):
    """In both orders, also where a part of it had been spent; what was bought otherwise stays."""
    for account, refund_first in (("one", True), ("two", False)):
        payment = f"pi_{account}"
        await pay(stranger, checkout("100", payment, client_reference_id=account))
        await client.post("/api/credits/deduct", json={"accountId": account, "amount": 90})
        steps = [refunded(0, 333, payment=payment), disputed(payment)]
        for step in steps if refund_first else reversed(steps):
            assert "verified" == await pay(stranger, step)
        assert 0 == (await sums(client, account))[0]
        await pay(stranger, checkout("50", f"pi_new_{account}", client_reference_id=account))
        for before, after in ((333, 666), (666, 999)):
            assert "verified" == await pay(stranger, refunded(before, after, payment=payment))
        assert 50 == (await sums(client, account))[0]


async def test_two_that_go_back_at_the_same_moment_take_no_more_than_the_payment_gave(
    client, stranger, app, monkeypatch
):
    """Both know of the payment, and neither of the other."""
    await pay(stranger, checkout())
    await pay(stranger, checkout("500", "pi_other"))
    inbox_of, both = app.state.parts.receiving.inbox, asyncio.Barrier(2)
    granted = inbox_of.granted

    async def at_once(keys: tuple[str, ...]) -> Granted | None:
        found = await granted(keys)
        await both.wait()
        return found

    monkeypatch.setattr(inbox_of, "granted", at_once)
    async with asyncio.timeout(10):
        assert ["verified", "verified"] == await asyncio.gather(
            pay(stranger, refunded(0, 600)), pay(stranger, disputed())
        )
    assert 500 == (await sums(client))[0]


async def test_one_that_went_back_and_was_not_noted_counts_for_the_next(client, stranger, app, monkeypatch):
    await pay(stranger, checkout())
    await pay(stranger, checkout("500", "pi_other"))
    with monkeypatch.context() as crash:
        crash.setattr(app.state.parts.receiving.inbox, "settle", dies)
        assert 500 == (await deliver(stranger, "stripe", refunded(0, 600))).status_code
    assert 600 - 60 == (await sums(client))[0]
    assert ["verified"] * 2 == [await pay(stranger, each) for each in (disputed(), refunded(0, 600))]
    assert 500 == (await sums(client))[0]
    assert [-60, -40] == [row["amount"] for row in await inbox(client)][1::-1]


async def test_what_the_ledger_refuses_to_take_back_is_kept_for_the_replay(client, stranger):
    await pay(stranger, checkout())
    await client.post("/api/credits/deduct", json={"accountId": "alice", "amount": 100})
    await setting(client, status="closed")
    assert ["refused", "refused"] == [await pay(stranger, each) for each in (refunded(0, 333), disputed())]
    await setting(client, status="active")
    await pay(stranger, checkout("500", "pi_other"))
    for row in await inbox(client, status="refused"):
        answer = await client.post(f"/api/credits/webhooks/{row['id']}/replay")
        assert "verified" == answer.json()["status"]
    assert 400 == (await sums(client))[0]


async def test_nobody_uses_up_the_key_of_what_is_taken_back(client, stranger):
    await pay(stranger, checkout())
    for key in ("stripe:pi_1 charge.refunded 999", "stripe:pi_1.charge.refunded 999"):
        body = {"accountId": "alice", "amount": 1}
        await client.post("/api/credits/deduct", json=body, headers={"idempotency-key": key})
    answer = await client.post(
        "/api/credits/deduct",
        json={"accountId": "alice", "amount": 1},
        headers={"idempotency-key": f"stripe:pi_1{OURS}charge.refunded 999".encode()},
    )
    assert 400 == answer.status_code
    assert "verified" == await pay(stranger, refunded(0, 999))
    assert 0 == (await sums(client))[0]


async def test_a_refund_that_comes_before_its_payment_waits_for_it(client, stranger, app, database):
    assert "waiting" == await pay(stranger, refunded(0, 999))
    parts = app.state.parts
    assert 0 == await retry_slice(database, parts.ledger, parts.receiving._rules, 5.0)
    await pay(stranger, checkout("100", "pi_other"))
    assert 0 == await retry_slice(database, parts.ledger, parts.receiving._rules, 5.0)
    await pay(stranger, checkout())
    assert 1 == await retry_slice(database, parts.ledger, parts.receiving._rules, 5.0)
    assert (100, 0) == (await sums(client))[:2]


async def test_nothing_is_taken_back_unless_it_is_wanted(client, stranger, app):
    receiving = app.state.parts.receiving
    receiving._rules = type(receiving._rules)({})
    await pay(stranger, checkout())
    assert "refused" == await pay(stranger, refunded(0, 999))
    assert (100, 0) == (await sums(client))[:2]
    (row,) = await inbox(client, status="refused")
    assert ("alice", True) == (row["accountId"], "LASTRO_WEBHOOK_STRIPE_CLAWBACK is off" in row["why"])
    receiving._rules = type(receiving._rules)({}, takes_back=True)
    answer = await client.post(f"/api/credits/webhooks/{row['id']}/replay")
    assert ("verified", -100) == members(answer.json(), "status", "amount")


async def test_shares_of_any_sizes_add_up_to_the_grant(client, stranger):
    chance = random.Random(7)
    for number in range(5):
        account, payment, total = f"any-{number}", f"pi_any_{number}", chance.randrange(1, 5_000)
        credits_ = chance.randrange(1, 10_000)
        await pay(stranger, checkout(str(credits_), payment, client_reference_id=account))
        steps = sorted({chance.randrange(1, total + 1) for _ in range(4)} | {total})
        pairs = list(zip([0, *steps], steps, strict=False))
        chance.shuffle(pairs)
        for before, after in pairs:
            assert "verified" == await pay(stranger, refunded(before, after, total, payment))
        assert (0, 0) == (await sums(client, account))[:2]

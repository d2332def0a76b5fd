"""Payments of Stripe: each is granted once."""

import pytest

from app.settings import Settings
from tests.http.doors import deliver, inbox, with_doors
from tests.http.payments import checkout, event, pay, refunded
from tests.http.steps import balance, members, setting, sums
from tests.http.test_webhook_waiting import dies


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


async def test_a_paid_checkout_is_granted_once_whatever_tells_of_it(client, stranger):
    paid = checkout(metadata={"lastro_credits": "100", "lastro_bucket": "paid", "lastro_expires_days": "30"})
    later = paid | {"id": "evt_2", "type": "checkout.session.async_payment_succeeded", "created": 1}
    assert ["verified", "duplicate", "duplicate"] == [
        await pay(stranger, each) for each in (paid, paid, later)
    ]
    now = await balance(client)
    (lot,) = now["buckets"]
    assert (100, "paid", True) == (now["available"], lot["bucket"], "expiresAt" in lot)
    (row,) = await inbox(client)
    assert ("stripe", "verified", "alice", 100, 3, "stripe:pi_1") == members(
        row, "provider", "status", "accountId", "amount", "deliveries", "taskId"
    )


async def test_an_invoice_is_granted_to_the_account_of_its_metadata(client, stranger):
    invoice = {
        "id": "in_1",
        "total": 500,
        "subscription_details": {"metadata": {"lastro_account": "bob", "lastro_credits": "70"}},
    }
    assert ["verified", "duplicate"] == [
        await pay(stranger, event("invoice.paid", invoice)) for _ in range(2)
    ]
    assert (70, 0) == (await sums(client, "bob"))[:2]


async def test_what_cannot_be_granted_is_kept_with_the_reason(client, stranger):
    bodies = {
        "nothing of lastro_credits": checkout(metadata={}, payment="pi_1") | {"id": "evt_1"},
        "`lastro_credits` should": checkout("many", "pi_2") | {"id": "evt_2"},
        "account id": checkout(client_reference_id="a b", payment_intent="pi_3") | {"id": "evt_3"},
        "account_closed": checkout("5", "pi_4", client_reference_id="closed") | {"id": "evt_4"},
    }
    await setting(client, account="closed", status="closed")
    for body in bodies.values():
        assert ["refused", "duplicate"] == [await pay(stranger, body) for _ in range(2)]
    rows = {row["why"]: row for row in await inbox(client, status="refused")}
    for why in bodies:
        assert [why] == [why for each in rows if why in each], rows.keys()
    await setting(client, account="closed", status="active")
    row = next(row for why, row in rows.items() if "account_closed" in why)
    answer = await client.post(f"/api/credits/webhooks/{row['id']}/replay")
    assert ("verified", 5) == members(answer.json(), "status", "amount")
    for _ in range(2):
        await client.post(f"/api/credits/webhooks/{row['id']}/replay")
    assert (5, 0) == (await sums(client, "closed"))[:2]


async def test_a_grant_under_a_later_key_is_found_when_the_refusal_is_forgotten(
    app, client, stranger, redis, monkeypatch
):
    """The operator's attempt died before it was noted, and a day later somebody tries again."""
    await setting(client, status="closed")
    assert "refused" == await pay(stranger, checkout("5"))
    await setting(client, status="active")
    (row,) = await inbox(client)
    again = f"/api/credits/webhooks/{row['id']}/replay"
    with monkeypatch.context() as crash:
        crash.setattr(app.state.parts.receiving.inbox, "settle", dies)
        assert 500 == (await client.post(again)).status_code
    assert 5 == (await sums(client))[0]
    forgotten = [key async for key in redis.scan_iter("lastro:*:operation:*") if key.endswith(b"pi_1")]
    assert 1 == await redis.delete(*forgotten)
    assert ("verified", 5) == members((await client.post(again)).json(), "status", "amount")
    assert 5 == (await sums(client))[0]


async def test_what_moves_no_credits_is_noted_once_for_each_kind(client, stranger):
    for number in range(3):
        unpaid = checkout(payment_status="unpaid") | {"id": f"evt_{number}"}
        assert "verified" == await pay(stranger, unpaid)
        assert "verified" == await pay(stranger, event("customer.created", {}, f"evt_c{number}"))
    assert [("customer.created", 3), ("checkout.session.completed", 3)] == [
        (row["providerStatus"], row["deliveries"]) for row in await inbox(client)
    ]


async def test_a_grant_that_was_not_noted_is_not_made_again(client, stranger, monkeypatch, app, database):
    with monkeypatch.context() as crash:
        crash.setattr(app.state.parts.receiving.inbox, "settle", dies)
        assert 500 == (await deliver(stranger, "stripe", checkout())).status_code
    assert (100, 0, 1) == await sums(client)
    later = checkout() | {"created": 5, "id": "evt_2"}
    assert "verified" == await pay(stranger, later)
    assert (100, 0, 1) == await sums(client)


async def test_what_was_paid_to_a_connected_account_grants_nothing(client, stranger):
    """Whoever owns that one writes what its payments say."""
    paid = checkout() | {"account": "acct_1"}
    assert "refused" == await pay(stranger, paid)
    assert "verified" == await pay(stranger, refunded(0, 999) | {"account": "acct_1"})
    (row,) = await inbox(client, status="refused")
    assert "it is about a connected account" == row["why"]
    assert 404 == (await client.get("/api/credits/balance", params={"accountId": "alice"})).status_code
    assert "verified" == await pay(stranger, checkout())
    assert 100 == (await sums(client))[0]


async def test_stripe_has_no_callback_urls(stranger):
    path = "/api/webhooks/stripe/0190a000-0000-7000-8000-00000000abcd/x"
    assert 401 == (await deliver(stranger, "stripe", checkout(), path=path)).status_code

"""What Stripe tells: paid, paid back, or nothing of ours."""

from typing import Any

import msgspec
import pytest

from app.ledger.credits import CREDITS_MAX
from app.webhooks.event import Delivery, Unreadable
from app.webhooks.stripe import Other, Payment, Reversal, read
from tests.webhooks.deliveries import NOW, made, sent

GOOD = {"lastro_credits": "500"}
PAID = Payment(
    key="stripe:pi_1",
    account="alice",
    credits=500,
    bucket="default",
    expires_days=None,
    event="evt_1",
    at=NOW,
)


def event(kind: str, about: object, **more: object) -> Delivery:
    data = {"object": about, **more}
    return sent({"id": "evt_1", "object": "event", "type": kind, "created": NOW, "data": data})


def checkout(kind: str = "completed", **fields: object) -> Delivery:
    session = {
        "id": "cs_1",
        "payment_status": "paid",
        "payment_intent": "pi_1",
        "invoice": None,
        "client_reference_id": "alice",
        "metadata": GOOD,
    }
    return event(f"checkout.session.{kind}", {**session, **fields})


def invoice(**fields: object) -> Delivery:
    subscribed = {"metadata": {**GOOD, "lastro_account": "alice"}}
    paid = {
        "id": "in_1",
        "total": 1000,
        "billing_reason": "subscription_cycle",
        "metadata": {},
        "parent": {"type": "subscription_details", "subscription_details": subscribed},
    }
    return event("invoice.paid", {**paid, **fields})


def charge(before: object = None, **fields: object) -> Delivery:
    refunded = {"id": "ch_1", "amount": 1000, "amount_refunded": 250, "payment_intent": "pi_1"}
    more = {} if before is None else {"previous_attributes": {"amount_refunded": before}}
    return event("charge.refunded", {**refunded, **fields}, **more)


def dispute(**fields: object) -> Delivery:
    disputed = {
        "id": "dp_1",
        "amount": 1000,
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "status": "needs_response",
    }
    return event("charge.dispute.created", {**disputed, **fields})


def unreadable(delivery: Delivery) -> str:
    with pytest.raises(Unreadable) as caught:
        read(delivery)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["completed", "async_payment_succeeded"])
def test_a_paid_checkout_is_a_payment(kind):
    assert PAID == read(checkout(kind))


def test_all_that_a_payment_may_say_is_heard():
    said = {
        "lastro_credits": "1",
        "lastro_account": "bob",
        "lastro_bucket": "top-up",
        "lastro_expires_days": "365",
    }
    expected = msgspec.structs.replace(PAID, account="bob", credits=1, bucket="top-up", expires_days=365)
    assert expected == read(checkout(metadata=said))
    assert expected == read(checkout(metadata=said, client_reference_id=None))


@pytest.mark.parametrize("status", ["unpaid", "no_payment_required", None, True])
def test_a_checkout_that_is_not_paid_moves_nothing(status):
    assert isinstance(read(checkout(payment_status=status)), Other)


@pytest.mark.parametrize("metadata", [None, {}, {"order": "7"}])
def test_a_checkout_that_sells_something_else_moves_nothing(metadata):
    assert isinstance(read(checkout(metadata=metadata)), Other)


@pytest.mark.parametrize(
    ("delivery", "is_payment"),
    [
        (checkout(metadata={}), True),
        (checkout(metadata={}, invoice="in_1", payment_intent=None), False),
        (invoice(parent=None), True),
        (invoice(parent=None, billing_reason="subscription_create"), True),
        (invoice(parent=None, billing_reason="manual"), False),
        (invoice(billing_reason="subscription_update"), False),
        (invoice(parent=None, billing_reason=["a"]), False),
        (invoice(parent=None, billing_reason=None), False),
        (invoice(total=0), False),
        (checkout(payment_status="unpaid"), False),
    ],
)
def test_a_payment_that_names_no_credits_anywhere_is_told_from_one_that_another_event_explains(
    delivery, is_payment
):
    told = read(delivery)
    assert isinstance(told, Other)
    assert is_payment == told.is_payment


def test_a_checkout_and_its_invoice_are_one_payment():
    started = read(checkout(invoice="in_1", payment_intent=None))
    assert "stripe:in_1" == started.key == read(invoice()).key
    assert "stripe:in_1" == read(checkout(invoice="in_1", payment_intent="pi_1")).key


@pytest.mark.parametrize(
    "given",
    ["", "0", "-5", "5.0", "1e3", " 5", "5\n", "\u0665", "05", str(CREDITS_MAX + 1), "9" * 50, 5, None, []],
)
def test_credits_are_a_whole_number_in_digits(given):
    assert "`lastro_credits`" in unreadable(checkout(metadata={"lastro_credits": given}))


@pytest.mark.parametrize("days", ["", "0", "-1", "1.5", "36501", 30, None])
def test_days_are_a_whole_number_in_digits(days):
    told = checkout(metadata={**GOOD, "lastro_expires_days": days})
    if days is None:
        assert PAID == read(told)
    else:
        assert "`lastro_expires_days`" in unreadable(told)


@pytest.mark.parametrize("account", [None, "", "a b", "a" * 129, "é", "alice\n", "a/b", 5])
def test_an_account_is_one_that_there_could_be(account):
    assert "account" in unreadable(checkout(client_reference_id=account))
    if account:
        assert "account" in unreadable(checkout(metadata={**GOOD, "lastro_account": account}))


@pytest.mark.parametrize("bucket", ["", "overdraft", "a b", "b" * 65, "é", "b\n", 5, None])
def test_a_bucket_is_one_that_there_could_be(bucket):
    assert "`lastro_bucket`" in unreadable(checkout(metadata={**GOOD, "lastro_bucket": bucket}))


def test_a_bucket_may_begin_like_the_one_of_debts():
    assert "overdrafts" == read(checkout(metadata={**GOOD, "lastro_bucket": "overdrafts"})).bucket


@pytest.mark.parametrize(
    "named", [{"payment_intent": None}, {"payment_intent": {"id": "pi_1"}}, {"payment_intent": "p" * 249}]
)
def test_a_payment_without_a_name_is_refused(named):
    assert unreadable(checkout(**named))


@pytest.mark.parametrize("created", [None, "1", -1, 1.5, True, 10**12])
def test_a_payment_has_a_time(created):
    of = msgspec.json.decode(checkout().body) | {"created": created}
    assert "`created`" in unreadable(sent(of))


# -- invoices


def test_a_paid_invoice_of_a_subscription_is_a_payment():
    assert msgspec.structs.replace(PAID, key="stripe:in_1") == read(invoice())


def test_where_older_versions_tell_of_the_subscription_is_read_too():
    older = {"parent": None, "subscription_details": {"metadata": {**GOOD, "lastro_account": "alice"}}}
    assert msgspec.structs.replace(PAID, key="stripe:in_1") == read(invoice(**older))


def test_what_the_invoice_says_itself_wins():
    assert 7 == read(invoice(metadata={"lastro_credits": "7"})).credits


def test_an_invoice_for_nothing_moves_nothing():
    assert isinstance(read(invoice(total=0)), Other)


def test_an_invoice_because_the_plan_was_changed_moves_nothing_of_itself():
    assert isinstance(read(invoice(billing_reason="subscription_update")), Other)
    own = {"lastro_credits": "7", "lastro_account": "alice"}
    assert 7 == read(invoice(billing_reason="subscription_update", metadata=own)).credits


def test_an_invoice_must_name_its_account():
    assert "account" in unreadable(invoice(parent=None, metadata=GOOD))


@pytest.mark.parametrize("total", [None, "1000", -1, 1.5, True])
def test_a_total_is_a_whole_number(total):
    assert "`total`" in unreadable(invoice(total=total))


# -- money that goes back


def back(before: int, after: int, *keys: str, kind: str = "charge.refunded") -> Reversal:
    return Reversal(
        keys=keys, kind=kind, amount_before=before, amount_after=after, of_total=1000, event="evt_1"
    )


def test_a_refund_says_what_went_back_before_and_now():
    assert back(0, 250, "stripe:pi_1") == read(charge())
    assert back(0, 250, "stripe:pi_1") == read(charge(before=0))
    assert back(100, 250, "stripe:pi_1") == read(charge(before=100))


def test_a_refund_names_all_that_the_payment_may_have_been_named_by():
    assert ("stripe:in_1", "stripe:pi_1") == read(charge(invoice="in_1")).keys
    assert () == read(charge(payment_intent=None)).keys


@pytest.mark.parametrize(
    "fields", [{"amount": 200}, {"amount_refunded": 0}, {"amount": "1000"}, {"amount_refunded": None}]
)
def test_a_refund_of_more_than_was_paid_or_of_nothing_is_refused(fields):
    assert unreadable(charge(**fields))


@pytest.mark.parametrize("before", [250, 300, "1", -1, 1.0])
def test_a_refund_that_takes_nothing_more_is_refused(before):
    assert unreadable(charge(before=before))


def test_a_dispute_takes_all_of_it_back():
    assert back(0, 1000, "stripe:pi_1", kind="charge.dispute.created") == read(dispute())


@pytest.mark.parametrize("status", ["warning_needs_response", "warning_under_review"])
def test_a_question_of_the_bank_takes_nothing_back(status):
    assert isinstance(read(dispute(status=status)), Other)


# -- all else


@pytest.mark.parametrize(
    "kind",
    ["customer.created", "payment_intent.succeeded", "invoice.payment_succeeded", "charge.dispute.closed",
     "checkout.session.expired", "checkout.session.async_payment_failed", "charge.refund.updated"],
)  # fmt: skip
def test_all_else_is_known_by_its_name_and_moves_nothing(kind):
    assert Other(kind=kind, event="evt_1", why="nothing that moves credits") == read(event(kind, {"id": "x"}))


@pytest.mark.parametrize(
    "of", [{"data": 5}, {"data": {"object": []}}, {"type": None}, {"id": ""}, {"type": 5}]
)
def test_an_event_that_has_not_the_shape_of_one_is_refused(of: dict[str, Any]):
    assert unreadable(sent(msgspec.json.decode(checkout().body) | of))


@pytest.mark.parametrize(
    ("outcome", "type_"), [("succeeded", Payment), ("progress", Other), ("failed", Reversal)]
)
def test_what_is_simulated_is_read_as_it_was_meant(outcome, type_):
    assert isinstance(read(made("stripe", outcome)), type_)


def test_a_simulated_refund_is_of_the_simulated_payment():
    paid, repaid = read(made("stripe", "succeeded")), read(made("stripe", "failed"))
    assert (paid.key,) == repaid.keys

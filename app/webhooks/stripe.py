"""Stripe's payments and what takes them back. What it tells of anything else is `Other`.

A payment grants what its metadata say (`lastro_credits`).
"""

import re
from typing import Any, NamedTuple

from msgspec import Struct

from app.ledger.credits import CREDITS_MAX
from app.webhooks import payload
from app.webhooks.event import Delivery, Unreadable
from app.webhooks.providers import Provider
from app.webhooks.schemes import stamped

EXPIRES_DAYS_MAX = 36_500
_PAYMENTS = ("checkout.session.completed", "checkout.session.async_payment_succeeded", "invoice.paid")
_PERIODS = ("subscription_cycle", "subscription_create")
_KEY_MAX = 255
_SECONDS_MAX = 253_402_300_799  # the year 9999
_ACCOUNT = re.compile(r"[A-Za-z0-9._:@+-]{1,128}", re.ASCII)
_BUCKET = re.compile(r"(?!overdraft$)[A-Za-z0-9._:@+/-]{1,64}", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)


class Payment(Struct, frozen=True, kw_only=True):
    """Paid, for credits.

    Args:
        key: Of the payment, the same in all that Stripe tells of it: `stripe:` and the invoice or, where
            there is none, the payment intent.
        account: Whose credits they are.
        credits: How many.
        bucket: Where they go.
        expires_days: How long they last, `None` for ever.
        event: Stripe's id of what it told.
        at: When it happened, Unix time in seconds. Not the same in all that Stripe tells of a payment.
    """

    key: str
    account: str
    credits: int
    bucket: str
    expires_days: int | None
    event: str
    at: int


class Reversal(Struct, frozen=True, kw_only=True):
    """Money went back, or is asked back.

    Args:
        keys: Under which of these a payment may have been granted; no other is meant.
        kind: `charge.refunded` or `charge.dispute.created`.
        amount_before: Of the smallest coins, what had gone back before.
        amount_after: What has gone back now.
        of_total: What was paid; of a dispute, what it is about.
        event: Stripe's id of what it told.
    """

    keys: tuple[str, ...]
    kind: str
    amount_before: int
    amount_after: int
    of_total: int
    event: str


class Other(Struct, frozen=True, kw_only=True):
    """Nothing to be done. `why` in words, for the inbox; `is_payment`: something was paid, and no credits are
    named anywhere, or it was paid to somebody else.
    """

    kind: str
    event: str
    why: str
    is_payment: bool = False


def read(delivery: Delivery) -> Payment | Reversal | Other:
    """What Stripe tells. Raises `Unreadable`."""
    body = payload.decoded(delivery.body)
    told = _Told(kind=payload.identity(body, "type"), event=payload.identity(body, "id"), at=_created(body))
    data = payload.member(body, "data")
    about = payload.member(data, "object")
    if body.get("account") is not None:  # of Connect: whoever owns that account writes its metadata
        return told.other("it is about a connected account", is_payment=told.kind in _PAYMENTS)
    match told.kind:
        case "checkout.session.completed" | "checkout.session.async_payment_succeeded":
            if about.get("payment_status") != "paid":
                return told.other("nothing was paid, or not yet")
            return _payment(told, about, payload.member(about, "metadata"), "invoice", "payment_intent")
        case "invoice.paid":
            if _coins(about, "total") == 0:
                return told.other("an invoice of nothing")
            return _payment(told, about, _noted_of_invoice(about), "id")
        case "charge.refunded":
            before = {"amount_refunded": 0} | payload.member(data, "previous_attributes")
            return _reversal(told, about, _coins(before, "amount_refunded"), _coins(about, "amount_refunded"))
        case "charge.dispute.created":
            if str(about.get("status")).startswith("warning_"):
                return told.other("a question of the bank, nothing was taken back")
            return _reversal(told, about, 0, _coins(about, "amount"))
    return told.other("nothing that moves credits")


class _Told(NamedTuple):
    """What all events begin with."""

    kind: str
    event: str
    at: int

    def other(self, why: str, *, is_payment: bool = False) -> Other:
        return Other(kind=self.kind, event=self.event, why=why, is_payment=is_payment)


def _payment(told: _Told, about: dict[str, Any], noted: dict[str, Any], *by: str) -> Payment | Other:
    """`about`: what was paid; `noted`: its metadata; `by`: see `_key`."""
    if "lastro_credits" not in noted:
        return told.other("its metadata say nothing of lastro_credits", is_payment=_stands_alone(about))
    account = noted.get("lastro_account") or about.get("client_reference_id")
    if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
        raise Unreadable("`client_reference_id` or the metadata's `lastro_account` should be an account id")
    bucket = noted.get("lastro_bucket", "default")
    if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
        raise Unreadable("the metadata's `lastro_bucket` should be the name of a bucket")
    days = noted.get("lastro_expires_days")
    return Payment(
        key=_key(about, *by),
        account=account,
        credits=_whole(noted["lastro_credits"], "lastro_credits", CREDITS_MAX),
        bucket=bucket,
        expires_days=None if days is None else _whole(days, "lastro_expires_days", EXPIRES_DAYS_MAX),
        event=told.event,
        at=told.at,
    )


def _stands_alone(about: dict[str, Any]) -> bool:
    """Whether nothing else that Stripe tells of this payment might say how many credits it is for.

    A checkout with an invoice and that invoice tell of one payment; an invoice for no period, as that of a
    changed plan, may be for something else.
    """
    return about.get("invoice") is None and about.get("billing_reason", _PERIODS[0]) in _PERIODS


def _reversal(told: _Told, about: dict[str, Any], before: int, after: int) -> Reversal:
    """`about`: the charge, or the dispute, which knows the charge only by its payment."""
    total = _coins(about, "amount")
    if not before < after <= total:
        raise Unreadable("what went back should be more than before, and no more than `amount`")
    names = [name for name in ("invoice", "payment_intent") if about.get(name) is not None]
    return Reversal(
        keys=tuple(_key(about, name) for name in names),
        kind=told.kind,
        amount_before=before,
        amount_after=after,
        of_total=total,
        event=told.event,
    )


def _key(about: dict[str, Any], *names: str) -> str:
    """By the first of these fields that is there."""
    key = "stripe:" + payload.identity(about, *names)
    if len(key) > _KEY_MAX:
        raise Unreadable(f"`{names[0]}` is longer than any id of Stripe")
    return key


def _noted_of_invoice(invoice: dict[str, Any]) -> dict[str, Any]:
    """The metadata of an invoice, and beneath them those of its subscription, if it is for a time of that.

    An invoice because somebody changed the plan is for none, and would grant at every change.
    """
    own = payload.member(invoice, "metadata")
    if invoice.get("billing_reason") == "subscription_update":
        return own
    parent = payload.member(invoice, "parent")  # since 2025; before, the details stood in the invoice itself
    details = payload.member(parent, "subscription_details") or payload.member(
        invoice, "subscription_details"
    )
    return payload.member(details, "metadata") | own


def _created(body: dict[str, Any]) -> int:
    at = body.get("created")
    if type(at) is not int or not 0 <= at <= _SECONDS_MAX:
        raise Unreadable("`created` should be a Unix time in seconds")
    return at


def _coins(of: dict[str, Any], name: str) -> int:
    value = of.get(name)
    if type(value) is not int or not 0 <= value <= CREDITS_MAX:
        raise Unreadable(f"`{name}` should be a whole number of the smallest coins")
    return value


def _whole(value: object, name: str, largest: int) -> int:
    """A number of the metadata, in which all is text."""
    if not isinstance(value, str) or not _WHOLE.fullmatch(value) or int(value) > largest:
        raise Unreadable(f"the metadata's `{name}` should be a whole number, 1 to {largest}")
    return int(value)


STRIPE: Provider[Payment | Reversal | Other] = Provider("stripe", stamped("stripe-signature"), read)

"""Payments that Stripe tells of: credits are granted once for each, and taken back when the money goes back.

A payment's grant stands under a key of its own, which holds for ever; so does each step of what goes back,
whatever order they come in and however often.
"""

from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from app.ledger.entries import seal
from app.ledger.errors import IdempotencyMismatch, Refused
from app.ledger.ledger import Ledger
from app.ledger.operations import Adjust, Grant
from app.ledger.receipts import Receipt, fingerprint
from app.webhooks import payload
from app.webhooks.event import Delivery, Unreadable
from app.webhooks.inbox import Granted, Outcome, Payments, Received
from app.webhooks.settling import OURS, Settlement, worded
from app.webhooks.stripe import STRIPE, Other, Payment, Reversal

DAY_MS = 86_400_000
ATTEMPTS_MAX = 10

Kind = TypeVar("Kind", Grant, Adjust)

BY = "webhook:stripe"


class _Paid(Struct):
    """What the key of a grant is compared by."""

    account: str
    credits: int
    bucket: str
    expires_days: int | None


class _Reversed(Struct):
    """What the key of an adjustment is compared by."""

    account: str


def received(delivery: Delivery) -> Received:
    """What Stripe sent, as it is kept. What is not understood is kept too: somebody has paid, perhaps.

    Raises:
        Unreadable: It is no event of Stripe at all.
    """
    try:
        told = STRIPE.read(delivery)
    except Unreadable:
        event = payload.identity(payload.decoded(delivery.body), "id")
        return _kept(delivery, event, "not understood", "succeeded")
    match told:
        case Payment():
            return _kept(delivery, told.key, "paid", "succeeded", task=told.key)
        case Reversal():
            of = " ".join((*told.keys, told.kind, str(told.amount_after))) if told.keys else told.event
            return _kept(delivery, of, told.kind, "reversed", task=told.keys[0] if told.keys else None)
        case Other(is_payment=True):
            return _kept(delivery, told.event, told.kind, "succeeded")
    return _kept(delivery, told.kind, told.kind, "progress")


def _kept(delivery: Delivery, named: str, word: str, outcome: Outcome, task: str | None = None) -> Received:
    return Received(
        provider=STRIPE.name,
        named=named,
        outcome=outcome,
        word=word[:100],
        task=task,
        payload=delivery.body.decode(),
    )


async def act(
    ledger: Ledger, payments: Payments, received: Received, *, takes_back: bool, again: bool = False
) -> Settlement:
    """Do what a delivery of Stripe asks for, or find that it was done.

    Args:
        ledger: Where.
        payments: What was paid before.
        received: As `received` made it.
        takes_back: Whether credits are taken back when money goes back.
        again: It was refused before, and that is to be forgotten.

    Raises:
        Unavailable, BackingUnavailable: Nothing can be told or done now; repeating is safe.
    """
    try:
        told = STRIPE.read(Delivery({}, received.payload.encode()))
    except Unreadable as error:
        return Settlement(status="refused", why=str(error))
    match told:
        case Payment():
            return await _grant(ledger, told, again=again)
        case Reversal():
            return await _take_back(ledger, payments, received, told, takes_back=takes_back, again=again)
    return Settlement(status="refused" if told.is_payment else "verified", why=told.why)


async def _grant(ledger: Ledger, paid: Payment, *, again: bool) -> Settlement:
    days = paid.expires_days
    content = _Paid(paid.account, paid.credits, paid.bucket, days)
    notes = seal(f"Stripe {paid.event}")
    assert notes is not None, "there is a reason"
    operation = Grant(
        account=paid.account,
        amount=paid.credits,
        bucket=paid.bucket,
        expires_at_ms=0 if days is None else paid.at * 1000 + days * DAY_MS,
        by=BY,
        key=paid.key,
        fingerprint=fingerprint("grant", content),
        notes=notes.text,
        notes_hash=notes.hash,
    )
    try:
        free = await _free(ledger, operation) if again else operation
        receipt = free if isinstance(free, Receipt) else await ledger.grant(free)
    except Refused as error:
        return Settlement(status="refused", why=worded(error), account=paid.account)
    return _done(receipt)


async def _take_back(
    ledger: Ledger,
    payments: Payments,
    received: Received,
    reversal: Reversal,
    *,
    takes_back: bool,
    again: bool,
) -> Settlement:
    granted = await payments.granted(reversal.keys)
    if granted is None:
        return Settlement(status="waiting", why="no grant of this payment is known")
    gone = f"{reversal.amount_after} of {reversal.of_total} went back, {reversal.amount_before} before"
    if not takes_back:
        why = f"{gone}; LASTRO_WEBHOOK_STRIPE_CLAWBACK is off, and no credits were taken"
        return Settlement(status="refused", why=why, account=granted.account)
    share = _share(granted, reversal.amount_after, reversal) - _share(
        granted, reversal.amount_before, reversal
    )
    taken = await payments.claim(received, reversal.keys, share)  # a dispute is about what was refunded, too
    if not taken:
        why = f"{gone}, for which no credit is left to be taken"
        return Settlement(status="verified", why=why, account=granted.account)
    notes = seal(f"Stripe {reversal.event}: {gone}")
    assert notes is not None, "there is a reason"
    operation = Adjust(
        account=granted.account,
        amount=-taken,
        short="take",
        by=BY,
        key=f"{reversal.keys[0]}{OURS}{reversal.kind} {reversal.amount_after}",
        fingerprint=fingerprint("adjust", _Reversed(granted.account)),
        notes=notes.text,
        notes_hash=notes.hash,
    )
    try:
        free = await _free(ledger, operation) if again else operation
        receipt = free if isinstance(free, Receipt) else await ledger.adjust(free)
    except Refused as error:
        return Settlement(status="refused", why=worded(error), account=granted.account)
    return _done(receipt)


async def _free(ledger: Ledger, operation: Kind) -> Kind | Receipt:
    """The operation under a key that no refusal is remembered for, or what was done under any of them.

    All are asked each time: Redis forgets refusals after a day, and the journal nothing that was done.

    Raises:
        Refused: As often as this nobody tries on one day.
    """
    refused: Refused | None = None
    free: Kind | None = None
    for attempt in range(1, ATTEMPTS_MAX + 1):
        key = operation.key if attempt == 1 else f"{operation.key}#{attempt}"
        try:
            done = await ledger.recalled(replace(operation, key=key))
        except IdempotencyMismatch:
            raise
        except Refused as error:
            refused = error
            continue
        if done is not None:
            return done
        free = free or replace(operation, key=key)
    if free is None:
        assert refused is not None, "each attempt is free, done or refused"
        raise refused
    return free


def _share(granted: Granted, coins: int, of: Reversal) -> int:
    """How many credits so much of the money has bought, rounded down."""
    return granted.credits * coins // of.of_total


def _done(receipt: Receipt) -> Settlement:
    entry = receipt.entry
    short = f"{entry.shortfall} credits were not there any more" if entry.shortfall else None
    return Settlement(
        status="verified",
        why=short,
        account=entry.account,
        transaction=str(receipt.transaction),
        credits=entry.amount,
    )

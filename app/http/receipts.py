"""What the verbs are answered with: what was done, and how things stand now."""

import asyncio
from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from app.http import answers, noting
from app.http.answers import Balance, Reservation, Shown, Transaction
from app.http.problems import Headers
from app.http.wire import LedgerRequest
from app.ledger.operations import Confirm, Reserve, Write
from app.ledger.receipts import Receipt

_REPLAYED = (b"idempotency-replayed", b"true")
_CONFLICT = (b"lastro-conflict", b"amount")
_JOURNALED = {True: (b"lastro-journaled", b"true"), False: (b"lastro-journaled", b"false")}


class Moved(Shown, kw_only=True):
    """What a grant, a deduct or a refund did, and the balance now."""

    transaction: Transaction
    balance: Balance


class Adjusted(Moved, kw_only=True):
    """What an adjustment did, and what could not be taken."""

    shortfall: int


class Settled(Shown, kw_only=True):
    """What became of a reservation, and the balance now."""

    reservation: Reservation
    transaction: Transaction
    balance: Balance


class Callback(Shown, kw_only=True):
    """What to hand to the provider: where it reports this reservation, and what it signs that with, if it is
    given a secret. Both are for the provider alone.
    """

    url: str
    secret: str | UnsetType = UNSET


class Reserved(Settled, kw_only=True):
    """What was set aside, and the balance now."""

    callback: Callback | UnsetType = UNSET


def made(receipt: Receipt) -> Transaction:
    """The transaction."""
    return answers.transaction(str(receipt.transaction), receipt.entry, receipt.notes)


def moved(receipt: Receipt) -> Moved:
    """What moved credits of an account."""
    return Moved(
        transaction=made(receipt),
        balance=answers.balance(receipt.entry.account, receipt.account),
    )


def adjusted(receipt: Receipt) -> Adjusted:
    """What an adjustment came to."""
    return Adjusted(
        transaction=made(receipt),
        balance=answers.balance(receipt.entry.account, receipt.account),
        shortfall=receipt.entry.shortfall or 0,
    )


def settled(receipt: Receipt) -> Settled:
    """What became of a reservation."""
    assert receipt.reservation is not None, "the engine answers these verbs with a reservation"
    return Settled(
        reservation=answers.reservation(receipt.reservation),
        transaction=made(receipt),
        balance=answers.balance(receipt.entry.account, receipt.account),
    )


def reserved(request: LedgerRequest, operation: Reserve, receipt: Receipt) -> Reserved:
    """What was set aside."""
    assert receipt.reservation is not None, "the engine answers a reserve with its reservation"
    return Reserved(
        reservation=answers.reservation(receipt.reservation),
        transaction=made(receipt),
        balance=answers.balance(receipt.entry.account, receipt.account),
        callback=callback(request, operation, receipt),
    )


def callback(request: LedgerRequest, operation: Reserve, receipt: Receipt) -> Callback | UnsetType:
    """What the provider is to be told, where its door is on; never shown to a user, who could say that a job
    has failed.
    """
    assert receipt.reservation is not None, "the engine answers a reserve with its reservation"
    if operation.provider is None or request.caller.principal.kind == "user":
        return UNSET
    found = request.parts.receiving.doors.callback(operation.provider, receipt.reservation.id)
    if found is None:
        return UNSET
    return Callback(url=found.url, secret=UNSET if found.secret is None else found.secret)


def is_conflict(operation: Write, receipt: Receipt) -> bool:
    """Whether a confirm names another amount than the one that it repeats; under the same key it is the same
    request, whose policy decided the amount.
    """
    if not receipt.replayed or not isinstance(operation, Confirm):
        return False
    entry = receipt.entry
    same = operation.key is not None and (operation.key, operation.fingerprint) == (
        entry.key,
        entry.fingerprint,
    )
    return not same and operation.amount is not None and _captured(operation, receipt) != entry.amount


def _captured(confirm: Confirm, receipt: Receipt) -> int | None:
    """What a confirm that is repeated comes to: with `cap` not more than was held then."""
    entry, reservation = receipt.entry, receipt.reservation
    assert reservation is not None, "the engine answers a confirm with its reservation"
    if confirm.amount is None or (confirm.over_capture or reservation.over_capture) != "cap":
        return confirm.amount
    held = (entry.captured or 0) + (entry.released or 0)
    return min(confirm.amount, reservation.reserved - reservation.captured if entry.late else held)


async def headers(request: LedgerRequest, operation: Write, receipt: Receipt) -> Headers:
    """What the answer says about how it came about."""
    request.scope["receipt"] = receipt  # type: ignore[typeddict-unknown-key]
    found = [_REPLAYED] if receipt.replayed else []
    if is_conflict(operation, receipt):
        found.append(_CONFLICT)
        noting.contradicted(request.parts, receipt)
    return [*found, *await journaled(request, [receipt])]


async def journaled(request: LedgerRequest, receipts: Sequence[Receipt]) -> Headers:
    """Whether PostgreSQL has all of them, where the caller waits for that.

    What one call wrote into a shard is journaled together, so that the last entry of each is waited for.
    """
    if not request.caller.waits or not receipts:
        return []
    last = {(each.shard, each.entry.nonce): each for each in sorted(receipts, key=lambda each: each.sequence)}
    wait = request.parts.acknowledging.journaled
    there = await asyncio.gather(*(wait(each.transaction, each.entry.nonce) for each in last.values()))
    return [_JOURNALED[all(there)]]

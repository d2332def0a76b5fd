"""grant, adjust and configure: what operators do to an account."""

from typing import Any

from app.ledger.entries import Leg
from app.ledger.operations import Adjust, Configure, Grant
from tests.reference.accounts import DEFAULT, Account
from tests.reference.books import Books
from tests.reference.outcomes import Line, No
from tests.reference.rungs import account_of, affords, has_room_for, not_closed


def grant(books: Books, asked: Grant, now_ms: int) -> Line:
    """Add credits to a bucket; opens the account."""
    account = books.accounts.get(asked.account) or Account(asked.account)
    not_closed(account)
    if 0 < asked.expires_at_ms <= now_ms:
        raise No("already_expired", expires_at_ms=asked.expires_at_ms, now_ms=now_ms)
    rolled = _rolled_over(account, asked)
    moved = -sum(leg.available for leg in rolled)
    arriving = [Leg(asked.bucket, asked.expires_at_ms, asked.amount + moved, 0)]
    legs = account.after_debt([*rolled, *arriving])
    has_room_for(account, legs, asked.amount)
    facts: dict[str, Any] = {"bucket": asked.bucket, "priority": asked.priority, "rollover": moved or None}
    line = books.enter(account, "granted", now_ms, asked.amount, legs, asked, **facts)
    if asked.priority is not None:
        account.prioritise(asked.bucket, asked.priority)
    return line


def _rolled_over(account: Account, asked: Grant) -> list[Leg]:
    """What leaves the bucket's lots that expire earlier than the new one, soonest first."""
    wanted, legs = asked.rollover, []
    for lot in sorted(account.of_bucket(asked.bucket), key=lambda lot: lot.expires_at_ms):
        earlier = lot.expires_at_ms and (not asked.expires_at_ms or lot.expires_at_ms < asked.expires_at_ms)
        part = min(lot.available, wanted) if earlier else 0
        if part:
            legs.append(Leg(lot.bucket, lot.expires_at_ms, -part, 0))
            wanted -= part
    return legs


def adjust(books: Books, asked: Adjust, now_ms: int) -> Line:
    """Put a balance right, upwards or downwards."""
    account = account_of(books, asked.account)
    not_closed(account)
    if asked.amount > 0:
        legs = account.after_debt([Leg(asked.bucket or DEFAULT, 0, asked.amount, 0)])
        has_room_for(account, legs, asked.amount)
        return books.enter(account, "adjusted", now_ms, asked.amount, legs, asked, bucket=asked.bucket)
    wanted = -asked.amount
    there = account.room
    if asked.bucket is not None:
        there = sum(lot.available for lot in account.of_bucket(asked.bucket))
    if asked.short == "reject" and wanted > there:
        if asked.bucket is None:
            affords(account, wanted, account.overdraft_limit)
        raise No("insufficient_credits", required=wanted, available=there, held=account.held)
    taken = min(wanted, there)
    return books.enter(
        account, "adjusted", now_ms, -taken, account.taken(taken, asked.bucket), asked,
        bucket=asked.bucket, shortfall=wanted - taken or None,
    )  # fmt: skip


def configure(books: Books, asked: Configure, now_ms: int) -> Line | None:
    """Change settings; opens the account. What is as it should be is not written down."""
    account = books.accounts.get(asked.account) or Account(asked.account)
    settings = ("overdraft_limit", "status", "low_balance")
    changes: dict[str, Any] = {
        name: getattr(asked, name)
        for name in settings
        if getattr(asked, name) not in {None, getattr(account, name)}
    }
    if not changes and account.version:
        return None
    if "status" not in changes:
        not_closed(account)
    if asked.status == "closed" and (account.available or account.held):
        raise No("account_not_empty", available=account.available, held=account.held)
    if changes.get("overdraft_limit", account.debt) < account.debt:
        raise No("overdraft_in_use", debt=account.debt)
    for name, value in changes.items():
        setattr(account, name, value)
    return books.enter(account, "configured", now_ms, 0, [], asked, **changes)

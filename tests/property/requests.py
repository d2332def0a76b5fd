"""From a plan to an operation, verb by verb."""

from collections.abc import Callable
from typing import Any

import msgspec

from app.ledger.entries import Price
from app.ledger.operations import (
    Adjust,
    Balance,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Find,
    Grant,
    Locate,
    Operation,
    Refund,
    Reserve,
)
from tests.property.world import DAY_MS, TASKS, Amount, World

PRICE = msgspec.json.encode(
    Price(model="vendor/lip@2", version=3, base="0.5", price="123456789.000001", units="2")
).decode()


def grant(
    world: World, account: str, _: str | None, *,
    amount: Amount, bucket: str, priority: int | None, expires_in_ms: int | None, rollover: Amount | None,
) -> Operation:  # fmt: skip
    expires = 0 if expires_in_ms is None else max(1, world.now_ms + expires_in_ms)
    moved = rollover.on(world.ledger, account) if rollover else 0
    return Grant(
        account=account, amount=amount.on(world.ledger, account), bucket=bucket, priority=priority,
        expires_at_ms=expires, rollover=moved,
    )  # fmt: skip


def deduct(
    world: World, account: str, _: str | None, *, amount: Amount, model: str | None, priced: bool
) -> Operation:
    price = PRICE if priced else None
    return Deduct(account=account, amount=amount.on(world.ledger, account), model=model, price=price)


def reserve(
    world: World, account: str, words: str | None, *,
    amount: Amount, ttl_ms: int, holds_max: int, task: str | None, provider: str | None, model: str | None,
    over_capture: Any, on_expired: Any, priced: bool,
) -> Operation:  # fmt: skip
    id_ = world.new_reservation(account)
    world.reservations.append(id_)
    return Reserve(
        account=account, reservation=id_, amount=amount.on(world.ledger, account), ttl_ms=ttl_ms,
        holds_max=holds_max, task=task, provider=provider, resource=words, model=model,
        metadata={"Wörter": words} if words else None, over_capture=over_capture, on_expired=on_expired,
        price=PRICE if priced else None,
    )  # fmt: skip


def confirm(
    world: World, account: str, _: str | None, *,
    number: int, whole: bool, foreign: bool, amount: Amount | None, final: bool,
    over_capture: Any, on_expired: Any, model: str | None,
) -> Operation:  # fmt: skip
    id_, named = world.subject(number, account, whole=whole, foreign=foreign)
    hold = world.ledger.holds.get(id_)
    owner = hold.account if hold else account
    least = 0 if final else 1
    return Confirm(
        reservation=id_, account=named, final=final, over_capture=over_capture, on_expired=on_expired,
        amount=amount.on(world.ledger, owner, id_, least=least) if amount else None, model=model,
        key=None if final else f"part-{world.new_number()}",
    )  # fmt: skip


def cancel(
    world: World, account: str, words: str | None, *, number: int, whole: bool, foreign: bool, cause: Any
) -> Operation:
    id_, named = world.subject(number, account, whole=whole, foreign=foreign)
    return Cancel(reservation=id_, cause=cause, reason=words, account=named)


def extend(
    world: World, account: str, _: str | None, *,
    number: int, whole: bool, foreign: bool, ttl_ms: int, by_ms: int | None,
) -> Operation:  # fmt: skip
    """`by_ms`: so much off the deadline that there is."""
    id_, named = world.subject(number, account, whole=whole, foreign=foreign)
    hold = world.ledger.holds.get(id_)
    if hold and by_ms is not None:
        ttl_ms = max(1_000, min(DAY_MS, hold.deadline_ms - world.now_ms + by_ms))
    return Extend(reservation=id_, ttl_ms=ttl_ms, account=named)


def refund(
    world: World, account: str, _: str | None, *,
    number: int, by_reservation: bool, amount: Amount | None, bucket: str | None,
) -> Operation:  # fmt: skip
    originals = world.spent(account, number, by_reservation=by_reservation)
    if not originals:
        return Balance(account=account)
    left = sum(part for each in originals for _, _, part in each.left)
    left -= sum(each.refunded for each in originals)
    asked = amount.on(world.ledger, account, left=left) if amount else None
    return Refund(account=account, originals=originals, amount=asked, bucket=bucket)


def adjust(
    world: World, account: str, _: str | None, *,
    amount: Amount, upwards: bool, bucket: str | None, short: Any,
) -> Operation:  # fmt: skip
    by = amount.on(world.ledger, account)
    return Adjust(account=account, amount=by if upwards else -by, bucket=bucket, short=short)


def configure(
    world: World, account: str, _: str | None, *,
    overdraft_limit: Amount | None, status: Any, low_balance: int | None,
) -> Operation:  # fmt: skip
    limit = overdraft_limit.on(world.ledger, account, least=0) if overdraft_limit else None
    return Configure(account=account, overdraft_limit=limit, status=status, low_balance=low_balance)


def bind(
    world: World, account: str, words: str | None, *,
    number: int, whole: bool, foreign: bool, task: str | None, provider: str | None,
) -> Operation:  # fmt: skip
    id_, named = world.subject(number, account, whole=whole, foreign=foreign)
    return Bind(
        reservation=id_, task=task or TASKS[0], provider=provider, resource=words, account=named
    )  # fmt: skip


def balance(_: World, account: str, __: str | None, *, whole: bool) -> Operation:
    return Balance(account=account, open=whole)


def find(world: World, _: str, __: str | None, *, number: int) -> Operation:
    return Find(reservation=world.reservation(number))


def locate(_: World, __: str, ___: str | None, *, task: str | None, provider: str | None) -> Operation:
    return Locate(task=task or TASKS[0], provider=provider)


VERBS: dict[str, Callable[..., Operation]] = {
    each.__name__: each
    for each in (
        grant, deduct, reserve, confirm, cancel, extend, refund, adjust, configure, bind,
        balance, find, locate,
    )
}  # fmt: skip

"""deduct, reserve and bind: what a job begins with."""

from typing import Any

from app.ledger.operations import Bind, Deduct, Reserve
from app.ledger.replies import HeldLeg
from tests.reference.books import Books
from tests.reference.holds import Hold, price_of
from tests.reference.outcomes import Again, Line, No
from tests.reference.rungs import account_of, affords, hold_of, may_spend, not_closed, task_is_free


def deduct(books: Books, asked: Deduct, now_ms: int) -> Line:
    account = account_of(books, asked.account)
    may_spend(account)
    affords(account, asked.amount, account.overdraft_limit)
    facts = {"model": asked.model, "price": price_of(asked.price)}
    return books.enter(account, "deducted", now_ms, asked.amount, account.taken(asked.amount), asked, **facts)


def reserve(books: Books, asked: Reserve, now_ms: int) -> Line:
    """Set aside what is available; nothing is ever held on credit."""
    account = account_of(books, asked.account)
    may_spend(account)
    task_is_free(books, asked, now_ms)
    if len(account.open_holds) >= asked.holds_max:
        raise No("limit_reached", what="holds", limit=asked.holds_max)
    affords(account, asked.amount)
    taken = account.taken(asked.amount)
    hold = Hold(asked, now_ms, [HeldLeg(leg.bucket, leg.expires_at_ms, -leg.available) for leg in taken])
    policies: dict[str, Any] = {
        name: policy
        for name, policy in (("over_capture", asked.over_capture), ("on_expired", asked.on_expired))
        if policy != "reject"
    }
    line = books.enter(
        account, "reserved", now_ms, asked.amount,
        [leg.__class__(leg.bucket, leg.expires_at_ms, leg.available, -leg.available) for leg in taken], asked,
        deadline_ms=hold.deadline_ms, price=price_of(asked.price), **policies, **hold.references,
    )  # fmt: skip
    hold.reserved_sequence = line.sequence
    books.holds[hold.id] = hold
    books.await_deadline(hold)
    if asked.task is not None:
        hold.bound_sequence = line.sequence
        books.tasks[asked.provider, asked.task] = hold.id
    return line


def bind(books: Books, asked: Bind, now_ms: int) -> Line:
    """Once to a task, and once to a resource, whatever has become of the reservation."""
    hold = hold_of(books, asked.reservation, asked.account)
    account = books.accounts[hold.account]
    names_another_task = hold.task is not None and (hold.provider, hold.task) != (asked.provider, asked.task)
    names_resource = asked.resource is not None and asked.resource != hold.resource
    if hold.task is not None and not names_another_task and not names_resource:
        raise Again(books.line(hold, hold.bound_sequence))
    not_closed(account)
    if names_another_task or (hold.task is not None and names_resource and hold.resource):
        raise No("task_conflict", reservation=hold.id, task=hold.task or "")
    task_is_free(books, asked, now_ms)
    hold.task, hold.provider, hold.resource = asked.task, asked.provider, asked.resource or hold.resource
    named = {"reservation": hold.id, "task": hold.task, "provider": hold.provider}
    line = books.enter(account, "bound", now_ms, 0, [], asked, **named)
    hold.bound_sequence = line.sequence
    books.tasks[asked.provider, asked.task] = hold.id
    return line

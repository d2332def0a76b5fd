"""A call on its way: who waits for it, whether it may have run, and whom it is not sent for."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

from app.ledger import replies
from app.ledger.backing import Terms
from app.ledger.errors import LedgerError, LedgerFenced, LedgerUnavailable
from app.ledger.operations import Bind, Operation, Reserve
from app.ledger.replies import Declined, Reply

Answer = tuple[replies.Applied | replies.Located | Declined, Reply]
"""What one operation came to, and the reply in which it stands."""


def shards_of(operation: Operation) -> tuple[int, ...]:
    """The shards that an operation is decided by: its own, and that of the task it names."""
    if isinstance(operation, Reserve | Bind) and operation.task_shard >= 0:
        return operation.shard, operation.task_shard
    return (operation.shard,)


def fenced(operation: Operation, fences: Mapping[int, str]) -> LedgerFenced | None:
    """Why it is not to be sent, or `None`."""
    for shard in shards_of(operation):
        if shard in fences:
            return LedgerFenced(shard=shard, why=fences[shard])
    return None


class Ticket:
    """An operation on its way. `deadline` is on this process' monotonic clock."""

    __slots__ = ("answer", "deadline", "operation")

    def __init__(self, operation: Operation, answer: "asyncio.Future[Answer]", deadline: float) -> None:
        self.operation = operation
        self.answer = answer
        self.deadline = deadline

    def fail(self, error: type[LedgerError], why: str, **facts: str) -> None:
        """Tell whoever still waits."""
        if not self.answer.done():
            self.answer.set_exception(error(why=why, **facts))


def fail(tickets: Iterable[Ticket], why: str) -> None:
    """Tell all of them that the ledger is unavailable."""
    for ticket in tickets:
        ticket.fail(LedgerUnavailable, why)


class Flight:
    """A call from its first sending until its outcome is known or nobody waits for it any more.

    Once it may have run (`unknown`) it is repeated as it was, with those who no longer wait: the lane answers
    each operation by its place in the call. And only under the terms it was sent under.
    """

    __slots__ = ("number", "sent_under", "tickets", "unknown")

    def __init__(self, number: int, tickets: Sequence[Ticket]) -> None:
        self.number = number
        self.tickets = tickets
        self.unknown = False
        self.sent_under: Terms | None = None

    def is_awaited(self) -> bool:
        """Whether somebody still waits. Those whose time is up are told that no answer came."""
        now = time.monotonic()
        for ticket in self.tickets:
            if ticket.deadline < now:
                ticket.fail(LedgerUnavailable, "redis has not answered in time")
        if not self.unknown:
            self.tickets = [ticket for ticket in self.tickets if not ticket.answer.done()]
        return any(not ticket.answer.done() for ticket in self.tickets)

    def fail(self, error: type[LedgerError], why: str, **facts: str) -> None:
        for ticket in self.tickets:
            ticket.fail(error, why, **facts)

    def turn_away(self, fences: Mapping[int, str]) -> None:
        """Refuse those who ask a fenced shard: without its meta the whole call would be refused."""
        for ticket in self.tickets:
            error = fenced(ticket.operation, fences)
            if error is not None and not ticket.answer.done():
                ticket.answer.set_exception(error)
        self.tickets = [ticket for ticket in self.tickets if not ticket.answer.done()]

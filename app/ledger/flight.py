"""A call on its way: who waits for it, whether it may have run, and whom it is not sent for."""

import time
from collections.abc import Mapping, Sequence

from app.ledger.backing import Terms
from app.ledger.errors import BatchFailed, LedgerError, LedgerUnavailable
from app.ledger.tickets import Ticket, fenced


class Flight:
    """A call from its first sending until its outcome is known or nobody waits for it any more.

    Once it may have run (`unknown`) it is repeated as it was, with those who no longer wait: the lane answers
    each operation by its place in the call. And only under the terms it was sent under. An atomic one is
    always sent whole.
    """

    __slots__ = ("atomic", "number", "sent_under", "tickets", "unknown")

    def __init__(self, number: int, tickets: Sequence[Ticket]) -> None:
        self.number = number
        self.tickets = tickets
        self.atomic = tickets[0].atomic is not None
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
        errors: list[LedgerError | None] = [fenced(ticket.operation, fences) for ticket in self.tickets]
        if self.atomic and any(errors):
            errors = [error or BatchFailed() for error in errors]
        for ticket, error in zip(self.tickets, errors, strict=True):
            if error is not None and not ticket.answer.done():
                ticket.answer.set_exception(error)
        self.tickets = [ticket for ticket in self.tickets if not ticket.answer.done()]

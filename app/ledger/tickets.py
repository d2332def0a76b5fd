"""Operations on their way, and who waits for them: somebody for each, or somebody for a whole group."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from app.ledger.errors import LedgerError, LedgerFenced, LedgerUnavailable
from app.ledger.operations import Bind, Extend, Operation, Reserve
from app.ledger.replies import Applied, Declined, Located, Reply

# Structs that the garbage collector leaves alone (`gc=False`) are in no circle of references.

Result = Applied | Located | Declined
"""What one operation came to."""

Answer = tuple[Result, Reply]
"""The same, and the reply in which it stands."""

_OF_TASKS = frozenset({Reserve, Bind, Extend})


def shards_of(operation: Operation) -> tuple[int, ...]:
    """The shards that an operation is decided by: its own, and that of the task it names."""
    if type(operation) in _OF_TASKS and operation.task_shard >= 0:  # type: ignore[attr-defined]
        return operation.shard, operation.task_shard  # type: ignore[attr-defined]
    return (operation.shard,)


def fenced(operation: Operation, fences: Mapping[int, str]) -> LedgerFenced | None:
    """Why it is not to be sent, or `None`."""
    for shard in shards_of(operation):
        if shard in fences:
            return LedgerFenced(shard=shard, why=fences[shard])
    return None


class Ticket(Struct, eq=False, gc=False):
    """An operation on its way. `deadline` is on this process' monotonic clock. `atomic`: the group that it
    is carried with, or not at all.
    """

    operation: Operation
    answer: "asyncio.Future[Answer] | Share"
    deadline: float
    atomic: "Group | None" = None

    def fail(self, error: type[LedgerError], why: str, **facts: str) -> None:
        """Tell whoever still waits."""
        if not self.answer.done():
            self.answer.set_exception(error(why=why, **facts))


class Group:
    """Operations of which somebody awaits the whole: one future for all of them, because a future for each,
    and a task that wakes up for each, cost more than all the rest.
    """

    __slots__ = ("answer", "answers", "missing")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[list[Answer | LedgerError]] = loop.create_future()
        self.answers: list[Answer | LedgerError | None] = [None] * count
        self.missing = count

    def tickets(self, operations: Sequence[Operation], deadline: float, *, atomic: bool) -> list[Ticket]:
        """A ticket for each operation, in order."""
        together = self if atomic else None
        return [Ticket(each, Share(self, i), deadline, together) for i, each in enumerate(operations)]


class Share(Struct, eq=False, gc=False):
    """One operation's part in the answer of its group; used as the future of a single one is."""

    group: Group
    index: int

    def done(self) -> bool:
        group = self.group
        return group.answers[self.index] is not None or group.answer.done()

    def set_result(self, answer: Answer | LedgerError) -> None:
        """With the last one the whole is answered."""
        group = self.group
        group.answers[self.index] = answer
        group.missing -= 1
        if not group.missing and not group.answer.done():
            group.answer.set_result(group.answers)  # type: ignore[arg-type]

    set_exception = set_result


def fail(tickets: Iterable[Ticket], why: str) -> None:
    """Tell all of them that the ledger is unavailable."""
    for ticket in tickets:
        ticket.fail(LedgerUnavailable, why)

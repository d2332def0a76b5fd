"""Operations on their way, and who waits for them: somebody for each, or somebody for a whole group."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from app.ledger.errors import LedgerError, LedgerFenced, LedgerUnavailable
from app.ledger.operations import Bind, Extend, Operation, Reserve
from app.ledger.replies import Applied, Declined, Located, Reply

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


class Ticket:
    """An operation on its way. `deadline` is on this process' monotonic clock. `atomic`: the group that it
    is carried with or not at all.
    """

    __slots__ = ("answer", "deadline", "operation")

    atomic: ClassVar["Group | None"] = None

    def __init__(
        self, operation: Operation, answer: "asyncio.Future[Answer] | Share", deadline: float
    ) -> None:
        self.operation = operation
        self.answer = answer
        self.deadline = deadline

    def fail(self, error: type[LedgerError], why: str, **facts: str) -> None:
        """Tell whoever still waits."""
        if not self.answer.done():
            self.answer.set_exception(error(why=why, **facts))


class BoundTicket(Ticket):
    """An operation of a group of which all are carried, or none."""

    __slots__ = ("atomic",)

    def __init__(self, operation: Operation, answer: "Share", deadline: float, group: "Group") -> None:
        super().__init__(operation, answer, deadline)
        self.atomic = group  # type: ignore[misc]


class Group:
    """Operations of which somebody awaits the whole: one future for all of them, because a future for each,
    and a task that wakes up for each, cost more than all the rest.
    """

    __slots__ = ("_answers", "_missing", "answer")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[list[Answer | LedgerError]] = loop.create_future()
        self._answers: list[Answer | LedgerError | None] = [None] * count
        self._missing = count

    def tickets(self, operations: Sequence[Operation], deadline: float, *, atomic: bool) -> list[Ticket]:
        """A ticket for each operation, in order."""
        if atomic:
            return [BoundTicket(each, Share(self, i), deadline, self) for i, each in enumerate(operations)]
        return [Ticket(each, Share(self, i), deadline) for i, each in enumerate(operations)]

    def has(self, index: int) -> bool:
        """Whether nobody waits for this one any more."""
        return self._answers[index] is not None or self.answer.done()

    def put(self, index: int, answer: Answer | LedgerError) -> None:
        """The answer to one of them; with the last one the whole is answered."""
        self._answers[index] = answer
        self._missing -= 1
        if not self._missing and not self.answer.done():
            self.answer.set_result(self._answers)  # type: ignore[arg-type]


class Share:
    """One operation's part in the answer of its group; used as the future of a single one is."""

    __slots__ = ("_group", "_index")

    def __init__(self, group: Group, index: int) -> None:
        self._group = group
        self._index = index

    def done(self) -> bool:
        return self._group.has(self._index)

    def set_result(self, answer: Answer) -> None:
        self._group.put(self._index, answer)

    def set_exception(self, error: LedgerError) -> None:
        self._group.put(self._index, error)


def fail(tickets: Iterable[Ticket], why: str) -> None:
    """Tell all of them that the ledger is unavailable."""
    for ticket in tickets:
        ticket.fail(LedgerUnavailable, why)

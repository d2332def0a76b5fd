"""Operations travel together: one call in flight, and what arrives meanwhile is the next one."""

import asyncio
import time
from collections.abc import Sequence

from redis.asyncio import Redis

from app.ledger.backing import Backing
from app.ledger.clock import Clock
from app.ledger.connection import is_cluster
from app.ledger.errors import MEMORY, QUEUE, LedgerError, LedgerUnavailable, Overloaded
from app.ledger.line import Line
from app.ledger.operations import Deduct, Grant, Operation, Reserve
from app.ledger.replicas import Replicas
from app.ledger.scripts import Script
from app.ledger.serving import Serving
from app.ledger.shared import Limits, Shared
from app.ledger.tally import Tally
from app.ledger.tickets import Answer, Group, Ticket, fenced

__all__ = ["Batcher", "Limits"]

_SPENDS = frozenset({Grant, Deduct, Reserve})


class Batcher:
    """The only sender of calls in this process, for any number of tasks.

    `clock`: Redis' time; of a cluster's servers, that of the one whose clock is ahead.
    """

    def __init__(
        self,
        redis: Redis,
        script: Script,
        backing: Backing,
        limits: Limits,
        replicas: Replicas | None = None,
    ) -> None:
        self.memory_is_short = False
        self.serving = Serving(backing)
        self.clock = Clock(redis)
        self.tally = Tally()
        self.is_cluster = is_cluster(redis)
        self._shared = Shared(redis, script, self.serving, self.tally, limits)
        self._limits = limits
        self._replicas = replicas
        self._started = False
        self._lines: dict[int, Line] = {}
        self._only = None if self.is_cluster else self._new_line(self.clock, replicas, 0)

    @property
    def waiting(self) -> int:
        """How many operations wait for the calls in flight."""
        return sum(len(line.waiting) for line in self._lines.values())

    @property
    def request_seconds(self) -> float:
        """How long an operation waits for its answer."""
        return self._limits.request_seconds

    async def now_ms_of(self, shard: int) -> int:
        """Redis' time where a shard is.

        Raises:
            LedgerUnavailable: It has not been told yet, and that Redis is away.
        """
        clock = (self._only or self._line_of(shard)).clock
        await clock.learn()
        return clock.now_ms()

    def start(self) -> None:
        """Begin to carry. Redis and PostgreSQL need not be there yet."""
        self._loop = asyncio.get_running_loop()
        self._started = True
        for line in self._lines.values():
            line.start()

    async def stop(self) -> None:
        """Finish what is waiting, for at most as long as a request may take, then end."""
        self._started = False
        await asyncio.gather(*(line.stop() for line in self._lines.values()))

    def submit(self, operation: Operation) -> "asyncio.Future[Answer]":
        """Carry one operation, whose `shard` (and `task_shard`) must be set. Await what is returned.

        Raises:
            Overloaded: The waiting queue is full, or Redis has little memory left; nothing was sent.
            LedgerFenced: PostgreSQL says that the shard must not be served.
            LedgerUnavailable: No definite answer in time. It may have been applied: repeat with the same key.
            InternalError: The script failed on it; nothing was written.
        """
        line = self._only or self._line_of(operation.shard)
        if len(line.waiting) >= self._limits.queue_max:
            raise Overloaded(cause=QUEUE)
        if self.memory_is_short and type(operation) in _SPENDS:
            raise Overloaded(cause=MEMORY)
        if not self._started:
            raise LedgerUnavailable(why="the service is stopping")
        terms = self.serving.terms
        if terms is not None and terms.fences:
            error = fenced(operation, terms.fences)
            if error is not None:
                raise error
        answer: asyncio.Future[Answer] = self._loop.create_future()
        line.waiting.append(Ticket(operation, answer, time.monotonic() + self._limits.request_seconds))
        line.wake()
        return answer

    def submit_all(
        self, operations: Sequence[Operation], *, atomic: bool = False
    ) -> "asyncio.Future[list[Answer | LedgerError]]":
        """Carry a group in its order, as `submit` does; what is returned has an answer or an error for each.

        Args:
            operations: At least one. They may travel in several calls, and others between them; on a cluster
                those of one shard keep their order.
            atomic: All of them are carried out, or none; they travel in one call, at most 1000. On a cluster
                they are of one shard.

        Raises:
            Overloaded, LedgerUnavailable: Nothing was sent.
        """
        if not self._started:
            raise LedgerUnavailable(why="the service is stopping")
        group = Group(len(operations), self._loop)
        deadline = time.monotonic() + self._limits.request_seconds
        joining = self._cut(group.tickets(operations, deadline, atomic=atomic))
        if any(len(line.waiting) + len(tickets) > self._limits.queue_max for line, tickets in joining):
            raise Overloaded(cause=QUEUE)
        if self.memory_is_short:
            joining = [(line, _without_new_work(tickets, atomic=atomic)) for line, tickets in joining]
        for line, tickets in joining:
            line.waiting.join(tickets)
            line.wake()
        return group.answer

    def _cut(self, tickets: list[Ticket]) -> list[tuple[Line, list[Ticket]]]:
        """Who joins which line, in their order."""
        if self._only is not None:
            return [(self._only, tickets)]
        by_shard: dict[int, list[Ticket]] = {}
        for ticket in tickets:
            by_shard.setdefault(ticket.operation.shard, []).append(ticket)
        return [(self._line_of(shard), of_shard) for shard, of_shard in by_shard.items()]

    def _line_of(self, shard: int) -> Line:
        """Of a cluster: the line of a shard begins with its first operation."""
        line = self._lines.get(shard)
        if line is None:
            clock = Clock(self._shared.redis, shard, self.clock)
            replicas = self._replicas.another() if self._replicas is not None else None
            line = self._new_line(clock, replicas, shard)
            if self._started:
                line.start()
        return line

    def _new_line(self, clock: Clock, replicas: Replicas | None, shard: int) -> Line:
        line = self._lines[shard] = Line(self._shared, clock, replicas, shard)
        return line


def _without_new_work(tickets: list[Ticket], *, atomic: bool) -> list[Ticket]:
    """What may be sent while memory is short; the rest is told so."""
    spending = [ticket for ticket in tickets if type(ticket.operation) in _SPENDS]
    if atomic and spending:
        raise Overloaded(cause=MEMORY)
    for ticket in spending:
        ticket.answer.set_exception(Overloaded(cause=MEMORY))
    return [ticket for ticket in tickets if not ticket.answer.done()]

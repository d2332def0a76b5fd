"""Operations travel together: one call in flight, and what arrives meanwhile is the next one."""

import asyncio
import logging
import time
from collections.abc import Sequence

from msgspec import Struct
from redis.asyncio import Redis

from app.ledger.backing import Backing
from app.ledger.carrier import Carrier
from app.ledger.errors import MEMORY, QUEUE, LedgerError, LedgerUnavailable, Overloaded
from app.ledger.operations import Deduct, Grant, Operation, Reserve
from app.ledger.replicas import Replicas
from app.ledger.scripts import Script
from app.ledger.tickets import Answer, Group, Ticket, fail, fenced
from app.ledger.waiting import Waiting

log = logging.getLogger(__name__)

_SPENDS = frozenset({Grant, Deduct, Reserve})


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of one process, and of the journal's backlog in each shard."""

    queue_max: int = 10_000
    batch_operations_max: int = 256
    request_seconds: float = 5.0
    backlog_max: int = 1_000_000
    backlog_bytes_max: int = 268_435_456


class Batcher:
    """The only sender of calls in this process, for any number of tasks."""

    def __init__(
        self,
        redis: Redis,
        script: Script,
        backing: Backing,
        limits: Limits,
        replicas: Replicas | None = None,
    ) -> None:
        self.memory_is_short = False
        self._limits = limits
        self._replicas = replicas
        self._waiting = Waiting()
        self._carrier = Carrier(
            redis,
            script,
            backing,
            self._waiting,
            replicas,
            backlog_max=limits.backlog_max,
            backlog_bytes_max=limits.backlog_bytes_max,
        )
        self.serving = self._carrier.serving
        self.clock = self._carrier.clock
        self.tally = self._carrier.tally
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many operations wait for the call in flight."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to carry. Redis and PostgreSQL need not be there yet."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="lastro-batcher")
        if self._replicas is not None:
            self._replicas.start()

    async def stop(self) -> None:
        """Finish what is waiting, for at most as long as a request may take, then end."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self._wake.set()
        ends = time.monotonic() + self._limits.request_seconds
        _, pending = await asyncio.wait({task}, timeout=self._limits.request_seconds)
        for each in pending:
            each.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._waiting.fail("the service is stopping")
        if self._replicas is not None:
            await self._replicas.stop(ends - time.monotonic())

    def submit(self, operation: Operation) -> "asyncio.Future[Answer]":
        """Carry one operation, whose `shard` (and `task_shard`) must be set. Await what is returned.

        Raises:
            Overloaded: The waiting queue is full, or Redis has little memory left; nothing was sent.
            LedgerFenced: PostgreSQL says that the shard must not be served.
            LedgerUnavailable: No definite answer in time. It may have been applied: repeat with the same key.
            InternalError: The script failed on it; nothing was written.
        """
        if len(self._waiting) >= self._limits.queue_max:
            raise Overloaded(cause=QUEUE)
        if self.memory_is_short and type(operation) in _SPENDS:
            raise Overloaded(cause=MEMORY)
        if self._task is None:
            raise LedgerUnavailable(why="the service is stopping")
        terms = self.serving.terms
        if terms is not None and terms.fences:
            error = fenced(operation, terms.fences)
            if error is not None:
                raise error
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append(Ticket(operation, answer, time.monotonic() + self._limits.request_seconds))
        self._wake.set()
        return answer

    def submit_all(
        self, operations: Sequence[Operation], *, atomic: bool = False
    ) -> "asyncio.Future[list[Answer | LedgerError]]":
        """Carry a group in its order, as `submit` does; what is returned has an answer or an error for each.

        Args:
            operations: At least one. They may travel in several calls, and others between them.
            atomic: All of them are carried out, or none; they travel in one call, at most 1000.

        Raises:
            Overloaded, LedgerUnavailable: Nothing was sent.
        """
        if len(self._waiting) + len(operations) > self._limits.queue_max:
            raise Overloaded(cause=QUEUE)
        if self._task is None:
            raise LedgerUnavailable(why="the service is stopping")
        group = Group(len(operations), self._loop)
        deadline = time.monotonic() + self._limits.request_seconds
        tickets = group.tickets(operations, deadline, atomic=atomic)
        if self.memory_is_short:
            tickets = _without_new_work(tickets, atomic=atomic)
        self._waiting.join(tickets)
        self._wake.set()
        return group.answer

    async def _run(self) -> None:
        while self._waiting or self._task is not None:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            if self._replicas is not None and self._replicas.waiting >= self._limits.queue_max:
                await self._replicas.calm()
            tickets = self._waiting.take(self._limits.batch_operations_max)
            try:
                await self._carrier.carry(tickets)
            except asyncio.CancelledError:
                fail(tickets, "the service is stopping")
                raise
            except Exception:
                log.exception("the batcher met an error of its own")
                fail(tickets, "the batcher met an error of its own")


def _without_new_work(tickets: list[Ticket], *, atomic: bool) -> list[Ticket]:
    """What may be sent while memory is short; the rest is told so."""
    spending = [ticket for ticket in tickets if type(ticket.operation) in _SPENDS]
    if atomic and spending:
        raise Overloaded(cause=MEMORY)
    for ticket in spending:
        ticket.answer.set_exception(Overloaded(cause=MEMORY))
    return [ticket for ticket in tickets if not ticket.answer.done()]

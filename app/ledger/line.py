"""A queue before the script, and who carries what waits in it: one call in flight, the next behind it.

A single server has one, for all shards. On a cluster a call can serve one shard only, so that each shard has
its own: queue, lane, clock and bound. A server that does not answer keeps nobody else waiting.
"""

import asyncio
import logging
import time

from app.ledger.carrier import Carrier
from app.ledger.clock import Clock
from app.ledger.replicas import Replicas
from app.ledger.shared import Shared
from app.ledger.tickets import fail
from app.ledger.waiting import Waiting

log = logging.getLogger(__name__)


class Line:
    """Carries what waits, in its order, until it is stopped. Whoever joins `waiting` wakes it.

    Args:
        clock: Of the server that is called.
        replicas: Used by no other line.
        shard: Where the lane is kept.
    """

    def __init__(self, shared: Shared, clock: Clock, replicas: Replicas | None, shard: int) -> None:
        self.clock = clock
        self.waiting = Waiting()
        self._limits = shared.limits
        self._replicas = replicas
        self._carrier = Carrier(shared, clock, self.waiting, replicas, shard)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to carry. Redis and PostgreSQL need not be there yet."""
        self._task = asyncio.create_task(self._run(), name="lastro-line")
        if self._replicas is not None:
            self._replicas.start()

    def wake(self) -> None:
        """Somebody has joined."""
        self._wake.set()

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
        self.waiting.fail("the service is stopping")
        if self._replicas is not None:
            await self._replicas.stop(ends - time.monotonic())

    async def _run(self) -> None:
        while self.waiting or self._task is not None:
            if not self.waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            if self._replicas is not None and self._replicas.waiting >= self._limits.queue_max:
                await self._replicas.calm()
            tickets = self.waiting.take(self._limits.batch_operations_max)
            try:
                await self._carrier.carry(tickets)
            except asyncio.CancelledError:
                fail(tickets, "the service is stopping")
                raise
            except Exception:
                log.exception("the batcher met an error of its own")
                fail(tickets, "the batcher met an error of its own")

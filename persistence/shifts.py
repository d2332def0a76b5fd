"""What a worker does beside its jobs: each kind by connections of its own, so that none waits for others."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol

from redis.asyncio import Redis

from app.ledger.connection import connect
from app.ledger.ledger import Ledger
from app.webhooks.configured import read_units
from persistence.asking import Asking
from persistence.cleaning.cleaning import PostgresCleaning
from persistence.events.telling import Telling
from persistence.monitoring.following import Following
from persistence.pool import Pool, pooled
from persistence.shift import Shift
from persistence.told import Work

Turn = Callable[[], Awaitable[float]]
"""Does what there is to do now, and says for how many seconds nothing need be done."""

CLOSE_SECONDS = 1.0


class Watching(Protocol):
    """Watches and tells (`persistence.alerts`). It looks at workers too, so that they do not import it."""

    async def turn(self) -> float:
        """See `Turn`."""
        ...

    async def stop(self) -> None:
        """Let go of what was begun."""
        ...


Watch = Callable[[Pool, Redis], Watching]


class Shifts:
    """The shifts of one worker, by the names of the jobs that call for them. Closed with `stack`.

    Args:
        work: What the worker has been told.
        ledger: Its ledger, started.
        pool: For short questions.
        noted: Makes a turn whose trouble the worker notes, under the name of the job.
        stack: Of the worker.
    """

    def __init__(
        self,
        work: Work,
        ledger: Ledger,
        pool: Pool,
        noted: Callable[[str, Turn], Turn],
        stack: AsyncExitStack,
    ) -> None:
        self._work = work
        self._ledger = ledger
        self._pool = pool
        self._noted = noted
        self._stack = stack
        self._shifts: dict[str, Shift] = {}

    async def open(self, watch: Watch | None) -> None:
        """Make ready what there is to do for this worker. `watch`: see `Workbench`."""
        await self._events()
        await self._cleanup()
        await self._monitoring()
        if watch is not None:
            await self._alerts(watch)
        if self._work.poll_keys:
            await self._ask()

    def call_for(self, job: str) -> None:
        """Have it done in the next seconds, where this worker does it."""
        if job in self._shifts:
            self._shifts[job].call_for()

    async def _events(self) -> None:
        pool = await self._opened("events", 3)
        telling = await self._stack.enter_async_context(Telling(pool, private=self._work.events_to_private))
        self._add("events", telling.turn, telling.stop)

    async def _cleanup(self) -> None:
        work, pool = self._work, await self._opened("cleanup", 2)
        cleaning = PostgresCleaning(
            pool,
            self._ledger,
            await self._redis(),
            days=work.retention_days,
            interval_seconds=work.cleanup_seconds,
        )
        self._add("cleanup", cleaning.turn, cleaning.rest)

    async def _monitoring(self) -> None:
        following = Following(await self._opened("monitoring", 1), await self._redis())
        self._add("monitoring", following.turn, following.stop)

    async def _alerts(self, watch: Watch) -> None:
        watching = watch(await self._opened("alerts", 3), await self._redis())
        self._add("alerts", watching.turn, watching.stop)

    async def _ask(self) -> None:
        work = self._work
        units = read_units(work.webhook_units)
        asking = Asking(self._pool, self._ledger, work.poll_keys, units)
        await self._stack.enter_async_context(asking)
        self._add("ask", asking.turn, asking.stop)

    def _add(self, job: str, turn: Turn, end: Callable[[], Awaitable[None]]) -> None:
        self._shifts[job] = Shift(job, self._noted(job, turn), end)
        self._stack.push_async_callback(self._shifts[job].stop)

    async def _opened(self, of: str, connections: int) -> Pool:
        return await self._stack.enter_async_context(
            pooled(
                self._work.database_url,
                connections_max=connections,
                name=f"lastro {of}",
                close_seconds=CLOSE_SECONDS,
            )
        )

    async def _redis(self) -> Redis:
        return await self._stack.enter_async_context(connect(self._work.redis_url))

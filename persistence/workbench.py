"""What a worker's jobs work with: PostgreSQL, Redis and a ledger, open for as long as the process lives.

RQ blocks and is told by signals; what it runs is asyncio. So the jobs' event loop turns in a thread of its
own, and the main thread, where Python delivers signals, only waits for it: a slice is told to end the moment
the signal comes, and what the connections have to do between two jobs they do.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

import uvloop
from asyncpg import InterfaceError, InternalClientError, PostgresError
from redis.exceptions import RedisError

from app.ledger.backing import BackingUnavailable, NotAdmitted
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerError
from app.ledger.ledger import Ledger
from app.ledger.stream import Keep
from app.webhooks.configured import read_units
from app.webhooks.receiving import Rules
from persistence import admission, served
from persistence.backing import PostgresBacking
from persistence.backup.scheduled import backup_slice
from persistence.drain import drain
from persistence.inbox.retrying import Position, retry_slice
from persistence.months import make_ahead
from persistence.operators import Announcer
from persistence.pool import Pool, answering, pooled
from persistence.reconcile.sides import Behind
from persistence.reconcile.sighting import NotExaminable
from persistence.reconcile.slice import reconcile_slice
from persistence.shift import AGAIN_SECONDS
from persistence.shifts import CLOSE_SECONDS, Shifts, Turn, Watch
from persistence.told import Work

STOP_SECONDS = 3.0
SIGNAL_SECONDS = 0.25

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

AWAY = (BackingUnavailable, NotAdmitted, LedgerError, RedisError, OSError, TimeoutError)
"""What ends a job early and is made good by the next one."""


class Workbench:
    """Opened and closed by the main thread, which also runs the jobs, one at a time.

    Args:
        work: What a worker has to be told.
        watch: Makes who watches and tells, over the ledger's Redis; without, nothing is watched.
    """

    def __init__(self, work: Work, watch: Watch | None = None) -> None:
        self._work = work
        self._watch = watch
        self._opened: futures.Future[None] = futures.Future()
        self._thread = threading.Thread(target=self._turn, name="workbench", daemon=True)
        self._troubles: dict[str, str] = {}
        self._announcer = Announcer()
        self._retried = Position()
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._closing: asyncio.Event
        self._pool: Pool
        self._backing: PostgresBacking
        self._ledger: Ledger
        self._shifts: Shifts

    def open(self) -> None:
        """Returns when jobs can be run. Redis and PostgreSQL need not be there yet."""
        self._thread.start()
        self._opened.result()

    def close(self) -> None:
        """End what still runs and let go of all connections."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def ask_to_stop(self) -> None:
        """Make the job that runs end early, and well. From any thread, and from a signal handler.

        Where servers hang so that it does not, the process ends all the same: a crash costs nothing.
        """
        self._loop.call_soon_threadsafe(self._stopping.set)
        ending = threading.Timer(STOP_SECONDS, os._exit, (1,))  # not of the loop, which may be what hangs
        ending.daemon = True
        ending.start()

    def run(self, job: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """The result of a job; whatever interrupts the waiting cancels it."""
        running = asyncio.run_coroutine_threadsafe(job(), self._loop)
        try:
            # A signal that comes just when a thread begins to wait is heard when it ends waiting.
            while not futures.wait((running,), SIGNAL_SECONDS).done:
                pass
            return running.result()
        finally:
            running.cancel()

    async def journal(self) -> int:
        """A slice of journaling: drain the shards that nobody else drains. Returns how many rows it wrote.

        A request to stop cuts it off wherever it is, as a crash would, which is safe anywhere.
        """
        work = self._work
        keep = Keep(work.stream_keep_seconds * 1000, work.stream_keep_bytes)
        draining = asyncio.create_task(
            drain(work.database_url, work.redis_url, work.slice_seconds, keep=keep), name="drain"
        )
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        try:
            await asyncio.wait({draining, stopping}, return_when=asyncio.FIRST_COMPLETED)
            rows = draining.result().rows if draining.done() else 0
        except AWAY as error:
            self._note("journal", error)
            return 0
        else:
            self._note("journal", None)
            return rows
        finally:
            draining.cancel()
            stopping.cancel()
            await asyncio.wait({draining, stopping})

    async def reconcile(self) -> bool:
        """A slice of reconciliation. Returns whether there was anything to do."""
        work = self._work
        keep = Keep(work.stream_keep_seconds * 1000, work.stream_keep_bytes)
        comparing = asyncio.create_task(
            reconcile_slice(work.database_url, work.redis_url, keep=keep, seconds=work.slice_seconds),
            name="reconcile",
        )
        try:
            done = await self._until_stopped(comparing)
        except (*AWAY, PostgresError, InterfaceError, InternalClientError, Behind, NotExaminable) as error:
            self._note("reconcile", error)
            return False
        self._note("reconcile", None)
        return done is not None

    async def backup(self) -> bool:
        """A slice of the backup that is due, where this worker has a folder for it. Returns whether there was
        anything to do.
        """
        work = self._work
        if work.backups is None:
            return False
        taking = asyncio.create_task(
            backup_slice(work.database_url, work.backups, work.slice_seconds), name="backup"
        )
        try:
            done = await self._until_stopped(taking)
        except (*AWAY, PostgresError, InterfaceError, InternalClientError) as error:
            self._note("backup", error)
            return False
        self._note("backup", None)
        return bool(done)

    async def call_for(self, job: str) -> None:
        """Have a shift go on for the next seconds, beside whatever else is done."""
        self._shifts.call_for(job)

    async def webhooks(self) -> int:
        """A slice of what stands in the inbox and is not settled. Returns how much was settled."""
        work = self._work
        rules = Rules(read_units(work.webhook_units), work.webhook_takes_back)
        settling = asyncio.create_task(
            retry_slice(self._pool, self._ledger, rules, work.slice_seconds, self._retried), name="webhooks"
        )
        try:
            done = await self._until_stopped(settling)
        except (*AWAY, PostgresError, InterfaceError, InternalClientError) as error:
            self._note("webhooks", error)
            return 0
        self._note("webhooks", None)
        return done or 0

    async def months(self) -> int:
        """Make the months of the journal that will be needed. Returns how many."""
        try:
            async with answering(self._pool) as connection:
                made = await make_ahead(connection)
        except (*AWAY, PostgresError, InterfaceError, InternalClientError) as error:
            self._note("months", error)
            return 0
        self._note("months", None)
        return len(made)

    async def _until_stopped(self, task: "asyncio.Task[_Result]") -> _Result | None:
        """What a task comes to; `None` when a request to stop came first, which cuts it off."""
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.wait({task, stopping})

    async def sweep(self) -> int:
        """Let what is due happen, in every shard that is not fenced. Returns how many shards there were."""
        ledger = self._ledger
        try:
            terms = await self._backing.admit()
            ledger.adopt(terms)
            self._announcer.heed(terms.fences)
            await served.note(self._pool, served.alive(terms))
        except AWAY as error:
            self._note("sweep", error)
            if ledger.terms is None:
                return 0
        assert ledger.terms is not None
        shards = [shard for shard in range(ledger.terms.shards) if shard not in ledger.terms.fences]
        outcomes = await asyncio.gather(*map(ledger.pass_time, shards), return_exceptions=True)
        troubles = [each for each in outcomes if each is not None]
        for trouble in troubles:
            if not isinstance(trouble, AWAY):
                raise trouble
        self._note("sweep", troubles[0] if troubles else None)
        return len(outcomes) - len(troubles)

    def _note(self, job: str, trouble: BaseException | None) -> None:
        """Log what keeps a job from its work, once until it changes or is over."""
        said = "" if trouble is None else f"{type(trouble).__name__}: {trouble}"
        if said != self._troubles.get(job, ""):
            self._troubles[job] = said
            if said:
                _log.warning("%s: %s", job, said)
            else:
                _log.warning("%s: works again", job)

    def _turn(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            if not self._opened.done():
                self._opened.set_exception(error)
                return
            raise

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping, self._closing = asyncio.Event(), asyncio.Event()
        work = self._work
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(
                pooled(
                    work.database_url, connections_max=2, name="lastro worker", close_seconds=CLOSE_SECONDS
                )
            )
            redis = await stack.enter_async_context(connect(work.redis_url))
            aside = await stack.enter_async_context(connect(work.redis_url))
            self._pool = pool
            self._backing = PostgresBacking(pool, partial(admission.admit, pool, aside))
            self._ledger = Ledger(redis, self._backing, Limits(request_seconds=CLOSE_SECONDS))
            await self._ledger.start()
            stack.push_async_callback(self._ledger.stop)
            self._shifts = Shifts(work, self._ledger, pool, self._noted, stack)
            await self._shifts.open(self._watch)
            self._opened.set_result(None)
            await self._closing.wait()

    def _noted(self, job: str, turn: Turn) -> Turn:
        """The turn, whose trouble is noted and is over with the next."""

        async def noted() -> float:
            try:
                seconds = await turn()
            except AWAY as error:
                self._note(job, error)
                return AGAIN_SECONDS
            self._note(job, None)
            return seconds

        return noted

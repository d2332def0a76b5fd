"""What a worker's jobs work with: PostgreSQL, Redis and a ledger, open for as long as the process lives.

RQ blocks and is told by signals; what it runs is asyncio. So the jobs' event loop turns in a thread of its
own, and the main thread, where Python delivers signals, only waits for it: a slice is told to end the moment
the signal comes, and what the connections have to do between two jobs they do.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent import futures
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop
from asyncpg import InterfaceError, InternalClientError, PostgresError
from msgspec import Struct
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
from persistence.asking import Asking
from persistence.backing import PostgresBacking
from persistence.backup.scheduled import Plan, backup_slice
from persistence.cleaning.cleaning import PostgresCleaning
from persistence.drain import drain
from persistence.events.telling import Telling
from persistence.inbox.retrying import Position, retry_slice
from persistence.monitoring.following import Following
from persistence.operators import Announcer
from persistence.pool import Pool, open_pool
from persistence.reconcile.sides import Behind
from persistence.reconcile.sighting import NotExaminable
from persistence.reconcile.slice import reconcile_slice
from persistence.shift import AGAIN_SECONDS, Shift

if TYPE_CHECKING:  # it looks at workers, too
    from redis.asyncio import Redis

    from persistence.alerts.watching import Watching

    Watch = Callable[[Pool, Redis], Watching]

SLICE_SECONDS = 2.0
CLOSE_SECONDS = 1.0
STOP_SECONDS = 3.0
SIGNAL_SECONDS = 0.25

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

AWAY = (BackingUnavailable, NotAdmitted, LedgerError, RedisError, OSError, TimeoutError)
"""What ends a job early and is made good by the next one."""


class Work(Struct, frozen=True, kw_only=True):
    """What a worker process has to be told.

    `queue_url` is the Redis of RQ's queues, `redis_url` the ledger's; they may be the same server.
    """

    redis_url: str
    queue_url: str
    database_url: str
    stream_keep_seconds: int = 3600
    stream_keep_bytes: int = 268_435_456
    retention_days: int = 90
    cleanup_seconds: int = 600
    backups: Plan | None = None
    events_to_private: bool = False
    poll_keys: dict[str, str] = {}
    webhook_units: str = ""
    webhook_takes_back: bool = False
    slice_seconds: float = SLICE_SECONDS


class Workbench:
    """Opened and closed by the main thread, which also runs the jobs, one at a time.

    Args:
        work: What a worker has to be told.
        watch: Makes who watches and tells, over the ledger's Redis; without, nothing is watched.
    """

    def __init__(self, work: Work, watch: "Watch | None" = None) -> None:
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
        self._telling: Shift
        self._cleaning: Shift
        self._counting: Shift
        self._watching: Shift | None = None
        self._asking: Shift | None = None

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

    async def events(self) -> None:
        """Have what happens told to whom it interests, for the next seconds, beside whatever else is done."""
        self._telling.call_for()

    async def monitoring(self) -> None:
        """Have what the journal has got counted, for the next seconds, beside whatever else is done."""
        self._counting.call_for()

    async def alerts(self) -> None:
        """Have what is watched judged, in the next seconds, beside whatever else is done."""
        if self._watching is not None:
            self._watching.call_for()

    async def cleanup(self) -> None:
        """Have clean-up done when it is due, in the next seconds, beside whatever else is done."""
        self._cleaning.call_for()

    async def ask(self) -> None:
        """Have silent providers asked, where this worker has keys for that, for the next seconds."""
        if self._asking is not None:
            self._asking.call_for()

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
            if terms.server and not terms.refused:
                await served.note(self._pool, terms.server)
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
        async with AsyncExitStack() as stack:
            pool = await open_pool(self._work.database_url, connections_max=2, name="lastro worker")
            stack.push_async_callback(_close, pool)
            redis = await stack.enter_async_context(connect(self._work.redis_url))
            aside = await stack.enter_async_context(connect(self._work.redis_url))
            self._pool = pool
            self._backing = PostgresBacking(pool, partial(admission.admit, pool, aside))
            self._ledger = Ledger(redis, self._backing, Limits(request_seconds=CLOSE_SECONDS))
            await self._ledger.start()
            stack.push_async_callback(self._ledger.stop)
            self._telling = await self._shift_of_events(stack)
            self._cleaning = await self._shift_of_cleaning(stack)
            self._counting = await self._shift_of_monitoring(stack)
            if self._watch is not None:
                self._watching = await self._shift_of_alerts(stack, self._watch)
            if self._work.poll_keys:
                self._asking = await self._shift_of_questions(stack)
            self._opened.set_result(None)
            await self._closing.wait()

    async def _shift_of_events(self, stack: AsyncExitStack) -> Shift:
        pool = await open_pool(self._work.database_url, connections_max=3, name="lastro events")
        stack.push_async_callback(_close, pool)
        telling = await stack.enter_async_context(Telling(pool, private=self._work.events_to_private))
        shift = Shift("events", partial(self._turn_of, "events", telling.turn), telling.stop)
        stack.push_async_callback(shift.stop)
        return shift

    async def _shift_of_monitoring(self, stack: AsyncExitStack) -> Shift:
        pool = await open_pool(self._work.database_url, connections_max=1, name="lastro monitoring")
        stack.push_async_callback(_close, pool)
        redis = await stack.enter_async_context(connect(self._work.redis_url))
        following = Following(pool, redis)
        shift = Shift("monitoring", partial(self._turn_of, "monitoring", following.turn), following.stop)
        stack.push_async_callback(shift.stop)
        return shift

    async def _shift_of_alerts(self, stack: AsyncExitStack, watch: "Watch") -> Shift:
        pool = await open_pool(self._work.database_url, connections_max=3, name="lastro alerts")
        stack.push_async_callback(_close, pool)
        watching = watch(pool, await stack.enter_async_context(connect(self._work.redis_url)))
        shift = Shift("alerts", partial(self._turn_of, "alerts", watching.turn), watching.stop)
        stack.push_async_callback(shift.stop)
        return shift

    async def _shift_of_cleaning(self, stack: AsyncExitStack) -> Shift:
        work = self._work
        pool = await open_pool(work.database_url, connections_max=2, name="lastro cleanup")
        stack.push_async_callback(_close, pool)
        redis = await stack.enter_async_context(connect(work.redis_url))
        cleaning = PostgresCleaning(
            pool,
            self._ledger,
            redis,
            days=work.retention_days,
            interval_seconds=work.cleanup_seconds,
        )
        shift = Shift("cleanup", partial(self._turn_of, "cleanup", cleaning.turn), cleaning.rest)
        stack.push_async_callback(shift.stop)
        return shift

    async def _shift_of_questions(self, stack: AsyncExitStack) -> Shift:
        work = self._work
        units = read_units(work.webhook_units)
        asking = await stack.enter_async_context(Asking(self._pool, self._ledger, work.poll_keys, units))
        shift = Shift("asking", partial(self._turn_of, "asking", asking.turn), asking.stop)
        stack.push_async_callback(shift.stop)
        return shift

    async def _turn_of(self, job: str, turn: Callable[[], Awaitable[float]]) -> float:
        """A turn of a shift, and the seconds until the next."""
        try:
            seconds = await turn()
        except AWAY as error:
            self._note(job, error)
            return AGAIN_SECONDS
        self._note(job, None)
        return seconds


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()

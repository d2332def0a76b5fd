"""Keeps the journal for some seconds: the slice of work that a background job is made of.

A slice takes every shard that no other process has, drains them in turn, waits for new entries, and keeps
trying for the shards that it lacks, so that whoever dies is replaced within a moment by whoever is idle. It
outlives both stores: what is away is tried again until the seconds are over. A node of a cluster that is away
keeps nobody from the shards of the others.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import asyncpg
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.apart import Part, of_shards
from app.ledger.backing import BackingUnavailable, NotAdmitted
from app.ledger.connection import connect as connect_redis
from app.ledger.connection import is_cluster
from app.ledger.stream import Keep
from persistence.admission import Barrier, admit, past
from persistence.away import AWAY, Away
from persistence.journal import ENTRIES_MAX, Journal, Outcome
from persistence.pool import Connection, Pool, open_pool
from persistence.session import connect

log = logging.getLogger(__name__)

TRY_SECONDS = 0.25
"""How long a lock that became free, a store that came back, or a new admission may go unnoticed."""

POLL_SECONDS = 0.02
"""How long an entry of a cluster may go unnoticed."""

ANSWER_SECONDS = 30.0
"""A statement of PostgreSQL that takes longer counts as one that has no answer."""

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    BackingUnavailable,
    RedisError,
)


class Drained(Struct):
    """What a slice did. `condemned`: shards that it fenced; `failures`: how often a store was away."""

    rows: int = 0
    batches: int = 0
    failures: int = 0
    condemned: list[int] = []


async def drain(
    database_url: str,
    redis_url: str,
    seconds: float,
    *,
    keep: Keep | None,
    connections: int = 2,
    entries_max: int = ENTRIES_MAX,
    barrier: Barrier = past,
) -> Drained:
    """Keep the journal of every shard that can be locked, for about `seconds`.

    Args:
        database_url: Of a born ledger; may be away.
        redis_url: May be away too.
        seconds: A batch that is under way then is finished.
        keep: What stays in the streams after it was journaled, the bytes of all together; `None`: everything.
        connections: How many batches are under way at once: while PostgreSQL writes one, another is folded.
        entries_max: How many are held in memory for each.
        barrier: See `Journal`.
    """
    drained = Drained()
    ends = time.monotonic() + seconds
    part = _Part(database_url, redis_url, ends, drained, keep, entries_max, barrier, 0, connections)
    async with asyncio.TaskGroup() as parts:
        for number in range(connections):
            parts.create_task(part._replace(number=number).drain())
    return drained


class _Part(NamedTuple):
    """One connection's part of the shards: those whose number leaves `number` when divided by `parts`."""

    database_url: str
    redis_url: str
    ends: float
    drained: Drained
    keep: Keep | None
    entries_max: int
    barrier: Barrier
    number: int
    parts: int

    async def drain(self) -> None:
        """Until the end, through whatever is away meanwhile."""
        while (left := self.ends - time.monotonic()) > 0:
            try:
                await self._session()
            except _AWAY as error:
                _heed_cancellation()
                self.drained.failures += 1
                log.warning("the journal waits: %s", str(error) or type(error).__name__)
                await asyncio.sleep(min(TRY_SECONDS, left))

    async def _session(self) -> None:
        async with AsyncExitStack() as stack:
            redis = await stack.enter_async_context(connect_redis(self.redis_url))
            pool = await open_pool(self.database_url, connections_max=1, name="lastro journal")
            stack.callback(pool.terminate)
            connection = await connect(
                self.database_url, name="lastro journal", answer_seconds=ANSWER_SECONDS
            )
            stack.callback(connection.terminate)
            ledger, shards = await _ledger(connection)
            journal = Journal(
                connection,
                redis,
                ledger,
                keep=self.keep and self.keep._replace(bytes=self.keep.bytes // shards),
                entries_max=self.entries_max,
                barrier=self.barrier,
            )
            away: Away | None = None
            if is_cluster(redis):
                away = Away(redis, await stack.enter_async_context(connect_redis(self.redis_url)))
                stack.push_async_callback(away.stop)
            own = range(self.number, shards, self.parts)
            await _Slice(journal, pool, redis, own, drained=self.drained, away=away).run(self.ends)
            await connection.close(timeout=1.0)


def _heed_cancellation() -> None:
    """End although a library has swallowed the cancellation: `asyncio.wait_for`, with which redis-py sends,
    does so up to Python 3.11 when its result comes in the same moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


LEDGER = "SELECT id::text AS id, shards FROM ledger WHERE born"


# A worker that is stopped, or cut off by the network, must not keep its shards from others for ever. Idleness
# does not cover one that has sent half of a statement; older servers know no `transaction_timeout`.
SESSION = """
SET synchronous_commit = on;
SET idle_in_transaction_session_timeout = '5s';
SET idle_session_timeout = '30s';
SELECT set_config(name, '60s', false) FROM pg_settings WHERE name = 'transaction_timeout';
"""


async def _ledger(connection: Connection) -> tuple[str, int]:
    await connection.execute(SESSION)
    row = await connection.fetchrow(LEDGER)
    if row is None:
        raise BackingUnavailable("the database has no ledger yet; run `lastro migrate`")
    return row["id"], row["shards"]


class _Slice:
    """The shards of one connection.

    `busy` have something to journal, or may have; `idle` are at their end (the cursor); `refused` are
    not to be read, and why. `away`, of a cluster: those that do not answer are in none of them.
    """

    def __init__(
        self,
        journal: Journal,
        pool: Pool,
        redis: Redis,
        shards: Iterable[int],
        *,
        drained: Drained,
        away: Away | None,
    ) -> None:
        self._journal = journal
        self._pool = pool
        self._redis = redis
        self._drained = drained
        self._away = away
        self._lacking = set(shards)
        self._busy: set[int] = set()
        self._idle: dict[int, int] = {}
        self._refused: dict[int, Outcome] = {}

    async def run(self, ends: float) -> None:
        tried = -TRY_SECONDS
        while (now := time.monotonic()) < ends:
            _heed_cancellation()
            if now - tried >= TRY_SECONDS:
                tried = now
                await self._try()
            for shard in sorted(self._busy):
                if shard in self._busy:  # still: its node may be found away on the way
                    await self._one_batch(shard)
            if not self._busy:
                await self._wait(min(TRY_SECONDS, max(0.001, ends - time.monotonic())))

    async def _try(self) -> None:
        """For the shards that another process had, and those that could not be read: is it any better now?"""
        if self._lacking:
            taken = await self._journal.lock(sorted(self._lacking))
            self._lacking.difference_update(taken)
            self._busy.update(taken)
        if Outcome.REFUSED in self._refused.values():
            try:
                await admit(self._pool, self._redis)
            except NotAdmitted as error:
                log.warning("Redis is not admitted: %s", error)
        self._busy.update(self._refused)
        self._refused.clear()
        if self._away is not None:
            self._busy.update(await self._away.back())

    async def _one_batch(self, shard: int) -> None:
        try:
            batch = await self._journal.one_batch(shard)
        except AWAY as error:
            if self._away is None:
                raise
            await self._set_aside(self._away, shard, error)
            return
        self._drained.rows += batch.rows
        self._drained.batches += batch.rows > 0
        if batch.outcome in (Outcome.MORE, Outcome.MOVED):
            return
        self._busy.discard(shard)
        if batch.outcome is Outcome.DONE:
            self._idle[shard] = batch.cursor
            return
        self._idle.pop(shard, None)
        self._refused[shard] = batch.outcome
        if batch.outcome is Outcome.CONDEMNED:
            self._drained.condemned.append(shard)

    async def _wait(self, seconds: float) -> None:
        """Until an idle shard has something new, at most so long."""
        if not self._idle:
            await asyncio.sleep(seconds)
            return
        if self._away is not None:
            await self._poll(self._away, seconds)
            return
        shards = {keys.journal(shard).encode(): shard for shard in self._idle}
        names: dict[Any, Any] = {name: f"{self._idle[shard]}-0" for name, shard in shards.items()}
        found: Any = await self._redis.xread(names, count=1, block=max(1, int(seconds * 1000)))
        for name, _ in found:
            self._idle.pop(shards[name])
            self._busy.add(shards[name])

    async def _poll(self, away: Away, seconds: float) -> None:
        """The same where no command waits for the streams of several nodes."""
        redis, ends = self._redis, time.monotonic() + seconds

        async def of(part: Part) -> list[bytes | None]:
            async with redis.pipeline(transaction=False) as looks:
                for shard in part.shards:
                    looks.hget(keys.meta(shard), "sequence")
                return list(await looks.execute())

        while not self._busy and time.monotonic() < ends:
            found: dict[int, bytes | None] = {}
            why: RedisError = RedisConnectionError("its node does not answer")
            try:
                found = await of_shards(redis, list(self._idle), of)
            except AWAY as error:
                why = error
            for shard in self._idle.keys() - found.keys():
                await self._set_aside(away, shard, why)
            for shard in found.keys() & self._idle.keys():
                if int(found[shard] or 0) > self._idle[shard]:
                    del self._idle[shard]
                    self._busy.add(shard)
            if not self._busy:
                await asyncio.sleep(POLL_SECONDS)

    async def _set_aside(self, away: Away, shard: int, why: RedisError) -> None:
        found = await away.set_aside(shard, {*self._busy, *self._idle}, why)
        self._drained.failures += bool(found)
        for each in found:
            self._busy.discard(each)
            self._idle.pop(each, None)

"""Watches by itself: looks, judges, keeps what has become of the alerts, tells it, and sends the heartbeat.

Every worker and every API process has one, and one of them judges at a time. While PostgreSQL is away an API
process judges alone, by what it knew of before and what Redis and the queues tell.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import structlog
from redis.asyncio import Redis

from app.alerts import RULE_SECONDS
from app.health import worst
from app.ledger.backing import BackingUnavailable
from app.rules import RULES
from persistence.alerts import book, inbox, judge
from persistence.alerts.alone import Alone
from persistence.alerts.edges import CALM_FOR, Edges, Key
from persistence.alerts.heartbeat import BEAT_SECONDS, Heartbeat
from persistence.alerts.notices import deliver
from persistence.alerts.telling import Channels
from persistence.doctor.records import backed_up
from persistence.health import endings, mishaps
from persistence.health.looking import Looking
from persistence.health.seen import Seen, found
from persistence.pool import Connection, Pool, answering

LOOK_SECONDS = 10.0
STOP_SECONDS = 0.5

ANY_BACKUP = "SELECT EXISTS (SELECT FROM backups WHERE finished_at IS NOT NULL)"

_EACH = frozenset(rule.name for rule in RULES.values() if rule.each)

log = structlog.get_logger("lastro.alerts")


def now() -> datetime:
    """By this machine's clock."""
    return datetime.now(UTC)


class Watching:
    """One for each process.

    Args:
        pool: Two of its connections are used at once.
        redis: The ledger's.
        looking: Whose rules are judged.
        channels: Who is told.
        heartbeat: Who is told that all is well.
        is_worker: Workers judge before the API does, and never alone.
        round_seconds: How often it is judged.
        calm_for: How long it must be well until an alert ends.
        clock: For tests.
    """

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        looking: Looking,
        channels: Channels,
        heartbeat: Heartbeat,
        *,
        is_worker: bool,
        round_seconds: float = RULE_SECONDS,
        calm_for: timedelta = CALM_FOR,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._pool = pool
        self._looking = looking
        self._channels = channels
        self._heartbeat = heartbeat
        self._is_worker = is_worker
        self._round_seconds = round_seconds
        self._clock = clock
        self._name = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
        self._edges = Edges(calm_for)
        self._alone = Alone(redis, channels, self._name)
        self._was_away = False
        self._forgotten_at = 0.0
        self._telling: asyncio.Task[None] | None = None

    async def turn(self) -> float:
        """One round, as far as it is for this process. Returns for how many seconds nothing need be done."""
        began = time.monotonic()
        try:
            await self._judge()
            self._was_away = False
        except BackingUnavailable as error:
            was_away, self._was_away = self._was_away, True
            if self._is_worker:
                raise
            if not was_away:
                log.warning("alerts are judged without PostgreSQL", why=str(error))
            await self._judge_alone()
        return max(0.0, self._round_seconds - (time.monotonic() - began))

    async def watch(self) -> None:
        """Round after round. Never ends."""
        while True:
            pause_seconds = await self.turn()
            await asyncio.sleep(pause_seconds)

    async def rest(self) -> None:
        """Until nobody is being told any more."""
        if self._telling is not None:
            await asyncio.wait({self._telling})

    async def stop(self) -> None:
        """Let others go on at once. What is being told is told again by them."""
        while self._telling is not None and not self._telling.done():
            self._telling.cancel()
            await asyncio.wait({self._telling}, timeout=0.1)
        with contextlib.suppress(BackingUnavailable):
            async with answering(self._pool, STOP_SECONDS) as connection:
                await judge.give_back(connection, self._name)

    async def _judge(self) -> None:
        async with answering(self._pool) as connection:
            lease = await self._lease(connection)
            firing = await book.firing(connection)
        self._alone.begin(firing)
        if lease is None or not lease.may_judge:
            return
        seen = await self._seen(firing)
        changes = self._edges.changes(firing, seen, self._clock(), rules=_EACH)
        async with answering(self._pool) as connection, connection.transaction():
            if not await judge.still_holds(connection, self._name):
                return
            await book.write(connection, changes, is_told=self._is_told)
            firing = await book.firing(connection)
            if time.monotonic() - self._forgotten_at > BEAT_SECONDS:
                self._forgotten_at = time.monotonic()
                await book.forget(connection, self._clock())
        self._alone.begin(firing)
        if self._is_told and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell(), name="alerts are told")
        if lease.must_beat:
            await self._beat(seen)

    async def _tell(self) -> None:
        """Beside the rounds: nobody who does not answer keeps them up."""
        try:
            while await deliver(self._pool, self._channels, self._clock()):
                pass
        except BackingUnavailable as error:
            log.warning("alerts are told later", why=str(error))
        except Exception:
            log.exception("alerts could not be told; it is tried again")

    @property
    def _is_told(self) -> bool:
        """Whether there is anybody to be told."""
        return len(self._channels) > 0

    async def _lease(self, connection: Connection) -> judge.Lease | None:
        """After what was told meanwhile has been kept."""
        async with connection.transaction():
            if self._alone.changes:
                await book.write(
                    connection, self._alone.changes, is_told=self._is_told, told=self._alone.told
                )
            return await judge.take(
                connection,
                self._name,
                is_worker=self._is_worker,
                round_seconds=self._round_seconds,
                beat_seconds=0.9 * BEAT_SECONDS,
                anew=self._was_away,
            )

    async def _seen(self, firing: Collection[Key]) -> list[Seen]:
        """What is wrong with the whole, and with the single ones of which nobody is told otherwise."""
        seen: list[Seen] = list((await self._looking.look()).values())
        rules, bounds = self._looking.rules, self._looking.bounds
        async with answering(self._pool, LOOK_SECONDS) as connection:
            models = {subject for rule, subject in firing if rule == "model_failure_rate"}
            seen += endings.of_models(await endings.lately(connection), rules, models)
            seen.append(await inbox.rejections(connection, rules))
            seen += await inbox.unsettled(connection, rules, firing)
            seen.append(await mishaps.conflicts(connection, rules))
            if await connection.fetchval(ANY_BACKUP):
                seen.append(found(rules["backup"], [await backed_up(connection, bounds.backup_seconds)]))
        return seen

    async def _beat(self, seen: Sequence[Seen]) -> None:
        """Only while all is well enough to say so."""
        if not self._heartbeat.is_wanted or worst(each.status or "warning" for each in seen) == "critical":
            return
        if await self._heartbeat.beat():
            async with answering(self._pool) as connection:
                await judge.beaten(connection)

    async def _judge_alone(self) -> None:
        if not await self._alone.is_judge(judge.LEASE_ROUNDS * self._round_seconds):
            return
        seen = list((await self._looking.look()).values())
        changes = self._edges.changes(self._alone.firing, seen, self._clock(), rules=frozenset())
        await self._alone.heed(changes, self._clock())

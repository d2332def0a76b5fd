"""Who watches a ledger, round by round, with receivers that are real."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import msgspec
import pytest

from app.alerts import RULE_SECONDS, channel_urls
from persistence.alerts.heartbeat import Heartbeat
from persistence.alerts.kept import PostgresAlerts
from persistence.alerts.telling import Channels
from persistence.alerts.watched import Watched
from persistence.alerts.watching import Watching
from persistence.alive import RedisQueues
from tests.integration.events.receiver import HandClock
from tests.integration.health.conftest import at_work, well
from tests.listening import listening

__all__ = ["at_work", "well"]

SECRET = "T0secret0token"

OF_THE_TESTS = {"postgres", "redis_persistence"}
"""Their servers may lose what they have."""


class Asked(NamedTuple):
    """A request: its line and its body."""

    line: str
    body: bytes

    @property
    def title(self) -> str:
        return msgspec.json.decode(self.body)["title"]


class Ears:
    """A server that remembers what it was told, and answers with `status`."""

    def __init__(self) -> None:
        self.got: list[Asked] = []
        self.status = 200
        self.port = 0

    @property
    def url(self) -> str:
        """For Apprise."""
        return f"json://127.0.0.1:{self.port}/{SECRET}"

    @property
    def titles(self) -> list[str]:
        return [each.title for each in self.got]

    async def serve(self, reader, writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.got.append(Asked(head.splitlines()[0], body))
        lines = f"HTTP/1.1 {self.status} So", "content-length: 0", "location: /elsewhere", "", ""
        writer.write("\r\n".join(lines).encode())
        await writer.drain()


@asynccontextmanager
async def hearing() -> AsyncIterator[Ears]:
    listener = Ears()
    async with listening(listener.serve) as listener.port:
        yield listener


@pytest.fixture
async def ears() -> AsyncIterator[Ears]:
    async with hearing() as listener:
        yield listener


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


PASSED = """
UPDATE alert_judge SET since = since - passed, until = until - passed, beat_at = beat_at - passed
FROM make_interval(secs => $1) AS passed
"""


class Watchman:
    """Watches, as often as a test wants."""

    def __init__(
        self, pool, redis, queue_url, *, urls="", heartbeat="", is_worker=True, clock=None, **watched
    ) -> None:
        settings = Watched(**watched)
        self.pool = pool
        self.alerts = PostgresAlerts(pool, settings.rules)
        self.clock = clock or HandClock()
        self.watching = Watching(
            pool,
            redis,
            settings.looking(pool, redis, RedisQueues(queue_url)),
            Channels(channel_urls(urls)),
            Heartbeat(heartbeat),
            is_worker=is_worker,
            clock=self.clock,
        )

    async def round(self, times: int = 1, *, seconds: float = RULE_SECONDS) -> None:
        """A round, and then the time until the next."""
        for _ in range(times):
            await self.watching.turn()
            await self.watching.rest()
            await self.pool.execute(PASSED, seconds)
            self.clock.move(seconds=seconds)

    async def firing(self) -> dict[tuple[str, str], str]:
        """The levels of what fires, but for what is so because these are tests' servers."""
        found = await self.alerts.alerts("firing", limit=200)
        return {(each.rule, each.subject): each.level for each in found if each.rule not in OF_THE_TESTS}


@pytest.fixture
def watchman(database, redis, redis_url, well, at_work, clock):
    """Makes one."""
    return partial(Watchman, database, redis, redis_url, clock=clock)

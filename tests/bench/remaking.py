"""How long it takes to make a lost Redis again, and to prove that all is equal: done by the product's own
commands, and demanded to be right.
"""

import time
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from app.embedded import Valkey
from app.ledger.connection import connect as connect_redis
from app.ledger.judgement import Standing
from persistence.reconcile.position import begin
from persistence.reconcile.run import Run
from persistence.restore import restore
from persistence.session import connect
from persistence.verify import Verdict, verify
from tests.bench.bed import SHARDS, run
from tests.bench.filled import Size


class Restored(NamedTuple):
    """`seconds`: of each step, by its name. `loaded`: accounts and reservations."""

    seconds: dict[str, float]
    loaded: int
    redis_bytes: int

    @property
    def whole_seconds(self) -> float:
        return sum(self.seconds.values())


class Reconciled(NamedTuple):
    """`looks`: how often Redis was asked, and how long it took for one."""

    seconds: float
    looks: int
    look_ms: float


class Verified(NamedTuple):
    """How many rows were proved."""

    seconds: float
    rows: int


class _Watch:
    """Takes the time of each step of a restore."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun = 0.0
        self._name = ""

    async def claimed(self, standings: list[Standing]) -> bool:
        return len(standings) == SHARDS

    def step(self, name: str, total: int = 0) -> None:
        self.end()
        self._name, self._begun = name, time.perf_counter()

    def advance(self, by: int) -> None:
        """The whole is what counts here."""

    def end(self) -> None:
        """The last step is done."""
        if self._name:
            self.seconds[self._name] = time.perf_counter() - self._begun


def restored(folder: Path, database_url: str, valkey: Valkey, size: Size) -> Restored:
    """Everything in this Redis is lost, and made again from the journal."""
    with Redis.from_url(valkey.url) as client:
        client.flushall()
    watch = _Watch()
    found = run(restore(database_url, valkey.url, salvage=folder / "salvaged", watch=watch))
    watch.end()
    with Redis.from_url(valkey.url) as client:
        memory = int(client.info("memory")["used_memory"])
    assert found is not None
    assert (found.drift, found.fences, found.loaded) == ([], {}, size.accounts + size.holds)
    return Restored(watch.seconds, found.loaded, memory)


def reconciled(database_url: str, valkey: Valkey, size: Size, *, full: bool) -> Reconciled:
    """All accounts; `full`: with the sums of all their entries."""
    with Redis.from_url(valkey.url) as client:
        client.config_resetstat()
        begun = time.perf_counter()
        made = run(_reconcile(database_url, valkey.url, full=full))
        seconds = time.perf_counter() - begun
        calls = client.info("commandstats")["cmdstat_evalsha"]
    assert (made.status, made.accounts) == ("equal", size.accounts), made.position
    return Reconciled(seconds, calls["calls"], calls["usec_per_call"] / 1000)


async def _reconcile(database_url: str, redis_url: str, *, full: bool) -> Run:
    connection = await connect(database_url)
    try:
        async with connect_redis(redis_url) as redis:
            made = await Run(connection, redis, await begin(connection, "bench", full=full)).load()
            while not made.is_at_end:
                await made.step()
            return made
    finally:
        await connection.close()


def verified(database_url: str) -> Verified:
    """The whole chain."""
    begun = time.perf_counter()
    found = run(_verify(database_url))
    seconds = time.perf_counter() - begun
    assert not found.findings, found.findings
    return Verified(seconds, found.rows)


async def _verify(database_url: str) -> Verdict:
    connection = await connect(database_url)
    try:
        return await verify(connection, since=1)
    finally:
        await connection.close()

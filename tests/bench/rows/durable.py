"""Row 12: how long a lost Redis takes to be made again, and what it costs to prove that all is equal."""

import logging
import time
from pathlib import Path

from redis import Redis

from app.embedded import Valkey
from app.ledger.connection import connect as connect_redis
from app.ledger.judgement import Standing
from persistence.birth import give_birth
from persistence.migrate import migrate
from persistence.reconcile.position import begin
from persistence.reconcile.run import Run
from persistence.restore import restore
from persistence.session import connect
from persistence.verify import Verdict, verify
from tests.bench.bed import SHARDS, Bed, run
from tests.bench.figures import Line
from tests.bench.filled import Size, fill
from tests.bench.sizes import Sizes, Told

SIZE = Size(100_000, 10)


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


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    """Once each: they are long enough to be steady. `sizes` is not asked."""
    logging.getLogger("persistence").addHandler(logging.NullHandler())
    told.expect(5)
    told.say(f"making {SIZE.accounts:,} accounts")
    valkey, database_url = bed.valkey("everysec"), bed.database(bed.postgres)
    run(migrate(database_url))
    run(give_birth(database_url, valkey.url, SHARDS))
    run(fill(database_url, SIZE))
    told.step("restoring")
    lines = [_restored(bed, database_url, valkey)]
    for name, full in (("as the job does it", False), ("with the sums of all entries", True)):
        told.step(f"reconciling {name}")
        lines.append(_reconciled(database_url, valkey, name, full=full))
    told.step("verifying")
    lines.append(_verified(database_url))
    told.step("done")
    return lines


def _restored(bed: Bed, database_url: str, valkey: Valkey) -> Line:
    with Redis.from_url(valkey.url) as client:
        client.flushall()
    watch = _Watch()
    found = run(restore(database_url, valkey.url, salvage=Path(bed.folder) / "salvaged", watch=watch))
    watch.end()
    with Redis.from_url(valkey.url) as client:
        memory = int(client.info("memory")["used_memory"])
    assert found is not None
    assert (found.drift, found.fences, found.loaded) == ([], {}, SIZE.accounts + SIZE.holds)
    seconds = sum(watch.seconds.values())
    load, compare = watch.seconds["load"], watch.seconds["compare"]
    return Line(
        "12",
        f"restore of {SIZE.accounts:,} accounts and {SIZE.holds:,} open reservations into an empty Redis",
        f"{seconds:.1f} s",
        beside=f"loaded in {load:.1f} s, {found.loaded / load:,.0f}/s; compared in {compare:.1f} s, "
        f"{found.loaded / compare:,.0f}/s; {memory / 2**20:,.0f} MiB in Redis afterwards",
    )


def _reconciled(database_url: str, valkey: Valkey, name: str, *, full: bool) -> Line:
    with Redis.from_url(valkey.url) as client:
        client.config_resetstat()
        begun = time.perf_counter()
        made = run(_reconcile(database_url, valkey.url, full=full))
        seconds = time.perf_counter() - begun
        calls = client.info("commandstats")["cmdstat_evalsha"]
    assert (made.status, made.accounts) == ("equal", SIZE.accounts), made.position
    look_ms = calls["usec_per_call"] / 1000
    return Line(
        "12",
        f"reconcile of the same, {name}",
        f"{SIZE.accounts / seconds:,.0f} accounts/s",
        beside=f"{seconds:.1f} s; {calls['calls']:,} looks at Redis of {look_ms:.2f} ms each",
    )


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


def _verified(database_url: str) -> Line:
    begun = time.perf_counter()
    found = run(_verify(database_url))
    seconds = time.perf_counter() - begun
    assert not found.findings
    return Line(
        "12", "verify of its journal", f"{found.rows / seconds:,.0f} rows/s", beside=f"{seconds:.1f} s"
    )


async def _verify(database_url: str) -> Verdict:
    connection = await connect(database_url)
    try:
        return await verify(connection, since=1)
    finally:
        await connection.close()

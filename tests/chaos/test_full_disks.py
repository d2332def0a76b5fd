"""A disk that is full costs nothing acknowledged, and what waits goes on by itself once there is room."""

import asyncio
import sys
from collections.abc import Callable

import asyncpg
import pytest
from redis.asyncio import Redis

from app.embedded import Postgres
from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerUnavailable
from app.ledger.operations import Deduct, Grant
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.journal import Journal
from persistence.migrate import migrate
from persistence.pool import open_pool
from persistence.session import connect as session
from tests.chaos.full_disk import LimitedValkey, small_disk
from tests.chaos.test_servers import Running
from tests.conftest import PASSWORD
from tests.integration.books import assert_equal
from tests.integration.journal.workers import to_the_end
from tests.integration.streams import Caller
from tests.lua.invariants import check_keys

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="disks are filled as Linux lets one")

ROOM_BYTES = 20_000
SHOPPERS = 8


@pytest.fixture
def valkey(reachable_tmp_path):
    """Makes a Valkey whose disk can be full."""
    made: list[LimitedValkey] = []

    def make(appendfsync: str) -> LimitedValkey:
        folder = reachable_tmp_path / "valkey"
        log = reachable_tmp_path / "valkey.log"
        made.append(LimitedValkey(folder, log, password=PASSWORD, appendfsync=appendfsync))
        made[0].start()
        return made[0]

    yield make
    for each in made:
        each.kill()


class Shoppers:
    """Deduct one credit after the other, each with a key, and repeat what was not answered."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.answered: set[str] = set()
        self.refused: list[LedgerUnavailable] = []
        self._stop = asyncio.Event()

    async def shop(self, name: int) -> None:
        number = 0
        while not self._stop.is_set():
            key = f"{name}-{number}"
            try:
                await self.running.ledger.deduct(Deduct(account="ana", amount=1, key=key, fingerprint="f"))
            except LedgerUnavailable as error:
                self.refused.append(error)
                await asyncio.sleep(0.01)
            else:
                self.answered.add(key)
                number += 1

    async def during(self, *steps: Callable[[], object]) -> None:
        """Shop, and after each step until there were more refusals and answers, in turns."""
        shops = [asyncio.create_task(self.shop(name)) for name in range(SHOPPERS)]
        async with asyncio.timeout(20):
            for number, step in enumerate(steps):
                step()
                seen = self.refused if number % 2 == 0 else self.answered
                before = len(seen)
                while len(seen) < before + 10:  # noqa: ASYNC110 - answers and refusals are the events
                    await asyncio.sleep(0.005)
        self._stop.set()
        await asyncio.gather(*shops)

    async def assert_nothing_is_lost_or_doubled(self, redis: Redis) -> None:
        entries = [each.entry for shard in range(4) for each in await self.running.journal.entries(shard)]
        done = [each.key for each in entries if each.kind == "deducted"]
        assert len(done) == len(set(done))
        assert self.answered <= set(done)
        assert 1_000_100 - len(done) == (await self.running.ledger.balance("ana")).account.available
        await check_keys(redis)


async def test_a_full_disk_under_everysec_is_refused_with_its_reason_and_gone_on_after(valkey):
    server = valkey("everysec")
    async with connect(server.url) as client, connect(server.url) as aside:
        running = await Running.on(client, aside, Limits())
        await running.ledger.grant(Grant(account="ana", amount=1_000_000))
        shoppers = Shoppers(running)
        await shoppers.during(lambda: server.fill_disk(ROOM_BYTES), server.clear_disk)
        assert {"not_persisting"} == {each.facts.get("cause") for each in shoppers.refused}
        await shoppers.assert_nothing_is_lost_or_doubled(aside)
        await running.ledger.stop()


async def test_a_full_disk_under_always_ends_redis_and_nothing_acknowledged_is_lost(valkey):
    """Redis cannot take back what it could not write: it ends before it answers, and returns without it."""
    server = valkey("always")
    async with connect(server.url) as client, connect(server.url) as aside:
        running = await Running.on(client, aside, Limits(request_seconds=0.5))
        await running.ledger.grant(Grant(account="ana", amount=1_000_000))
        shoppers = Shoppers(running)
        await shoppers.during(lambda: server.fill_disk(ROOM_BYTES), server.restart)
        assert "AOF write error" in server.log.read_text()
        await shoppers.assert_nothing_is_lost_or_doubled(aside)
        await running.ledger.stop()


@pytest.fixture
def postgres(reachable_tmp_path):
    """A PostgreSQL on a small disk, and the disk."""
    with small_disk(reachable_tmp_path / "disk", 120) as disk:
        if disk is None:
            pytest.skip("only root may mount a small disk")
        server = Postgres(
            disk.folder / "postgres", reachable_tmp_path / "log", password=PASSWORD, durable=False
        )
        server.start()
        asyncio.run(migrate(server.url))
        yield server, disk
        server.kill()


async def test_a_full_disk_of_postgresql_delays_the_journal_and_loses_nothing(postgres, redis, redis_url):
    server, disk = postgres
    ledger = await give_birth(server.url, redis_url, 1)
    async with await open_pool(server.url) as pool:
        caller = Caller(redis, await admit(pool, redis))
        connection = await session(server.url)
        try:
            journal = Journal(connection, redis, str(ledger), keep=None)
            await journal.lock([0])

            async def go_on() -> None:
                for _ in range(100):
                    await caller.grant(0, entries=250)
                    await to_the_end(journal, 0)

            disk.fill()
            with pytest.raises(asyncpg.DiskFullError):
                await go_on()
            await caller.grant(0, entries=250)
            disk.clear()
            await to_the_end(journal, 0)
            assert await assert_equal(pool, redis) == int(await redis.hget(keys.meta(0), "sequence"))
        finally:
            await connection.close()

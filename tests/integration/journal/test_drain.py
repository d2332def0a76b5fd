"""A slice of journaling takes what it can get, outlives both stores, and is replaced within a moment (I8)."""

import asyncio
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import pytest

from app.ledger import keys
from app.ledger.connection import connect as connect_redis
from app.ledger.stream import Keep
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.pool import open_pool
from tests.integration.books import Shop, assert_equal
from tests.integration.journal.workers import SHARDS
from tests.integration.streams import Caller, forge, replace_server
from tests.listening import listening


async def journaled(database, rows: int, seconds: float = 10.0) -> None:
    """Wait until the journal has so many rows."""
    async with asyncio.timeout(seconds):
        while await database.fetchval("SELECT sum(cursor) FROM shards") < rows:  # noqa: ASYNC110 - others write it
            await asyncio.sleep(0.005)


async def appended(redis) -> int:
    return sum([int(await redis.hget(keys.meta(shard), "sequence")) for shard in range(SHARDS)])


async def test_a_slice_journals_what_is_there_and_what_comes(
    database_url, redis_url, database, redis, caller
):
    shop = Shop(caller, SHARDS, seed=5)
    await shop.trade(calls=10)
    draining = asyncio.create_task(drain(database_url, redis_url, 1.5, keep=None))
    await journaled(database, await appended(redis))
    await shop.trade(calls=10)
    await journaled(database, await appended(redis), seconds=1.0)
    drained = await draining
    assert (drained.failures, drained.condemned) == (0, [])
    assert await assert_equal(database, redis) == drained.rows


async def test_two_slices_share_nothing_and_the_spare_takes_over(
    database_url, redis_url, database, redis, caller
):
    first = asyncio.create_task(drain(database_url, redis_url, 30, keep=None))
    await caller.grant(0)
    await journaled(database, 1)
    spare = asyncio.create_task(drain(database_url, redis_url, 2, keep=None))
    await caller.grant(1)
    await journaled(database, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await caller.grant(2)
    await journaled(database, 3, seconds=1.5)
    assert (await spare).rows == 1
    await assert_equal(database, redis)


async def test_a_worker_killed_under_load_is_made_good_within_3_seconds(
    database_url, redis_url, database, redis, caller
):
    def worker() -> subprocess.Popen[bytes]:
        code = (
            "import asyncio, sys; from persistence.drain import drain; "
            "asyncio.run(drain(sys.argv[1], sys.argv[2], 60, keep=None, entries_max=50))"
        )
        return subprocess.Popen([sys.executable, "-c", code, database_url, redis_url])

    shop = Shop(caller, SHARDS, seed=9)
    workers = [worker()]
    try:
        await shop.trade(calls=30)
        await journaled(database, 1, seconds=20)
        workers.append(worker())
        trading = asyncio.create_task(shop.trade(calls=300))
        under_load = await appended(redis) + 50
        await journaled(database, under_load)
        workers[0].kill()
        at_its_death = await database.fetchval("SELECT sum(cursor) FROM shards")
        await journaled(database, at_its_death + 1, seconds=3.0)
        await trading
        await journaled(database, await appended(redis), seconds=3.0)
        assert await assert_equal(database, redis) > 500
    finally:
        for each in workers:
            each.kill()
            each.wait()


async def test_a_refused_shard_is_admitted_by_the_slice_itself(
    database_url, redis_url, database, redis, caller
):
    await caller.grant(0, calls=3)
    await replace_server(redis)
    drained = await drain(database_url, redis_url, 0.2, keep=None)
    assert drained.rows == 0
    drained = await drain(database_url, redis_url, 1.0, keep=None)
    assert drained.rows == 3
    await assert_equal(database, redis)


async def test_a_poisoned_shard_does_not_hold_up_the_others(database_url, redis_url, database, redis, caller):
    await caller.grant(0, calls=2)
    await forge(redis, 0, version=9)
    await caller.grant(1, calls=2)
    draining = asyncio.create_task(drain(database_url, redis_url, 1.0, keep=None))
    await journaled(database, 4)
    await caller.grant(2)
    await journaled(database, 5, seconds=1.0)
    assert (await draining).condemned == [0]


async def test_the_bytes_to_keep_are_those_of_all_streams_together(database_url, redis_url, redis, caller):
    for shard in range(SHARDS):
        await caller.grant(shard, calls=20)
    size = int(await redis.hget(keys.meta(0), "bytes"))
    await drain(database_url, redis_url, 0.3, keep=Keep(ms=3_600_000, bytes=SHARDS * size // 2))
    for shard in range(SHARDS):
        assert await redis.xlen(keys.journal(shard)) in (9, 10)


async def test_a_database_without_a_ledger_is_waited_for(database_url, redis_url, redis):
    drained = await drain(database_url, redis_url, 0.1, keep=None)
    assert drained.failures >= 1


async def test_postgresql_may_go_and_come(own_postgres, redis_url, redis):
    url = own_postgres.database_url("lastro")
    await give_birth(url, redis_url, SHARDS)
    pool = await open_pool(url)
    caller = Caller(redis, await admit(pool, redis))
    draining = asyncio.create_task(drain(url, redis_url, 60, keep=None))
    await caller.grant(0, calls=5)
    await journaled(pool, 5)
    own_postgres.kill()
    await caller.grant(0, calls=5)
    own_postgres.start()
    await pool.expire_connections()
    await journaled(pool, 10)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert await assert_equal(pool, redis) == 10
    await pool.close()


async def test_redis_may_go_and_come(own_valkey, database_url, database):
    await give_birth(database_url, own_valkey.url, SHARDS)
    redis = connect_redis(own_valkey.url)
    draining = asyncio.create_task(drain(database_url, own_valkey.url, 60, keep=None))
    await Caller(redis, await admit(database, redis)).grant(0, calls=5)
    await journaled(database, 5)
    await redis.aclose()
    own_valkey.kill()
    own_valkey.start()
    redis = connect_redis(own_valkey.url)
    await Caller(redis, await admit(database, redis)).grant(0, calls=5)
    await journaled(database, 10)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert await assert_equal(database, redis) == 10
    await redis.aclose()


class LosesTheAnswer:
    """Stands between a worker and PostgreSQL, and cuts the line when the first COMMIT has been passed on."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self.cut = asyncio.Event()

    async def __aenter__(self) -> str:
        self._listening = listening(self._serve)
        port = await self._listening.__aenter__()
        place = self._url.netloc.rpartition("@")[0] + f"@127.0.0.1:{port}"
        return urlunsplit(self._url._replace(netloc=place))

    async def __aexit__(self, *_: object) -> None:
        await self._listening.__aexit__(None, None, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        back = asyncio.create_task(self._pass(behind_reader, writer))
        while data := await reader.read(65536):
            if b"COMMIT;" in data and not self.cut.is_set():
                back.cancel()
                await asyncio.wait({back})
                behind_writer.write(data)
                await behind_reader.read(1)  # the answer: it has happened, and nobody will hear of it
                self.cut.set()
                break
            behind_writer.write(data)
        back.cancel()
        await asyncio.wait({back})
        behind_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)


async def test_a_commit_whose_answer_was_lost_is_looked_up_and_not_repeated(
    database_url, redis_url, database, redis, caller
):
    await caller.grant(0, calls=3)
    proxy = LosesTheAnswer(database_url)
    async with proxy as url:
        draining = asyncio.create_task(drain(url, redis_url, 60, keep=None, connections=1))
        await asyncio.wait_for(proxy.cut.wait(), 10)
        assert await redis.hget(keys.meta(0), "journaled") == b"0"
        await caller.grant(0, calls=3)
        await journaled(database, 6)
        async with asyncio.timeout(10):
            while await redis.hget(keys.meta(0), "journaled") != b"6":  # noqa: ASYNC110 - the slice writes it
                await asyncio.sleep(0.005)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
    assert await assert_equal(database, redis) == 6


@pytest.mark.parametrize("instead", [None, OSError("gone")])
async def test_a_slice_ends_when_it_is_told_to_though_something_on_its_way_swallows_that(
    database_url, redis_url, ledger, instead
):
    reached = asyncio.Event()
    once = set()

    async def swallows(_step):
        if asyncio.current_task() in once:
            return
        once.add(asyncio.current_task())
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if instead is not None:
                raise instead from None

    draining = asyncio.create_task(drain(database_url, redis_url, 60, keep=None, barrier=swallows))
    await asyncio.wait_for(reached.wait(), 10)
    draining.cancel()
    done, _ = await asyncio.wait({draining}, timeout=5.0)
    assert done

"""A Redis that is behind the journal, and nothing worse, is brought to where it was."""

import shutil
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.admission import survey
from app.ledger.connection import connect
from app.ledger.loading import Moved
from persistence import rolling
from persistence.admission import admit
from persistence.admission_steps import past
from persistence.birth import give_birth
from persistence.standings import lock_shards, read_standings
from tests.integration.dying import Killed, dies_at
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.state import assert_same, in_redis
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller, replace_server


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(rolling, "PAGE", 25)


@asynccontextmanager
async def traffic(database, valkey, seed=1):
    """Traffic in a Redis that was admitted, and its client."""
    async with connect(valkey.url) as redis:
        yield Traffic(Caller(redis, await admit(database, redis)), SHARDS, seed), redis


async def whole(redis: Redis):
    """The state of a Redis, and its streams and metas: all that matters once it is admitted anew."""
    streams = [await redis.xrange(keys.journal(shard)) for shard in range(SHARDS)]
    metas = [await redis.hgetall(keys.meta(shard)) for shard in range(SHARDS)]
    for meta in metas:
        for field in (b"incarnation", b"server", b"now_ms"):
            del meta[field]
    return await in_redis(redis, SHARDS), streams, metas


async def ledger_id(database) -> str:
    return await database.fetchval("SELECT id::text FROM ledger")


async def roll(database, redis, barrier=past) -> list[bool]:
    """Under the lock roll forward whatever is a prefix. Returns for each shard whether it was."""
    ledger = await ledger_id(database)
    async with database.acquire() as connection, connection.transaction():
        await lock_shards(connection)
        standings = await read_standings(connection)
        sightings = await survey(redis, ledger, standings)
        found = []
        for standing, sighting in zip(standings, sightings, strict=True):
            found.append(await rolling.is_prefix(connection, standing, sighting))
            if found[-1]:
                await rolling.roll_forward(connection, redis, ledger, standing, sighting, barrier=barrier)
        return found


def copied(valkey, tmp_path, name="copy"):
    """A copy of a server's data, made while it is down."""
    valkey.kill()
    shutil.copytree(valkey.folder(), tmp_path / name)
    valkey.start()
    return tmp_path / name


def put_back(valkey, copy):
    """The server comes up with the data of then."""
    valkey.kill()
    shutil.rmtree(valkey.folder())
    shutil.copytree(copy, valkey.folder())
    valkey.start()


def assert_as_it_was(before, after):
    assert_same(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.fixture
async def behind(database, database_url, own_valkey, tmp_path):
    """A Redis that has gone back though all was journaled; and what it held before."""
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with traffic(database, own_valkey) as (shop, _):
        await shop.run(25)
    copy = copied(own_valkey, tmp_path)
    async with traffic(database, own_valkey) as (shop, redis):
        await shop.run(35)
        await journal_all(database_url, own_valkey.url)
        before = await whole(redis)
    put_back(own_valkey, copy)
    return before


async def test_a_copy_of_an_earlier_moment_is_rolled_forward_to_what_was(behind, database, own_valkey):
    async with connect(own_valkey.url) as redis:
        assert await roll(database, redis) == [True] * SHARDS
        assert_as_it_was(behind, await whole(redis))
        assert await roll(database, redis) == [False] * SHARDS
        assert (await admit(database, redis)).fences == {}


async def test_whoever_is_killed_while_rolling_leaves_something_to_begin_again_with(
    behind, database, own_valkey
):
    steps = ["after closing", "after values"]

    async def seen(step: str) -> None:
        if step not in steps:
            steps.append(step)
            raise Killed

    async with connect(own_valkey.url) as redis:
        for step in steps:
            with pytest.raises(Killed):
                await roll(database, redis, dies_at(step))
            assert {await redis.hget(keys.meta(0), "incarnation")} == {b"0"}
        while True:
            try:
                await roll(database, redis, seen)
                break
            except Killed:
                continue
        assert len(steps) > 2 + SHARDS
        assert_as_it_was(behind, await whole(redis))


async def test_an_append_only_file_without_its_end_is_rolled_forward(database, database_url, own_valkey):
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with traffic(database, own_valkey) as (shop, redis):
        await shop.run(40)
        await journal_all(database_url, own_valkey.url)
        before = await whole(redis)
    own_valkey.kill()
    (file,) = own_valkey.folder().glob("appendonlydir/*.incr.aof")
    with file.open("rb+") as written:
        written.truncate(int(file.stat().st_size * 0.6))
    own_valkey.start()
    async with connect(own_valkey.url) as redis:
        assert any(await roll(database, redis))
        assert_as_it_was(before, await whole(redis))


async def test_an_empty_shard_that_was_born_is_a_prefix(database, database_url, own_valkey, tmp_path):
    await give_birth(database_url, own_valkey.url, SHARDS)
    copy = copied(own_valkey, tmp_path)
    async with traffic(database, own_valkey) as (shop, redis):
        await shop.run(20)
        await journal_all(database_url, own_valkey.url)
        before = await whole(redis)
    put_back(own_valkey, copy)
    async with connect(own_valkey.url) as redis:
        assert await roll(database, redis) == [True] * SHARDS
        assert_as_it_was(before, await whole(redis))


async def test_one_that_has_taken_other_calls_since_is_no_prefix(behind, database, own_valkey):
    async with connect(own_valkey.url) as redis:
        for shard in range(SHARDS):
            await redis.hset(keys.meta(shard), "link", "another")
        assert await roll(database, redis) == [False] * SHARDS


async def test_one_whose_stream_and_meta_disagree_is_no_prefix(behind, database, own_valkey):
    async with connect(own_valkey.url) as redis:
        await redis.xadd(keys.journal(0), {"entry": "{}"})
        assert await roll(database, redis) == [False, True, True]


async def test_one_that_is_too_far_behind_is_left_to_a_restore(behind, database, own_valkey, monkeypatch):
    monkeypatch.setattr(rolling, "BEHIND_MAX", 1)
    async with connect(own_valkey.url) as redis:
        assert await roll(database, redis) == [False] * SHARDS


async def test_nobody_is_let_in_by_a_server_that_was_replaced_while_it_was_rolled(
    behind, database, own_valkey
):
    async with connect(own_valkey.url) as redis:

        async def replaced(step: str) -> None:
            if step == "after values":
                await replace_server(redis)

        with pytest.raises(Moved):
            await roll(database, redis, replaced)
        assert await roll(database, redis) == [True] * SHARDS
        assert_as_it_was(behind, await whole(redis))


async def test_a_journal_that_loses_its_end_while_redis_is_rolled_is_not_believed(
    behind, database, own_valkey
):
    """What was written already may be of entries that are gone, and nobody could tell."""
    async with connect(own_valkey.url) as redis:
        with pytest.raises(Killed):
            await roll(database, redis, dies_at("after values"))
        await database.execute("UPDATE shards SET cursor = cursor - 1 WHERE shard = 0")
        with pytest.raises(rolling.CannotRoll, match="PostgreSQL lost"):
            await roll(database, redis)

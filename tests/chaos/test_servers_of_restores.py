"""Restoring while servers are busy, full, killed or replaced, at the worst moment."""

import asyncio
from contextlib import suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.connection import connect
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.restore import RestoreRefused, restore
from tests.integration.dying import Killed
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.looking import Looking
from tests.integration.restore.state import assert_same, in_redis, spoil
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller, forge, replace_server


async def test_a_redis_that_is_busy_is_not_taken_for_one_without_a_stream(
    database, database_url, own_valkey, tmp_path
):
    """What was not read would be removed unsalvaged."""
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with connect(own_valkey.url) as redis, connect(own_valkey.url) as another:
        await Caller(redis, await admit(database, redis)).grant(0)
        await forge(redis, 0, available=77)
        await redis.hset(keys.meta(0), "fence", "look at this")
        await redis.config_set("lua-time-limit", 1)
        endless = None

        async def busy(step: str) -> None:
            nonlocal endless
            if step == "after drain":
                endless = asyncio.create_task(another.eval("while true do end", 0))
                async with asyncio.timeout(5):
                    while not await is_busy(redis):
                        pass
            if step == "after salvage":
                await redis.script_kill()

        path = tmp_path / "orphans"
        with pytest.raises(Exception, match="busy"):
            await restore(database_url, own_valkey.url, salvage=path, watch=Looking(), barrier=busy)
        await redis.script_kill()
        await asyncio.gather(endless, return_exceptions=True)
        found = await restore(database_url, own_valkey.url, salvage=path, watch=Looking())
    assert [each.salvaged for each in found.shards] == [1]


async def is_busy(redis) -> bool:
    try:
        await redis.ping()
    except Exception as error:  # noqa: BLE001 - the client has no name for it
        return "busy" in str(error).lower()
    return False


async def test_the_ledger_key_is_never_there_by_half(
    caller, database, database_url, redis, redis_url, restored, monkeypatch
):
    """A half would be another ledger's, to whoever begins again."""
    await caller.grant(0)
    await journal_all(database_url, redis_url)
    await redis.flushall()
    send, sent = Redis.execute_command, 0

    async def dies(self, *command, **options):
        nonlocal sent
        if command[1:2] == (keys.LEDGER,) and command[0].startswith("HSET") and (sent := sent + 1) == 2:
            raise Killed
        return await send(self, *command, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Redis, "execute_command", dies)
        with suppress(Killed):
            await restored()
    with suppress(RestoreRefused):
        assert (await restored()).fences == {}
    assert (await admit(database, redis)).fences == {}


async def test_a_server_that_brings_back_a_wrong_balance_at_the_same_entry_is_not_opened(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.flushall()

    async def replaced(step: str) -> None:
        if step == "after comparison":
            await spoil(redis, keys.account(0, "ana0"))
            await replace_server(redis)

    with pytest.raises(RestoreRefused, match="again"):
        await restored(barrier=replaced)
    assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))


async def test_a_redis_that_is_restarted_during_a_restore_stays_closed_until_the_next_one(
    database, database_url, own_valkey, tmp_path
):
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with connect(own_valkey.url) as redis:
        await Traffic(Caller(redis, await admit(database, redis)), SHARDS, seed=22).run(15)
        await journal_all(database_url, own_valkey.url)
        before = await in_redis(redis, SHARDS)
        await redis.flushall()

    async def restarted(name: str) -> None:
        if name == "after removal":
            own_valkey.kill()
            own_valkey.start()

    watch, path = Looking(), tmp_path / "orphans"
    with pytest.raises((RestoreRefused, RedisError)):
        await restore(database_url, own_valkey.url, salvage=path, watch=watch, barrier=restarted)
    async with connect(own_valkey.url) as redis:
        assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))
        found = await restore(database_url, own_valkey.url, salvage=path, watch=watch)
        assert (found.drift, found.fences) == ([], {})
        assert_same(before, await in_redis(redis, SHARDS))


async def test_a_redis_that_is_full_while_it_is_loaded_is_loaded_when_it_has_room(
    database, database_url, own_valkey, tmp_path
):
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with connect(own_valkey.url) as redis:
        await Traffic(Caller(redis, await admit(database, redis)), SHARDS, seed=23).run(15)
        await journal_all(database_url, own_valkey.url)
        before = await in_redis(redis, SHARDS)
        await redis.flushall()

        async def full(step: str) -> None:
            if step == "after removal":
                await redis.config_set("maxmemory", 1)

        path = tmp_path / "orphans"
        with pytest.raises(RedisError, match="maxmemory"):
            await restore(database_url, own_valkey.url, salvage=path, watch=Looking(), barrier=full)
        with suppress(RedisError):
            assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))
        await redis.config_set("maxmemory", 0)
        found = await restore(database_url, own_valkey.url, salvage=path, watch=Looking())
        assert (found.drift, found.fences) == ([], {})
        assert_same(before, await in_redis(redis, SHARDS))

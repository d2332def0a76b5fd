"""I13: a Redis that takes no writes says why. Nothing of the call has run, and whoever asked is told so."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from app.embedded import Valkey
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import FULL, NOT_PERSISTING, READ_ONLY, TOO_FEW_REPLICAS, LedgerUnavailable
from tests.chaos.proxy import Proxy
from tests.chaos.test_servers import Running
from tests.lua.dump import dump
from tests.lua.invariants import check_keys


async def be_full(redis: Redis, _: Valkey) -> None:
    await redis.config_set("maxmemory", 1)


async def be_empty_enough(redis: Redis, _: Valkey) -> None:
    await redis.config_set("maxmemory", 0)


async def fail_to_save(redis: Redis, server: Valkey) -> None:
    """A folder stands where the snapshot should."""
    (server.folder() / "dump.rdb").mkdir()
    (server.folder() / "dump.rdb" / "in the way").touch()
    await redis.config_set("save", "3600 1")
    await redis.bgsave()
    while (await redis.info("persistence"))["rdb_last_bgsave_status"] == "ok":
        pass


async def save(redis: Redis, server: Valkey) -> None:
    (server.folder() / "dump.rdb" / "in the way").unlink()
    (server.folder() / "dump.rdb").rmdir()
    await redis.bgsave()
    while (await redis.info("persistence"))["rdb_last_bgsave_status"] != "ok":
        pass


async def become_a_replica(redis: Redis, _: Valkey) -> None:
    await redis.replicaof("127.0.0.1", 1)


async def become_a_primary(redis: Redis, _: Valkey) -> None:
    await redis.replicaof("NO", "ONE")


async def demand_replicas(redis: Redis, _: Valkey) -> None:
    await redis.config_set("min-replicas-to-write", 1)


async def demand_none(redis: Redis, _: Valkey) -> None:
    await redis.config_set("min-replicas-to-write", 0)


Do = Callable[[Redis, Valkey], Awaitable[None]]


@pytest.mark.parametrize(
    ("cause", "break_it", "mend_it"),
    [
        (FULL, be_full, be_empty_enough),
        (NOT_PERSISTING, fail_to_save, save),
        (READ_ONLY, become_a_replica, become_a_primary),
        (TOO_FEW_REPLICAS, demand_replicas, demand_none),
    ],
)
async def test_a_server_that_takes_no_writes_says_why_and_is_served_once_it_does(
    own_valkey, cause: str, break_it: Do, mend_it: Do
):
    async with connect(own_valkey.url) as client, connect(own_valkey.url) as aside:
        running = await Running.on(client, aside, Limits())
        before = await dump(aside)
        await break_it(aside, own_valkey)
        for ask in (running.deduct(), running.ledger.balance("ana")):
            with pytest.raises(LedgerUnavailable) as raised:
                await ask
            assert cause == raised.value.facts["cause"]
        assert before == await dump(aside)
        await mend_it(aside, own_valkey)
        assert 95 == await running.deduct()
        await check_keys(aside)
        await running.ledger.stop()


async def test_of_a_call_that_may_have_run_before_it_is_not_said_that_nothing_was_done(own_valkey):
    async with (
        Proxy(own_valkey.url) as proxy,
        connect(proxy.url, answer_seconds=0.2) as client,
        connect(own_valkey.url) as aside,
    ):
        running = await Running.on(client, aside, Limits())
        proxy.keep_calls(1)
        asked = asyncio.create_task(running.deduct())
        await proxy.until_kept(1)
        await be_full(aside, own_valkey)
        with pytest.raises(LedgerUnavailable) as raised:
            await asked
        assert "OOM" in str(raised.value.facts["why"])
        assert "cause" not in raised.value.facts
        await be_empty_enough(aside, own_valkey)
        assert 95 == await running.deduct()
        await running.ledger.stop()

"""I9 between whole processes: two servers with one journal, a server whose data went back, an empty one."""

import asyncio
import os
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from app.ledger.connection import connect
from app.ledger.errors import LedgerFenced, LedgerUnavailable
from app.ledger.operations import Deduct, Grant
from persistence.acknowledged import look
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.pool import open_pool
from tests.chaos.scenes import answered
from tests.conftest import PASSWORD
from tests.integration.books import assert_conserved, assert_equal
from tests.integration.ledgers import SHARDS, process, watching
from tests.integration.streams import put_back, replace_server, snapshot


async def until_refused(ledger) -> LedgerFenced:
    """The refusal to spend that is more than a moment's."""
    async with asyncio.timeout(10):
        while True:
            try:
                await ledger.deduct(spend())
            except LedgerFenced as error:
                return error
            except LedgerUnavailable:
                continue


def spend() -> Deduct:
    return Deduct(account="ana", amount=1)


@pytest.mark.parametrize(("spent_there", "spent_here"), [(3, 5), (5, 3), (0, 5)])
async def test_of_two_servers_with_one_journal_only_one_goes_on_and_the_journal_has_one_history(
    database, database_url, redis, redis_url, own_valkey, spent_there, spent_here
):
    """A promotion that the old primary has not heard of: both have the data, each has its clients."""
    await give_birth(database_url, redis_url, SHARDS)
    async with (
        process(database, redis_url) as old,
        process(database, own_valkey.url) as new,
        connect(own_valkey.url) as promoted,
        AsyncExitStack() as stack,
    ):
        await old.grant(Grant(account="ana", amount=1000))
        await put_back(promoted, await snapshot(redis))
        for each in (old, new):
            await stack.enter_async_context(watching(database, each))
        mine = [await old.deduct(spend()) for _ in range(spent_there)]
        theirs = [await new.deduct(spend()) for _ in range(spent_here)]
        await drain(database_url, own_valkey.url, 0.5, keep=None)
        assert "Another Redis has been admitted" in str(await until_refused(old))
        assert (await new.deduct(spend())).account.available == 999 - spent_here
        assert "Another Redis has been admitted" in str(await until_refused(old))
        assert await database.fetch("SELECT fence FROM shards WHERE fence IS NOT NULL") == []
        rows = await database.fetch("SELECT seq, entry FROM journal WHERE account = 'ana' ORDER BY seq")
        nonces = [row["entry"].split('"nonce":"')[1].split('"')[0] for row in rows]
        assert nonces[1:] == [each.entry.nonce for each in theirs]
        assert not {each.entry.nonce for each in mine} & set(nonces)
    await assert_conserved(database)


async def test_a_server_started_with_a_copy_of_older_data_is_rolled_forward_where_it_is_behind(
    database, database_url, own_valkey, reachable_tmp_path
):
    """Somebody put back the data folder of some time ago, and clients go on over their old connections."""
    folder, copy = own_valkey.folder(), reachable_tmp_path / "copy"
    keyed = Deduct(account="ana", amount=1, key="k", fingerprint="f" * 16)
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with process(database, own_valkey.url, seconds=10.0) as ledger:
        await ledger.grant(Grant(account="ana", amount=1000))
        await ledger.grant(Grant(account="bea", amount=1000))
        own_valkey.stop()
        shutil.copytree(folder, copy)
        own_valkey.start()
        first = await answered(lambda: ledger.deduct(keyed))
        await drain(database_url, own_valkey.url, 0.5, keep=None)
        own_valkey.kill()
        shutil.rmtree(folder)
        copy.rename(folder)
        own_valkey.start()
        again = await answered(lambda: ledger.deduct(keyed))
        assert (again.replayed, again.transaction) == (True, first.transaction)
        assert (await ledger.deduct(spend())).account.available == 998
        assert (await ledger.balance("bea")).account.available == 1000
        await drain(database_url, own_valkey.url, 0.5, keep=None)
        async with connect(own_valkey.url) as redis:
            assert await assert_equal(database, redis) == 4


async def test_an_everysec_tail_that_was_cut_off_is_rolled_forward_as_far_as_the_journal_goes(
    database, database_url, own_valkey
):
    """What had not reached the journal either is lost, and the balance says so at once: no false one."""
    (folder,) = (each for each in own_valkey.folder().rglob("appendonlydir"))
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with process(database, own_valkey.url, seconds=10.0) as ledger:
        await ledger.grant(Grant(account="ana", amount=1000))
        (tail,) = folder.glob("*.incr.aof")
        durable = tail.stat().st_size
        for _ in range(5):
            await ledger.deduct(spend())
        await drain(database_url, own_valkey.url, 0.5, keep=None)
        for _ in range(3):
            await ledger.deduct(spend())
        own_valkey.kill()
        with tail.open("r+b") as file:
            file.truncate(durable)
        own_valkey.start()
        assert (await answered(lambda: ledger.balance("ana"))).account.available == 995
        assert (await ledger.deduct(spend())).account.available == 994
        await drain(database_url, own_valkey.url, 0.5, keep=None)
        async with connect(own_valkey.url) as redis:
            assert await assert_equal(database, redis) == 7


async def in_step(with_: Redis, behind: Redis) -> None:
    async with asyncio.timeout(15):
        while True:
            if await with_.dbsize() == await behind.dbsize() > 0 and (
                (await behind.info("replication")).get("master_link_status") == "up"
            ):
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "is_journaled",
    [True, pytest.param(False, marks=pytest.mark.nightly("what is lost is told: test_lost_redis.py"))],
)
async def test_data_that_goes_back_by_a_lagging_replica_under_a_living_connection_is_rolled_forward(
    database, database_url, redis, redis_url, own_valkey, is_journaled
):
    """The client's server is demoted to a copy of what a replica had, and promoted again."""
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url, seconds=10.0) as ledger, connect(own_valkey.url) as replica:
        for each in (redis, replica):
            await each.config_set("masterauth", PASSWORD)
        await ledger.grant(Grant(account="ana", amount=1000))
        await replica.execute_command("REPLICAOF", "127.0.0.1", urlsplit(redis_url).port)
        await in_step(redis, replica)
        await replica.execute_command("REPLICAOF", "NO", "ONE")  # it lags for ever
        for _ in range(4):
            await ledger.deduct(spend())
        if is_journaled:
            await drain(database_url, redis_url, 0.5, keep=None)
        await redis.execute_command("REPLICAOF", "127.0.0.1", own_valkey.port)
        await in_step(replica, redis)
        await redis.execute_command("REPLICAOF", "NO", "ONE")
        left = 996 if is_journaled else 1000
        assert (await answered(lambda: ledger.balance("ana"))).account.available == left
        assert (await ledger.deduct(spend())).account.available == left - 1
        await drain(database_url, redis_url, 0.5, keep=None)
        assert bool(await look(database, ledger.acknowledged)) != is_journaled
        assert await assert_equal(database, redis) == (6 if is_journaled else 2)
    await assert_conserved(database)


def copy_with_owner(folder: Path, copy: Path) -> None:
    shutil.copytree(folder, copy)
    owner = folder.stat()
    for each in (copy, *copy.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)


async def test_a_postgresql_that_lost_its_last_seconds_and_an_admission_is_fed_again(
    own_postgres, redis, redis_url, reachable_tmp_path
):
    data, copy = own_postgres.folder() / "data", reachable_tmp_path / "copy"
    await give_birth(own_postgres.url, redis_url, SHARDS)
    database = await open_pool(own_postgres.url)
    async with process(database, redis_url, seconds=10.0) as ledger:
        await ledger.grant(Grant(account="ana", amount=1000))
        await drain(own_postgres.url, redis_url, 0.5, keep=None)
        own_postgres.stop()
        copy_with_owner(data, copy)
        own_postgres.start()

        await replace_server(redis)
        for _ in range(5):
            await ledger.deduct(spend())
        assert max(ledger.terms.incarnations) == 2
        assert (await drain(own_postgres.url, redis_url, 0.5, keep=None)).rows == 5
        own_postgres.kill()
        shutil.rmtree(data)
        copy.rename(data)
        own_postgres.start()
        await database.expire_connections()

        assert await database.fetchval("SELECT max(incarnation) FROM shards") == 1
        assert (await ledger.deduct(spend())).account.available == 994
        async with asyncio.timeout(30):
            while not (fed := (await drain(own_postgres.url, redis_url, 1.0, keep=None)).rows):
                pass
        assert fed == 6
        assert (await ledger.deduct(spend())).account.available == 993
        await drain(own_postgres.url, redis_url, 0.5, keep=None)
        assert min(ledger.terms.incarnations) > 2
    assert await database.fetch("SELECT fence FROM shards WHERE fence IS NOT NULL") == []
    assert await assert_equal(database, redis) == 8
    await database.close()

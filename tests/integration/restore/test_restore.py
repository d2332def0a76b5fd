"""A Redis that has lost what it had is made again from the journal."""

import asyncio

import pytest

from app.ledger import keys
from app.ledger.errors import LedgerFenced, ReservationExpired, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Confirm, Deduct, Grant, Reserve
from app.ledger.shards import shard_of
from persistence.admission import admit
from persistence.birth import give_birth
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all, watchful_process
from tests.integration.restore.looking import STEPS
from tests.integration.restore.state import assert_same, in_journal, in_redis
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller

ACCOUNTS = {shard_of(name, SHARDS): name for name in (f"mine-{number}" for number in range(50))}
"""One account for each shard."""


async def texts(redis) -> dict[bytes, bytes]:
    """Accounts and reservations, letter by letter; metadata and prices may be spelt in another order."""
    found = {}
    for kind in ("account", "reservation"):
        for name in await redis.keys(f"lastro:*:{kind}:*"):
            text = await redis.get(name)
            found[name] = text.partition(b',"metadata":')[0].partition(b',"price":')[0]
    return found


async def now_ms(redis) -> int:
    """Redis' clock, in whole seconds."""
    return (await redis.time())[0] * 1000


async def past_moment(redis, at_ms: int) -> None:
    """Until Redis' clock is past it."""
    while True:
        if (await redis.time())[0] * 1000 > at_ms:
            return
        await asyncio.sleep(0.02)


async def served(ledger: Ledger, account: str) -> int:
    """What is available, as soon as the process has found out by itself that it may say so."""
    async with asyncio.timeout(10):
        while True:
            try:
                return (await ledger.balance(account)).account.available
            except Unavailable:
                await asyncio.sleep(0.02)


async def test_an_emptied_redis_is_made_again_key_by_key(
    caller, database, database_url, redis, redis_url, salvaging
):
    await Traffic(caller, SHARDS, seed=7).run(150)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    found, lines = await salvaging()
    assert (found.drift, found.fences, lines) == ([], {}, [])
    assert_same(before, await in_redis(redis, SHARDS))
    assert found.loaded == len([name for name in before.values if ":account:" in name]) + sum(
        len(open_ones) for name, open_ones in before.values.items() if ":holds:" in name
    )
    assert (await redis.xrevrange(keys.journal(0), count=1))[0][0] == b"%d-0" % found.shards[0].cursor
    assert [each.cursor for each in found.shards] == [
        int(await redis.hget(keys.meta(shard), "sequence")) for shard in range(SHARDS)
    ]
    assert await redis.hgetall(keys.LEDGER) == {
        b"id": caller.terms.ledger.encode(), b"shards": str(SHARDS).encode()
    }  # fmt: skip


async def test_calls_go_on_where_they_were_and_are_journaled(
    caller, database, database_url, redis, redis_url, restored
):
    traffic = Traffic(caller, SHARDS, seed=8)
    await traffic.run(50)
    await journal_all(database_url, redis_url)
    await redis.flushall()
    await restored()
    traffic.calls_with(Caller(redis, await admit(database, redis)))
    await traffic.run(80)
    await journal_all(database_url, redis_url)
    async with database.acquire() as connection:
        assert_same(await in_journal(connection, SHARDS, await now_ms(redis)), await in_redis(redis, SHARDS))
    assert await database.fetch("SELECT fence FROM shards WHERE fence IS NOT NULL") == []


async def test_every_text_that_is_loaded_is_the_very_text_that_the_script_would_have_written(
    caller, database, database_url, redis, redis_url, restored
):
    """The script keeps parts of a text as they stand, so that equal in value is not enough."""
    await Traffic(caller, SHARDS, seed=11).run(100)
    await journal_all(database_url, redis_url)
    before = await texts(redis)
    await redis.flushall()
    await restored()
    assert await texts(redis) == before


async def test_processes_that_run_come_back_by_themselves_and_replay_what_they_had_answered(
    database, database_url, redis, redis_url, restored
):
    await give_birth(database_url, redis_url, SHARDS)
    async with watchful_process(database, redis_url) as ledger:
        for name in ACCOUNTS.values():
            await ledger.grant(Grant(account=name, amount=100))
        deduct = Deduct(account=ACCOUNTS[0], amount=30, key="k", fingerprint="p")
        receipt = await ledger.deduct(deduct)
        made = await ledger.new_reservation_id(ACCOUNTS[1])
        await ledger.reserve(Reserve(account=ACCOUNTS[1], reservation=made, amount=5, ttl_ms=60_000))
        await journal_all(database_url, redis_url)
        await redis.flushall()
        with pytest.raises(LedgerFenced):
            await ledger.deduct(Deduct(account=ACCOUNTS[0], amount=1))
        await restored()
        assert await served(ledger, ACCOUNTS[0]) == 70
        again = await ledger.deduct(deduct)
        assert (again.replayed, again.transaction) == (True, receipt.transaction)
        assert (await ledger.confirm(Confirm(reservation=made))).account.available == 95


async def test_holds_whose_deadline_has_passed_meanwhile_expire_as_usual(
    database, database_url, redis, redis_url, restored
):
    await give_birth(database_url, redis_url, SHARDS)
    async with watchful_process(database, redis_url) as ledger:
        await ledger.grant(Grant(account="ana", amount=100))
        made = await ledger.new_reservation_id("ana")
        await ledger.reserve(Reserve(account="ana", reservation=made, amount=5, ttl_ms=1_000))
        await journal_all(database_url, redis_url)
        at_ms = (await ledger.find(made)).expires_at_ms
        await redis.flushall()
        async with asyncio.timeout(5):
            await past_moment(redis, at_ms)
        await restored()
        assert await served(ledger, "ana") == 100
        with pytest.raises(ReservationExpired):
            await ledger.confirm(Confirm(reservation=made))


async def test_the_shards_that_are_not_fenced_serve_throughout(
    database, database_url, redis, redis_url, restored
):
    await give_birth(database_url, redis_url, SHARDS)
    async with watchful_process(database, redis_url) as ledger:
        for name in ACCOUNTS.values():
            await ledger.grant(Grant(account=name, amount=100))
        await journal_all(database_url, redis_url)
        await redis.delete(keys.meta(1), keys.journal(1))
        with pytest.raises(LedgerFenced):
            await ledger.deduct(Deduct(account=ACCOUNTS[1], amount=1))
        balances = []

        async def asked(_step: str) -> None:
            balances.append((await ledger.deduct(Deduct(account=ACCOUNTS[0], amount=1))).account.available)
            with pytest.raises(LedgerFenced):
                await ledger.deduct(Deduct(account=ACCOUNTS[1], amount=1))

        found = await restored(barrier=asked)
        assert [each.shard for each in found.shards] == [1]
        assert balances == list(range(99, 99 - len(STEPS), -1))
        assert await served(ledger, ACCOUNTS[1]) == 100


async def test_keys_of_others_and_lanes_are_left_alone(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.set("somebody:else", "x")
    await redis.set("lastro:{12}:account:of-no-shard", "x")
    lanes = {name: await redis.dump(name) for name in await redis.keys("lastro:{0}:lane:*")}
    await redis.delete(keys.meta(0))
    await restored()
    assert lanes == {name: await redis.dump(name) for name in await redis.keys("lastro:{0}:lane:*")}
    assert await redis.mget("somebody:else", "lastro:{12}:account:of-no-shard") == [b"x", b"x"]

"""What comes back of what is at its limits, far behind, or changed by hand."""

import asyncio
import json
from contextlib import suppress

import pytest

from app.ledger import keys
from app.ledger.errors import IdempotencyMismatch, TaskConflict, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Reserve
from app.ledger.shards import new_reservation_id
from persistence import session
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.restore import filling
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all, watchful_process
from tests.integration.restore.state import assert_same, in_redis
from tests.integration.streams import Caller, roll_back, snapshot


@pytest.mark.parametrize("how", ["rolled", "restored"])
async def test_time_does_not_go_back_because_redis_clock_does(
    caller, database, database_url, redis, redis_url, restored, how
):
    """The journal's last entry was written by a clock that went ahead."""
    await caller.grant(0)
    early = await snapshot(redis)
    ahead_ms = (await redis.time())[0] * 1000 + 300_000
    await redis.hset(keys.meta(0), "now_ms", ahead_ms)
    await caller.grant(0)
    await journal_all(database_url, redis_url)
    if how == "restored":
        await redis.flushall()
        await restored()
    else:
        await roll_back(redis, early)
    await Caller(redis, await admit(database, redis)).grant(0)
    await journal_all(database_url, redis_url)
    rows = await database.fetch("SELECT entry::json ->> 'at_ms' AS at_ms FROM journal ORDER BY seq")
    assert [int(row["at_ms"]) for row in rows][1:] == [ahead_ms, ahead_ms]


async def test_as_much_as_an_account_may_have_comes_back(
    caller, database, database_url, redis, redis_url, restored
):
    """64 lots, many holds, and sums at the end of what is exact."""
    account = "ana0"
    now_ms = (await redis.time())[0] * 1000
    most = 2**53 - 1
    lots = [
        Grant(shard=0, account=account, amount=1 if lot else most - 63, open=True, bucket=f"b{lot:02}",
              expires_at_ms=now_ms + 80_000_000 + lot)
        for lot in range(64)
    ]  # fmt: skip
    await caller.call(lots)
    for _ in range(5):
        made = [new_reservation_id(0, now_ms) for _ in range(200)]
        reply = await caller.call(
            [Reserve(shard=0, account=account, amount=3, ttl_ms=60_000_000, reservation=id_) for id_ in made]
        )
        assert {type(each).__name__ for each in reply.results} == {"Applied"}
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    assert json.loads(await redis.get(keys.account(0, account)))["held"] == 3_000
    await redis.flushall()
    assert (await restored()).loaded == 1_001
    assert_same(before, await in_redis(redis, SHARDS))


async def test_every_kind_of_request_is_answered_as_before_though_its_entry_is_in_no_stream(
    database, database_url, redis, redis_url, restored, monkeypatch
):
    monkeypatch.setattr(filling, "STREAM_ENTRIES", 1)
    await give_birth(database_url, redis_url, SHARDS)
    async with watchful_process(database, redis_url) as ledger:

        async def ask() -> list:
            made, other = reservations
            held = {"account": "ana", "ttl_ms": 60_000, "fingerprint": "f"}
            task = {"task": "t", "provider": "p"}
            return [
                await ledger.grant(Grant(account="ana", amount=90, key="k1", fingerprint="f")),
                await ledger.deduct(Deduct(account="ana", amount=1, key="k2", fingerprint="f")),
                await ledger.reserve(Reserve(reservation=made, amount=2, key="k3", **held)),
                await ledger.reserve(Reserve(reservation=other, amount=3, key="k4", **held, **task)),
                await ledger.bind(Bind(reservation=made, task="t2", key="k1", fingerprint="f")),
                await ledger.confirm(Confirm(reservation=made, amount=1, key="k5", fingerprint="f")),
                await ledger.cancel(Cancel(reservation=other, key="k6", fingerprint="f")),
            ]

        reservations = [await ledger.new_reservation_id("ana") for _ in range(2)]
        first = await ask()
        await ledger.grant(Grant(account="ana", amount=1))
        await journal_all(database_url, redis_url)
        await redis.flushall()
        await restored()
        await until_served(ledger, "ana")
        again = await ask()
        assert {each.replayed for each in again} == {True}
        assert [str(each.transaction) for each in again] == [str(each.transaction) for each in first]
        assert [each.entry for each in again] == [each.entry for each in first]
        assert [each.reservation and each.reservation.id for each in again] == [
            each.reservation and each.reservation.id for each in first
        ]
        assert {await ledger.locate("p", "t"), await ledger.locate(None, "t2")} == set(reservations)
        with pytest.raises(IdempotencyMismatch):
            await ledger.deduct(Deduct(account="ana", amount=1, key="k2", fingerprint="another"))
        with pytest.raises(TaskConflict):
            await ledger.reserve(
                Reserve(account="ana", reservation=await ledger.new_reservation_id("ana"), amount=1,
                        ttl_ms=60_000, task="t", provider="p")
            )  # fmt: skip


async def until_served(ledger: Ledger, account: str) -> None:
    async with asyncio.timeout(10):
        while True:
            with suppress(Unavailable):
                await ledger.balance(account)
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET available = available + 1; UPDATE lots SET available = available + 1",
        "DELETE FROM reservations",
    ],
)
async def test_a_table_that_was_changed_by_hand_is_not_served_from(
    caller, database, database_url, redis, redis_url, restored, statement
):
    """What is loaded is read from what the journal adds up to: it must still add up."""
    await caller.grant(0, calls=3)
    id_ = new_reservation_id(0, (await redis.time())[0] * 1000)
    await caller.call([Reserve(shard=0, account="ana0", amount=1, ttl_ms=60_000, reservation=id_)])
    await journal_all(database_url, redis_url)
    await database.execute(statement)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    found = await restored()
    assert (found.drift, found.fences, found.rewritten) == ([], {}, ["ana0"])
    assert_same(before, await in_redis(redis, SHARDS))


async def test_what_is_drained_is_on_the_disk_before_it_is_removed(database, database_url):
    name = await database.fetchval("SELECT current_database()")
    await database.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    connection = await session.connect(database_url)
    try:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()

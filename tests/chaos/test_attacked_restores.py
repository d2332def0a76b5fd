"""Restoring while servers change at the worst moment, two operators meet, and everybody meddles."""

import asyncio
import json
from contextlib import suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.errors import IdempotencyMismatch, TaskConflict, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Reserve
from app.ledger.shards import new_reservation_id
from persistence import session
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import fence, unfence
from persistence.restore import RestoreRefused, filling, restore
from tests.integration.dying import Killed
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all, watchful_process
from tests.integration.restore.looking import Looking
from tests.integration.restore.state import assert_same, in_redis, spoil
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller, forge, replace_server, roll_back, snapshot

CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'lastro restore' AND datname = current_database()
"""


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


async def test_a_restore_that_has_lost_its_lock_removes_nothing_of_the_next_one(
    caller, database, database_url, redis, redis_url, restored, monkeypatch
):
    """Cut off from PostgreSQL, which lets another operator begin, it still has a page to send to Redis."""
    operation = Deduct(shard=0, account="ana0", amount=1, key="k", fingerprint="f")
    await caller.grant(0, calls=3)
    await caller.call([operation])
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.hset(keys.meta(0), "fence", "look at this")
    sending, goes_on = asyncio.Event(), asyncio.Event()
    send = filling.load

    async def held_up(*arguments, **named):
        monkeypatch.undo()
        sending.set()
        await goes_on.wait()
        return await send(*arguments, **named)

    monkeypatch.setattr(filling, "load", held_up)
    first = asyncio.create_task(restored())
    await sending.wait()
    await database.execute(CUT_OFF)

    async def late(step: str) -> None:
        if step == "after removal":
            goes_on.set()
            with pytest.raises(RestoreRefused):
                await first

    found = await restored(barrier=late)
    assert (found.drift, found.fences) == ([], {})
    assert_same(before, await in_redis(redis, SHARDS))


async def test_a_restore_that_slept_while_another_one_was_done_touches_nothing(
    caller, database, database_url, redis, redis_url, restored
):
    """Its next step would be to empty what is served by now."""
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.flushall()
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleeps(step: str) -> None:
        if step == "after salvage":
            asleep.set()
            await awake.wait()

    first = asyncio.create_task(restored(barrier=sleeps))
    await asleep.wait()
    await database.execute(CUT_OFF)
    assert (await restored()).fences == {}
    await Caller(redis, await admit(database, redis)).grant(0, calls=2)
    awake.set()
    with pytest.raises(RestoreRefused, match="no longer as it was"):
        await first
    await journal_all(database_url, redis_url)
    assert json.loads(await redis.get(keys.account(0, "ana0")))["available"] == 5
    assert await database.fetchval("SELECT available FROM accounts") == 5


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


async def test_a_restore_that_everybody_meddles_with_comes_to_the_same(
    caller, database, database_url, redis, redis_url, restored
):
    """Processes admit, a worker drains, an operator opens and closes, and an old process still calls."""
    await Traffic(caller, SHARDS, seed=21).run(30)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    steps = []

    async def meddled_with(step: str) -> None:
        steps.append(step)
        assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))
        assert (await unfence(database, redis, None, "somebody is in a hurry")).opened == []
        assert await fence(database, redis, None, "somebody is late") == []
        assert (await caller.call([Deduct(shard=0, account="account-0", amount=1)])).status == "not_admitted"
        await drain(database_url, redis_url, 0.01, keep=None)

    found = await restored(barrier=meddled_with)
    assert (len(steps), found.drift, found.fences) == (7, [], {})
    assert_same(before, await in_redis(redis, SHARDS))
    assert found.left == list(range(SHARDS))  # as whoever was late wants it
    assert (await unfence(database, redis, None, "in time")).opened == found.left
    await Caller(redis, await admit(database, redis)).grant(0)


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


async def test_a_worker_in_the_middle_of_a_batch_moves_nothing_under_a_restore(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await caller.grant(0, calls=3)
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleeps(step: str) -> None:
        if step == "after read" and not awake.is_set():
            asleep.set()
            await awake.wait()

    worker = asyncio.create_task(
        drain(database_url, redis_url, 0.3, keep=None, connections=1, barrier=sleeps)
    )
    await asleep.wait()
    await redis.hset(keys.meta(0), "fence", "look at this")

    async def wakes(step: str) -> None:
        if step == "after removal":
            awake.set()

    found = await restored(barrier=wakes)
    assert [(each.drained, each.salvaged, each.cursor) for each in found.shards] == [(3, 0, 6)]
    assert (await worker).condemned == []
    assert json.loads(await redis.get(keys.account(0, "ana0")))["available"] == 6


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

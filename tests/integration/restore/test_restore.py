"""A Redis that has lost what it had is made again from the journal."""

import asyncio
import json

import pytest

from app.ledger import keys
from app.ledger.errors import LedgerFenced, ReservationExpired, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Confirm, Deduct, Grant, Reserve
from app.ledger.shards import shard_of
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.fences import unfence
from persistence.restore import RestoreRefused, restore
from tests.integration.dying import Killed, dies_at
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all, watchful_process
from tests.integration.restore.looking import Looking
from tests.integration.restore.state import assert_same, in_journal, in_redis, spoil
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller, forge, put_back, replace_server, roll_back, snapshot

STEPS = [
    f"after {step}" for step in ("claim", "proof", "drain", "salvage", "removal", "load", "comparison")
]  # fmt: skip
ACCOUNTS = {shard_of(name, SHARDS): name for name in (f"mine-{number}" for number in range(50))}
"""One account for each shard."""


@pytest.fixture
def salvaging(restored, tmp_path):
    """Restores, and gives back what came of it and what was salvaged."""

    async def run(**options):
        found = await restored(**options)
        path = tmp_path / "salvaged" / "orphans.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return found, [json.loads(line) for line in lines]

    return run


async def texts(redis) -> dict[bytes, bytes]:
    """Accounts and reservations, letter by letter; metadata alone may be spelt in another order."""
    found = {}
    for kind in ("account", "reservation"):
        for name in await redis.keys(f"lastro:*:{kind}:*"):
            found[name] = (await redis.get(name)).partition(b',"metadata":')[0]
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


@pytest.mark.parametrize("step", STEPS)
async def test_a_restore_that_was_killed_after_any_step_is_begun_again(
    caller, database, database_url, redis, redis_url, restored, step
):
    await Traffic(caller, SHARDS, seed=3).run(30)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    with pytest.raises(Killed):
        await restored(barrier=dies_at(step))
    terms = await admit(database, redis)
    assert terms.fences.keys() == set(range(SHARDS))
    assert all(new > old for new, old in zip(terms.incarnations, caller.terms.incarnations, strict=True))
    opening = await unfence(database, redis, None, "somebody is in a hurry")
    assert (opening.opened, opening.stays.keys()) == ([], set(range(SHARDS)))
    found = await restored()
    assert (found.drift, found.fences) == ([], {})
    assert_same(before, await in_redis(redis, SHARDS))
    assert (await admit(database, redis)).fences == {}


async def test_a_restore_that_was_killed_between_two_pages_is_begun_again(
    caller, database, database_url, redis, redis_url, restored, monkeypatch
):
    await Traffic(caller, SHARDS, seed=5).run(30)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    pages = 0

    def dies(_watch: Looking, _by: int) -> None:
        nonlocal pages
        pages += 1
        if pages == 3 * SHARDS + 2:  # proved, drained and salvaged are counted, too
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Looking, "advance", dies)
        with pytest.raises(Killed):
            await restored()
    assert 0 < len(await redis.keys("lastro:*:account:*")) < len(before.values)
    assert (await restored()).fences == {}
    assert_same(before, await in_redis(redis, SHARDS))


async def test_what_was_not_journaled_yet_is_drained_before_anything_is_removed(
    caller, database, database_url, redis, redis_url, salvaging
):
    await Traffic(caller, SHARDS, seed=4).run(30)
    before = await in_redis(redis, SHARDS)
    await database.execute(
        "UPDATE shards SET fence = 'somebody said so', fenced_at = now(), fenced_by = 'admission'"
    )
    found, lines = await salvaging()
    assert (found.drift, found.fences, lines) == ([], {}, [])
    assert sum(each.drained for each in found.shards) == await database.fetchval(
        "SELECT count(*) FROM journal"
    )
    assert_same(before, await in_redis(redis, SHARDS))


async def test_a_lost_meta_does_not_keep_the_stream_from_being_drained(caller, database, redis, salvaging):
    await caller.grant(0, calls=6)
    await redis.delete(keys.meta(0))
    found, lines = await salvaging()
    (shard,) = found.shards
    assert (shard.drained, shard.salvaged, shard.cursor, lines) == (6, 0, 6, [])
    assert json.loads(await redis.get(keys.account(0, "ana0")))["available"] == 6


async def test_what_an_older_copy_has_taken_on_is_kept_and_named(
    caller, database, database_url, redis, redis_url, salvaging, tmp_path
):
    """Two histories: the journal's is served, the other one is told."""
    await caller.grant(0, calls=5)
    copy = await snapshot(redis)
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await put_back(redis, copy)
    await caller.grant(0, calls=7)
    taken_on = [fields[b"entry"].decode() for _, fields in await redis.xrange(keys.journal(0), "6-0", "+")]
    await replace_server(redis)
    assert (await admit(database, redis)).fences.keys() == {0}
    found, lines = await salvaging()
    assert (found.drift, found.fences) == ([], {})
    assert [each["entry"] for each in lines] == taken_on
    assert [each["sequence"] for each in lines] == list(range(6, 13))
    assert {(each["kind"], each["account"], each["amount"]) for each in lines} == {("granted", "ana0", 1)}
    kept = await database.fetch("SELECT entry FROM orphans ORDER BY seq")
    assert [row["entry"] for row in kept] == [each["entry"] for each in lines]
    (shard,) = found.shards
    assert (shard.salvaged, shard.cursor, shard.drained) == (7, 8, 0)
    assert json.loads(await redis.get(keys.account(0, "ana0")))["available"] == 8


async def test_of_a_stream_with_something_foreign_in_it_what_comes_before_is_journaled(
    caller, database, redis, salvaging
):
    await caller.grant(0, calls=4)
    await forge(redis, 0, available=1)
    await forge(redis, 0, task="t1", reservation="01a00000-0000-7000-9000-000000000000")
    await redis.hset(keys.meta(0), "fence", "look at this")
    found, lines = await salvaging()
    (shard,) = found.shards
    assert (shard.drained, shard.salvaged, shard.cursor) == (4, 2, 4)
    assert [each["sequence"] for each in lines] == [5, 6]
    assert "Entry 5" in lines[0]["why"]


async def test_a_task_that_only_an_orphan_has_bound_is_free_again(
    caller, database, database_url, redis, redis_url, restored
):
    """Its shard may be one that was never fenced."""
    await caller.grant(0, calls=2)
    await journal_all(database_url, redis_url)
    reservation = "01a00000-0000-7000-9000-000000000000"
    task = next(f"t{n}" for n in range(99) if shard_of(f":t{n}", SHARDS) == 1)
    await forge(redis, 0, available=1, kind="reserved", task=task, reservation=reservation)
    await redis.set(keys.task(1, None, task), reservation)
    await redis.set(keys.task(1, None, "another"), reservation)
    await redis.hset(keys.meta(0), "fence", "look at this")
    await restored()
    assert await redis.exists(keys.task(1, None, task)) == 0
    assert await redis.exists(keys.task(1, None, "another")) == 1


async def test_a_healthy_ledger_is_refused(caller, restored):
    with pytest.raises(RestoreRefused, match="healthy"):
        await restored()


async def test_who_looks_on_may_say_no_and_nothing_is_done(caller, database_url, redis, redis_url, tmp_path):
    await redis.hset(keys.meta(0), "fence", "look at this")
    before = await redis.dump(keys.meta(1))
    assert await restore(database_url, redis_url, salvage=tmp_path / "x", watch=Looking(agrees=False)) is None
    assert await redis.dump(keys.meta(1)) == before


async def test_two_restores_at_once_are_one_too_many(caller, redis, restored):
    await redis.hset(keys.meta(0), "fence", "look at this")

    async def second(step: str) -> None:
        if step == "after drain":
            with pytest.raises(RestoreRefused, match="Another restore"):
                await restored()

    assert (await restored(barrier=second)).fences == {}


async def test_what_only_redis_has_because_postgresql_lost_it_is_not_given_up(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=6)
    await redis.xtrim(keys.journal(0), minid="4-0", approximate=False)
    await redis.hset(keys.meta(0), "fence", "look at this")
    before = await redis.dump(keys.account(0, "ana0"))
    with pytest.raises(RestoreRefused, match="--adopt"):
        await restored()
    assert await redis.dump(keys.account(0, "ana0")) == before


@pytest.mark.parametrize("moment", ["after load", "after comparison"])
async def test_a_server_that_is_replaced_before_it_is_opened_stays_closed(
    caller, database, database_url, redis, redis_url, restored, moment
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.flushall()
    copy = {}

    async def replaced(step: str) -> None:
        if step == "after removal":
            copy.update(await snapshot(redis))
        if step == moment:
            await roll_back(redis, copy)

    with pytest.raises(RestoreRefused, match="again"):
        await restored(barrier=replaced)
    assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))
    assert (await restored()).fences == {}


async def test_something_that_is_loaded_wrongly_is_found_and_not_opened(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.flushall()

    async def spoilt(step: str) -> None:
        if step == "after load":
            await spoil(redis, keys.account(0, "ana0"))

    found = await restored(barrier=spoilt)
    assert [each.account_id for each in found.drift] == ["ana0"]
    assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))


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

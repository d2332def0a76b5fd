"""Whatever is wrong is put right by what the journal says, alone, and never against a call that came in
between.
"""

import json
from functools import partial

import msgspec
import pytest

from app.ledger import keys
from app.ledger.connection import connect as connect_redis
from app.ledger.operations import Balance, Confirm, Deduct, Grant, Reserve
from app.ledger.replies import Declined
from app.ledger.shards import new_reservation_id
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.reconcile.hands import NotRepaired
from persistence.reconcile.hands import hands as hands_of
from persistence.reconcile.repair import Repairer
from tests.chaos.proxy import Proxy
from tests.integration.dying import Killed, dies_at
from tests.integration.reconcile.past import ANA, BOB, IN_2100_MS, NOW_MS
from tests.integration.reconcile.test_compare import tamper
from tests.integration.reconcile.test_compare_tables import ONE_MORE


async def spoil_everything(past, redis):
    """Everything that can be wrong about Ana at once."""
    account = await past.account(ANA)
    lots = [msgspec.structs.replace(account.lots[0], available=999, priority=1), *account.lots[1:]]
    await past.put_reservation(past.other, held=3, expires_at_ms=1)
    await past.put_reservation(past.confirmed, captured=0, released=7)
    await redis.delete(keys.reservation(0, past.open))
    await redis.zrem(keys.holds(0, ANA), past.other)
    await redis.zadd(keys.due(0), {f"account:{ANA}": 4_102_444_800_001})
    stray = new_reservation_id(0, NOW_MS)
    made = msgspec.structs.replace(await past.reservation(past.cancelled), id=stray)
    await redis.set(keys.reservation(0, stray), msgspec.json.encode(made))
    await past.put_account(ANA, available=account.available + 1, open_holds=7, lots=lots)
    return account, stray


async def test_whatever_is_wrong_is_put_right_and_stays_so(
    past, redis, connection, reconcile, repair, caller
):
    account, stray = await spoil_everything(past, redis)
    before = await past.account(ANA)
    run = await reconcile(full=False)
    (repaired,) = await repair(run)
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)
    after = await past.account(ANA)
    assert (account.version + 1, account.available, account.held) == (
        after.version,
        after.available,
        after.held,
    )
    assert (account.lots, account.open_holds) == (after.lots, after.open_holds)
    assert not await redis.exists(keys.reservation(0, stray))
    assert 5 == (await past.reservation(past.confirmed)).captured
    assert await redis.pttl(keys.reservation(0, past.confirmed)) > 0

    row = await connection.fetchrow("SELECT * FROM repairs")
    assert ("tester", ANA, "redis") == (row["by"], row["account"], row["side"])
    assert str(repaired.transactions[0]) == row["transaction"]
    assert before == msgspec.json.decode(json.loads(row["before"])["account"], type=type(before))
    assert account.available == json.loads(row["after"])["account"]["available"]
    entry = json.loads(await connection.fetchval("SELECT entry FROM journal WHERE kind = 'repaired'"))
    assert (0, [], "operator:tester") == (entry["amount"], entry["legs"], entry["by"])

    reply = await caller.call(
        [Confirm(shard=0, reservation=past.open), Confirm(shard=0, reservation=past.other)]
    )
    assert ["confirmed"] * 2 == [each.status for each in reply.reservations]
    assert 0 == (await past.account(ANA)).held


@pytest.mark.parametrize("how", ["deleted", "another type", "an older version"])
async def test_an_account_that_redis_lost_comes_back(past, redis, caller, reconcile, repair, how):
    key, account = keys.account(1, BOB), await past.account(BOB)
    if how == "an older version":
        older = await redis.get(key)
        await caller.call([Grant(shard=1, account=BOB, amount=4)])
        account = await past.account(BOB)
        await redis.set(key, older)
    else:
        await redis.delete(key)
    if how == "another type":
        await redis.rpush(key, "x")
    await repair(await reconcile(full=False))
    assert "equal" == (await reconcile()).status
    assert account.available == (await past.account(BOB)).available


async def test_what_is_due_of_an_account_of_which_nothing_ends_goes(past, redis, reconcile, repair):
    await redis.zadd(keys.due(1), {f"account:{BOB}": IN_2100_MS})
    await repair(await reconcile(full=False))
    assert "equal" == (await reconcile()).status
    assert await redis.zscore(keys.due(1), f"account:{BOB}") is None


async def test_an_account_that_the_journal_has_never_heard_of_has_nothing(past, redis, reconcile, repair):
    await redis.copy(keys.account(1, BOB), keys.account(1, "x-1"))
    await repair(await reconcile(full=False))
    assert "equal" == (await reconcile()).status
    assert 0 == msgspec.json.decode(await redis.get(keys.account(1, "x-1")))["available"]


async def test_a_projection_that_is_wrong_is_written_anew_and_redis_stays_as_it_is(
    past, connection, reconcile, repair
):
    before = await past.account(ANA)
    for statement in (
        "UPDATE accounts SET available = available + 1, version = 99 WHERE account = 'ana'",
        "UPDATE lots SET available = available + 1, priority = 3 WHERE account = 'ana' AND bucket = 'plan'",
        "DELETE FROM lots WHERE account = 'ana' AND bucket = 'plan'",
        "DELETE FROM accounts WHERE account = 'ana'",
        "DELETE FROM reservations WHERE id::text = $1",
        "UPDATE reservations SET held = 0, released = 7 WHERE id::text = $1",
        "UPDATE reservations SET account = 'bob' WHERE id::text = $1",
    ):
        await tamper(connection, statement, *([past.open] if "$1" in statement else []))
        run = await reconcile()
        assert "drift" == run.status
        assert any(each.projection for each in await repair(run))
        assert ("equal", []) == ((again := await reconcile()).status, again.drift)
        assert before == await past.account(ANA)
    sides = await connection.fetch("SELECT side, before <> after AS differ FROM repairs")
    assert {("projection", True)} == {tuple(each) for each in sides}


async def test_a_journal_that_contradicts_itself_puts_nothing_right(past, connection, reconcile, repair):
    await tamper(connection, f"UPDATE journal SET entry = {ONE_MORE} WHERE account = 'ana' AND version = 1")
    run = await reconcile()
    before = await past.account(ANA)
    with pytest.raises(NotRepaired, match="lastro verify"):
        await repair(run)
    assert before == await past.account(ANA)
    assert 0 == await connection.fetchval("SELECT count(*) FROM repairs")


async def test_a_repair_never_undoes_a_call_that_came_in_between(past, caller, reconcile, repair):
    account = await past.account(ANA)
    await past.put_account(ANA, lots=list(reversed(account.lots)))
    run, spent = await reconcile(full=False), 0

    async def debit(step):
        nonlocal spent
        if step == "after record" and spent < 3:
            reply = await caller.call([Deduct(shard=0, account=ANA, amount=1)])
            assert reply.status == "ok"
            spent += 1

    (repaired,) = await repair(run, barrier=debit)
    assert 1 == len(repaired.transactions)
    assert account.available - 3 == (await past.account(ANA)).available
    assert "equal" == (await reconcile()).status


@pytest.mark.parametrize("step", ["after projection", "after look", "after record", "after repair"])
async def test_a_repair_that_died_anywhere_is_begun_again(
    past, redis, connection, hands, place, reconcile, repair, step
):
    await spoil_everything(past, redis)
    await tamper(connection, "UPDATE lots SET priority = 3 WHERE account = 'ana' AND bucket = 'plan'")
    run = await reconcile(full=False)
    dying = Repairer(connection, redis, hands, "tester", barrier=dies_at(step))
    with pytest.raises(Killed):
        await dying.repair(await place(ANA), ANA, run.drift)
    await repair(run)
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)
    assert 1 == await connection.fetchval("SELECT count(*) FROM journal WHERE kind = 'repaired'")


async def test_an_account_fenced_alone_refuses_and_others_go_on(
    past, caller, hands, reconcile, repair, worker
):
    assert await hands.fence(0, ANA, "for the test")
    reply = await caller.call([
        Grant(shard=0, account=ANA, amount=1), Deduct(shard=0, account=ANA, amount=1),
        Confirm(shard=0, reservation=past.open), Balance(shard=0, account=ANA),
        Grant(shard=0, account="ana-0", amount=1, open=True), Grant(shard=1, account=BOB, amount=1),
    ])  # fmt: skip
    refused, carried = reply.results[:4], reply.results[4:]
    assert ["ledger_fenced"] * 4 == [each.word for each in refused if isinstance(each, Declined)]
    assert not any(isinstance(each, Declined) for each in carried)
    await repair(await reconcile(full=False))
    assert "equal" == (await reconcile()).status
    reply = await caller.call([Confirm(shard=0, reservation=past.open)])
    assert "confirmed" == reply.reservations[0].status


async def test_a_repair_whose_answers_are_lost_happens_once(
    past, redis, redis_url, database, connection, place, reconcile, kept
):
    await spoil_everything(past, redis)
    run = await reconcile(full=False)
    async with Proxy(redis_url) as proxy, connect_redis(proxy.url) as own:
        backing = PostgresBacking(database, partial(admission.admit, database, redis))
        async with hands_of(own, backing) as hands:
            proxy.lose_answers(3)
            await Repairer(connection, redis, hands, "tester").repair(await place(ANA), ANA, run.drift)
        assert 3 == proxy.lost
    assert "equal" == (await reconcile()).status
    assert 1 == await connection.fetchval("SELECT count(*) FROM journal WHERE kind = 'repaired'")


async def test_as_many_holds_as_an_account_may_have_are_put_right(
    past, redis, caller, connection, reconcile, repair, nightly
):
    count = 10_000 if nightly else 1_100
    await caller.call([Grant(shard=1, account=BOB, amount=count)])
    made = [new_reservation_id(1, NOW_MS + each) for each in range(count)]
    for first in range(0, count, 250):
        reply = await caller.call([
            Reserve(shard=1, account=BOB, reservation=each, amount=1, ttl_ms=3_600_000)
            for each in made[first : first + 250]
        ])  # fmt: skip
        assert reply.status == "ok"
    sound = await redis.get(keys.account(1, BOB))
    lost = [keys.reservation(1, each) for each in made]
    await redis.delete(keys.account(1, BOB), keys.holds(1, BOB), *lost)
    (repaired,) = await repair(await reconcile(full=False))
    assert -(-count // 500) == len(repaired.transactions)
    assert "equal" == (await reconcile()).status
    before = msgspec.json.decode(sound)
    after = msgspec.json.decode(await redis.get(keys.account(1, BOB)))
    assert {**before, "version": before["version"] + len(repaired.transactions)} == after

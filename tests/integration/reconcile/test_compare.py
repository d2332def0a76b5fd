"""What differs is named, with the account, the field and both values; and nothing else is."""

import asyncio
from itertools import count

import msgspec
import pytest

from app.ledger import keys
from app.ledger.operations import Grant
from app.ledger.shards import new_reservation_id
from persistence import rebuild
from persistence.reconcile import page
from persistence.reconcile.state import State
from tests.integration.books import Shop
from tests.integration.journal.workers import SHARDS, keep_journal, to_the_end
from tests.integration.reconcile.past import ANA, BOB, NOW_MS
from tests.integration.streams import replace_server


def told(run):
    return {(each.account_id, each.field): (each.redis, each.journal) for each in run.drift}


async def tamper(connection, statement, *arguments):
    """What somebody does who may do anything in the database."""
    await connection.execute("SET session_replication_role = replica")
    assert (await connection.execute(statement, *arguments)).endswith(" 1")
    await connection.execute("SET session_replication_role = DEFAULT")


@pytest.mark.parametrize("full", [True, False])
async def test_a_ledger_that_is_equal_is_told_to_be(shop, reconcile, full):
    run = await reconcile(full=full)
    assert ("equal", []) == (run.status, run.drift)
    assert run.accounts > 5


async def test_everything_that_came_is_there_or_gone(shop, reconcile):
    totals = (await reconcile()).position.totals
    assert totals.came == totals.there_or_gone > 0


async def test_a_ledger_in_pages_of_one_is_equal_too(past, reconcile):
    run = await reconcile(page=1)
    assert ("equal", 2) == (run.status, run.accounts)


@pytest.mark.parametrize("full", [True, False])
async def test_there_is_no_false_alarm_while_credits_move_and_the_journal_lags(
    caller, worker, reconcile, nightly, full
):
    """The worker rests between batches of a few calls, so that the journal is always somewhere behind."""
    shop, traded, ended = Shop(caller, SHARDS, seed=11), count(), asyncio.Event()
    await shop.trade(5)
    await keep_journal(worker)

    async def trade():
        while not ended.is_set():
            await shop.trade(1)
            next(traded)
            await asyncio.sleep(0.002)

    async def lag():
        async with worker(entries_max=400) as journal:
            while not ended.is_set():
                for shard in range(SHARDS):
                    await journal.one_batch(shard)
                await asyncio.sleep(0.05)

    background = [asyncio.create_task(trade()), asyncio.create_task(lag())]
    for _ in range(20 if nightly else 3):  # each run reads all that was traded until then
        run = await reconcile(full=full, page=3)
        assert ("equal", []) == (run.status, run.drift)
        assert run.accounts
    ended.set()
    await asyncio.gather(*background)
    assert next(traded) > 20


async def test_one_credit_more_is_named_with_both_values(past, reconcile):
    before = (await past.account(ANA)).available
    await past.put_account(ANA, available=before + 1)
    run = await reconcile(full=False)
    assert "drift" == run.status
    assert {(ANA, "available"): (before + 1, before)} == told(run)


async def test_one_credit_more_is_seen_through_everything_that_happens_afterwards(
    past, caller, worker, reconcile
):
    lots = [msgspec.structs.replace((await past.account(BOB)).lots[0], available=31)]
    await past.put_account(BOB, available=31, lots=lots)
    reply = await caller.call([Grant(shard=1, account=BOB, amount=5)])
    assert "ok" == reply.status
    async with worker() as journal:
        await to_the_end(journal, 1)  # the entry contradicts the one before it: the shard is fenced
    run = await reconcile()
    assert "unknown" == run.status
    assert "Shard 1 is fenced" in run.position.unknown[0]


async def test_a_lot_that_was_changed_is_named(past, reconcile):
    sound = (await past.account(ANA)).lots
    for changes, field in (
        ({"priority": 1}, "lot.default"),
        ({"available": 3}, "lot.default"),
        ({"since": 9}, "lot.default"),
        ({"bucket": "plan2"}, "lot.plan2"),
        ({"expires_at_ms": 5}, "lot.default.5"),
    ):
        changed = msgspec.structs.replace
        lots = [changed(each, **changes) if each.bucket == "default" else each for each in sound]
        await past.put_account(ANA, lots=lots)
        assert (ANA, field) in told(await reconcile(full=False))


async def test_lots_in_another_order_are_named(past, reconcile):
    await past.put_account(ANA, lots=list(reversed((await past.account(ANA)).lots)))
    assert {(ANA, "lots")} == told(await reconcile(full=False)).keys()


async def test_an_older_text_that_was_put_back_before_the_journal_had_the_newer_one_is_named(
    past, caller, redis, worker, connection, place, reconcile
):
    """What counts is the sequence at which Redis was seen, not the version that it shows."""
    older = await redis.get(keys.account(1, BOB))
    await caller.call([Grant(shard=1, account=BOB, amount=4)])
    await redis.set(keys.account(1, BOB), older)

    async def behind(*, of=page.examine):
        seen = await of(redis, await place(BOB), [BOB])
        await keep_journal(worker)  # only now, after the snapshot and after Redis was seen
        return seen

    before = State.of(BOB, 1, (await rebuild.accounts(connection, [BOB]))[BOB], [])
    looked = page.Looked(before, 1, (await behind())[BOB])
    await page.catch_up(connection, 1, {BOB: looked})
    assert {"version", "available", "lot.default"} == {each.field for each in page.differences(looked)}


async def test_a_hold_deleted_by_hand_is_named_wherever_it_is_missing(past, redis, reconcile):
    await redis.delete(keys.reservation(0, past.open))
    await redis.zrem(keys.holds(0, ANA), past.other)
    expected = {(ANA, f"reservation.{past.open}"), (ANA, f"reservation.{past.other}.hold")}
    assert expected == told(await reconcile(full=False)).keys()


async def test_what_is_due_and_stands_nowhere_is_named(past, redis, reconcile):
    await redis.zrem(keys.due(0), f"account:{ANA}", f"reservation:{past.open}:{ANA}")
    assert {(ANA, "due"), (ANA, f"reservation.{past.open}.due")} == told(await reconcile(full=False)).keys()


async def test_an_open_reservation_that_was_changed_is_named(past, redis, reconcile):
    key = keys.reservation(0, past.open)
    sound = await redis.get(key)
    for changes, fields in (
        ({"held": 8}, {"held"}),
        ({"expires_at_ms": 5}, {"expiresAt"}),
        ({"legs": []}, {"legs"}),
        (
            {"status": "confirmed", "held": 0, "captured": 7, "legs": []},
            {"status", "held", "captured", "legs"},
        ),
        ({"model": "other"}, {"model"}),
    ):
        await past.put_reservation(past.open, **changes)
        expected = {(ANA, f"reservation.{past.open}.{field}") for field in fields}
        assert expected == told(await reconcile(full=False)).keys()
        await redis.set(key, sound)


async def test_a_reservation_that_has_ended_otherwise_is_named(past, reconcile):
    await past.put_reservation(
        past.confirmed, captured=0, released=7, status="cancelled", cancel_cause="failed"
    )
    found = told(await reconcile(full=False))
    assert ("cancelled", "confirmed") == found[ANA, f"reservation.{past.confirmed}.status"]
    assert (0, 5) == found[ANA, f"reservation.{past.confirmed}.captured"]


async def test_a_reservation_that_redis_has_forgotten_is_no_drift(past, redis, reconcile):
    await redis.delete(keys.reservation(0, past.confirmed))
    assert "equal" == (await reconcile()).status


async def test_a_reservation_that_only_redis_knows_is_named(past, redis, reconcile):
    stray = new_reservation_id(0, NOW_MS)
    made = msgspec.structs.replace(await past.reservation(past.open), id=stray)
    await redis.set(keys.reservation(0, stray), msgspec.json.encode(made))
    found = told(await reconcile(full=False))
    assert {(ANA, f"reservation.{stray}"): ("pending, held 7", None)} == found


async def test_an_account_that_only_redis_knows_is_named(past, redis, reconcile):
    await redis.copy(keys.account(1, BOB), keys.account(1, "stranger"))
    assert {("stranger", "account"): ("version 1", None)} == told(await reconcile(full=False))


async def test_an_account_that_redis_lost_or_cannot_read_is_named(past, redis, reconcile):
    for text in (None, b"{", b'{"v":1}', b"\xff"):
        if text is None:
            await redis.delete(keys.account(1, BOB))
        else:
            await redis.set(keys.account(1, BOB), text)
        found = told(await reconcile(full=False))
        assert {(BOB, "account"): (text and "unreadable", "version 1")} == found


async def test_an_account_under_which_something_else_stands_is_named(past, redis, reconcile):
    await redis.delete(keys.account(1, BOB))
    await redis.rpush(keys.account(1, BOB), "a")
    assert {(BOB, "account"): ("unreadable", "version 1")} == told(await reconcile(full=False))


async def test_an_account_that_refuses_is_named_until_it_is_repaired(past, hands, reconcile):
    assert await hands.fence(1, BOB, "for the test")
    assert {(BOB, "fence"): ("for the test", None)} == told(await reconcile(full=False))


async def test_what_cannot_be_told_is_neither_equal_nor_drift(past, caller, reconcile):
    await caller.grant(2)  # and nobody keeps the journal
    await caller.call([Grant(shard=1, account=BOB, amount=1)])
    run = await reconcile(wait_seconds=0.1)
    assert "unknown" == run.status
    assert "Are the workers at work?" in " ".join(run.position.unknown)


async def test_one_fenced_shard_leaves_the_others_to_be_told(past, connection, reconcile):
    await connection.execute("UPDATE shards SET fence = 'x', fenced_at = now() WHERE shard = 1")
    await past.put_account(ANA, available=1)
    run = await reconcile(full=False)
    assert ("drift", {ANA}) == (run.status, {each.account_id for each in run.drift})
    assert ["Shard 1 is fenced: x"] == run.position.unknown


async def test_a_redis_that_is_not_the_one_that_was_admitted_is_not_compared(past, redis, reconcile):
    await replace_server(redis)
    run = await reconcile(full=False)
    assert ("unknown", []) == (run.status, run.drift)
    assert "the server has changed since it was admitted" in run.position.unknown[0]

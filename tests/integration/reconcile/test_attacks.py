"""What a hand, a failing disk or another program may leave in either store: it is named, ends no run, and
gives nobody credits.
"""

import asyncio
import json
import time

import msgspec
import pytest

from app.ledger import keys
from app.ledger.operations import Grant, Reserve, Sweep
from app.ledger.shards import new_reservation_id
from persistence.reconcile import page
from persistence.reconcile.command import place_of
from persistence.reconcile.hands import NotRepaired
from persistence.reconcile.repair import Repairer
from persistence.reconcile.run import by_account
from persistence.reconcile.sides import Sides
from persistence.reconcile.sighting import NotExaminable
from persistence.reconcile.work import fence_drifted
from tests.integration.reconcile.past import ANA, BOB, NOW_MS
from tests.integration.reconcile.test_command import lastro
from tests.integration.reconcile.test_compare import tamper, told

__all__ = ["lastro"]


async def test_a_lot_that_stands_twice_is_named(past, redis, reconcile):
    lots = (await past.account(ANA)).lots
    await past.put_account(ANA, lots=[*lots, lots[-1]])
    assert (ANA, "lots") in told(await reconcile(full=False))


async def test_a_text_of_another_format_is_named(past, redis, reconcile):
    await past.put_account(BOB, format=2)
    await past.put_reservation(past.open, format=2)
    found = told(await reconcile(full=False))
    assert {(BOB, "account"), (ANA, f"reservation.{past.open}")} == found.keys()


@pytest.mark.parametrize("score", ["inf", "-inf", "1.5"])
async def test_a_deadline_that_is_no_time_is_named(past, redis, reconcile, repair, score):
    await redis.zadd(keys.due(0), {f"account:{ANA}": score} if score != "-inf" else {"account:x-0": "inf"})
    await redis.zadd(keys.holds(0, ANA), {past.open: score})
    run = await reconcile(full=False)
    assert (ANA, f"reservation.{past.open}.hold") in told(run)
    await repair(run)
    assert "equal" == (await reconcile()).status


async def test_members_that_are_no_reservations_are_named_and_go(past, redis, connection, reconcile, repair):
    await redis.zadd(keys.holds(0, ANA), {"abc": 5, "a.b": 6})
    text = await redis.get(keys.reservation(0, past.open))
    await redis.set(keys.reservation(0, "abc"), text)
    run = await reconcile(full=False)
    assert {(ANA, "reservation.abc"), (ANA, "reservation.abc.hold"), (ANA, "reservation.a.b.hold")} == told(
        run
    ).keys()
    await repair(run)
    assert "equal" == (await reconcile()).status
    assert 1 == await connection.fetchval("SELECT count(*) FROM journal WHERE kind = 'repaired'")
    assert not await redis.exists(keys.reservation(0, "abc"))


async def test_bytes_that_are_no_text_do_not_end_a_run(past, redis, reconcile):
    await redis.zadd(keys.holds(0, ANA), {b"\xff": 5})
    await redis.set(keys.account(1, "a\x00b"), "x")
    await redis.set(keys.reservation(1, "a\x00b"), "x")
    await past.put_account(BOB, fence="a\x00b")
    run = await reconcile(full=False)
    assert "drift" == run.status
    assert (BOB, "fence") in told(run)


async def test_an_ended_reservation_that_is_still_due_is_named_and_put_right(past, redis, reconcile, repair):
    await redis.zadd(keys.due(0), {f"reservation:{past.confirmed}:{ANA}": 4_102_444_800_000})
    run = await reconcile(full=False)
    assert {(ANA, f"reservation.{past.confirmed}.due")} == told(run).keys()
    await repair(run)
    assert "equal" == (await reconcile()).status


async def test_what_is_due_of_nothing_is_named(past, redis, reconcile, repair):
    stray = new_reservation_id(0, NOW_MS)
    await redis.zadd(keys.due(1), {"account:nobody": 4_102_444_800_000})
    await redis.zadd(keys.due(0), {f"reservation:{stray}:{ANA}": 4_102_444_800_000})
    run = await reconcile(full=False)
    assert {("nobody", "due"), (ANA, f"reservation.{stray}.due")} == told(run).keys()


async def test_every_member_of_an_ended_reservation_is_compared(past, reconcile):
    sound = await past.reservation(past.confirmed)
    for changes, field in (
        ({"task": "t-1"}, "task"),
        ({"model": "m-1"}, "model"),
        ({"created_at_ms": 5}, "createdAt"),
        ({"expires_at_ms": 5}, "expiresAt"),
        ({"bound_sequence": 3}, "boundSequence"),
    ):
        await past.put_reservation(past.confirmed, **changes)
        assert {(ANA, f"reservation.{sound.id}.{field}")} == told(await reconcile(full=False)).keys()
        await past.put_reservation(past.confirmed, **{name: getattr(sound, name) for name in changes})


async def test_a_home_that_was_changed_in_a_table_gives_nobody_credits_twice(
    past, redis, connection, ledger, reconcile, hands, kept, worker, caller
):
    await tamper(connection, "UPDATE accounts SET shard = 2 WHERE account = 'bob'")
    run = await reconcile()
    assert (BOB, "projection.shard") in told(run)
    place = await place_of(connection, BOB)
    assert 1 == place.shard
    found = by_account(run.drift)[BOB]
    assert [] == await fence_drifted(connection, hands, place, found)
    repaired = await Repairer(connection, redis, hands, "tester").repair(place, BOB, found)
    assert (True, []) == (repaired.projection, repaired.transactions)
    assert "equal" == (await reconcile()).status
    assert not await redis.exists(keys.account(2, BOB))


async def test_a_journal_that_was_changed_whole_gives_nobody_credits(
    past, redis, connection, reconcile, repair, hands, place
):
    """Entry, columns and tables tell the same lie; only the chain of hashes does not."""
    await tamper(
        connection,
        "UPDATE journal SET amount = 1030, available = 1030,"
        r" entry = regexp_replace(entry, '\y30\y', '1030', 'g') WHERE account = 'bob'",
    )
    await tamper(connection, "UPDATE accounts SET available = 1030 WHERE account = 'bob'")
    await tamper(connection, "UPDATE lots SET available = 1030 WHERE account = 'bob'")
    run = await reconcile()
    assert "drift" == run.status
    assert [] == await fence_drifted(connection, hands, await place(BOB), by_account(run.drift)[BOB])
    with pytest.raises(NotRepaired, match="lastro verify"):
        await repair(run)
    assert 30 == (await past.account(BOB)).available


async def test_nothing_is_told_of_what_was_seen_under_another_number(
    past, redis, connection, place, monkeypatch, worker
):
    """What Redis showed may be lost since; the journal then has other entries in those places."""
    examine, its = page.examine, await place(BOB)

    async def lost_since(*arguments):
        seen = await examine(*arguments)
        await connection.execute("UPDATE shards SET incarnation = incarnation + 1 WHERE shard = 1")
        return seen

    monkeypatch.setattr(page, "examine", lost_since)
    with pytest.raises(NotExaminable, match="admitted anew"):
        await page.compare(Sides(connection, redis, its), page.Page([BOB]))


async def test_a_fenced_account_stands_still_whatever_becomes_due(
    past, redis, caller, hands, reconcile, repair, worker
):
    """An entry of an account that drifted would contradict the journal, and fence its whole shard."""
    reservation = new_reservation_id(1, NOW_MS)
    await caller.call([Reserve(shard=1, account=BOB, reservation=reservation, amount=7, ttl_ms=300)])
    await past.put_account(BOB, available=24, fence="for the test")
    deadline = (await redis.zscore(keys.holds(1, BOB), reservation)) / 1000
    while time.time() <= deadline + 0.002:  # noqa: ASYNC110 - only the clock says so
        await asyncio.sleep(0.01)
    await caller.call([Sweep(shard=1)])
    assert (await past.account(BOB)).version == 2
    await repair(await reconcile(full=False))
    await caller.call([Sweep(shard=1)])
    assert "equal" == (await reconcile()).status
    account = await past.account(BOB)
    assert (30, 0, None) == (account.available, account.held, account.fence)


async def test_an_account_refuses_until_the_last_part_of_its_repair(
    past, redis, caller, hands, place, connection, reconcile, kept, worker, monkeypatch
):
    monkeypatch.setattr("persistence.reconcile.repair.RESERVATIONS_AT_ONCE", 1)
    for each in (past.open, past.other):
        await past.put_reservation(each, held=3)
    fences = []

    async def look(step):
        if step == "after repair":
            fences.append((await past.account(ANA)).fence is not None)

    run = await reconcile(full=False)
    await Repairer(connection, redis, hands, "tester", barrier=look).repair(await place(ANA), ANA, run.drift)
    assert [True, False] == fences
    assert "equal" == (await reconcile()).status


async def test_rows_after_the_end_of_a_shard_and_an_end_that_was_changed_are_named(
    past, connection, reconcile
):
    for statement, field in (
        ("UPDATE shards SET cursor = cursor - 1 WHERE shard = 1", "journal.1.1"),
        ("UPDATE shards SET link = 'x' WHERE shard = 1", "projection.1.link"),
        ("UPDATE shards SET head = decode(repeat('00', 32), 'hex') WHERE shard = 1", "projection.1.head"),
    ):
        before = await connection.fetchrow("SELECT cursor, link, head FROM shards WHERE shard = 1")
        await tamper(connection, statement)
        run = await reconcile(wait_seconds=0.1)
        assert ("", field) in told(run)
        await connection.execute(
            "UPDATE shards SET cursor = $1, link = $2, head = $3 WHERE shard = 1", *before
        )


@pytest.mark.parametrize(
    ("change", "field"),
    [("status = 'cancelled', cancel_cause = 'failed'", "status"), ("charged = 4", "charged")],
)
async def test_an_ending_that_redis_has_forgotten_is_held_against_the_entries_when_all_is_added_up(
    past, redis, connection, reconcile, change, field
):
    await redis.delete(keys.reservation(0, past.confirmed))
    await tamper(connection, f"UPDATE reservations SET {change} WHERE id::text = $1", past.confirmed)
    assert {(ANA, f"projection.reservation.{past.confirmed}.{field}")} == told(await reconcile()).keys()


async def test_a_balance_at_the_edge_of_what_is_exact_is_put_back(past, redis, caller, reconcile, repair):
    most, held = 2**53 - 1, new_reservation_id(1, NOW_MS)
    await caller.call([
        Grant(shard=1, account="big-1", amount=most, open=True),
        Reserve(shard=1, account="big-1", reservation=held, amount=most - 1, ttl_ms=60_000),
    ])  # fmt: skip
    assert "equal" == (await reconcile(full=False)).status  # which waits for the journal
    sound = [await redis.get(keys.account(1, "big-1")), await redis.get(keys.reservation(1, held))]
    await redis.delete(keys.account(1, "big-1"), keys.reservation(1, held))
    await repair(await reconcile(full=False))
    assert {} == told(await reconcile())
    after = msgspec.json.decode(await redis.get(keys.account(1, "big-1")))
    assert {**msgspec.json.decode(sound[0]), "version": 3} == after
    assert msgspec.json.decode(sound[1]) == msgspec.json.decode(await redis.get(keys.reservation(1, held)))


async def test_one_account_that_cannot_be_read_or_is_nobodys_is_said_so(past, connection, lastro):
    nobody = await lastro("--account", "anna")
    assert (2, True) == (nobody.exit_code, "has an account anna" in nobody.stdout)
    await tamper(connection, "UPDATE journal SET entry = 'x' WHERE account = 'ana' AND version = 1")
    await past.put_account("bob", available=31)
    assert 1 == (await lastro("--account", ANA)).exit_code
    repaired = await lastro("--repair", "--yes", "--json")
    said = json.loads(repaired.stdout)
    assert (1, ["bob"], True) == (
        repaired.exit_code, [each["accountId"] for each in said["repaired"]], ANA in said["failed"]
    )  # fmt: skip

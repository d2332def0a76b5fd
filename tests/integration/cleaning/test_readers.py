"""Whoever reads reservations finds those that clean-up has dropped, as they were: in the journal."""

import asyncio
from datetime import timedelta

import pytest

from app.ledger import keys
from app.ledger.backing import Keyed
from app.ledger.operations import Bind, Confirm, Grant, Reserve, Sweep
from app.ledger.shards import new_reservation_id, shard_of
from app.reports import TransactionFilter
from persistence import rebuild
from persistence.backing import PostgresBacking
from persistence.events.managed import PostgresEvents
from persistence.folding import Contradiction
from persistence.history import PostgresHistory
from persistence.verify import verify
from tests.integration.books import Shop
from tests.integration.cleaning.dropped import TOMORROW, drop_all
from tests.integration.events.test_deriving import EVERYTHING, assert_told, derive_all
from tests.integration.journal.workers import SHARDS, keep_journal
from tests.integration.ledgers import journal_all
from tests.integration.reconcile.past import ANA, NOW_MS
from tests.integration.restore.state import assert_same, in_redis
from tests.integration.restore.traffic import Traffic

IDS = "SELECT id::text FROM reservations ORDER BY id"


async def never_admitted():
    raise AssertionError


@pytest.fixture
def backing(database):
    return PostgresBacking(database, never_admitted)


@pytest.fixture
async def traffic(caller, database_url, redis_url):
    """Everything that can happen to a reservation. All of it is journaled."""
    traffic = Traffic(caller, SHARDS, seed=23)
    await traffic.run(150)
    await traffic.leave_open()
    await expire(caller)
    await journal_all(database_url, redis_url)
    return traffic


async def expire(caller):
    """Reserve for the blink of an eye, let that pass, and confirm one of two late; whether traffic does so
    depends on how fast it is.
    """
    shard = shard_of("blink", SHARDS)
    left, late = new_reservation_id(shard, NOW_MS), new_reservation_id(shard, NOW_MS)
    its = {"shard": shard, "account": "blink"}
    await caller.call(
        [
            Grant(**its, amount=10, open=True),
            Reserve(**its, reservation=left, amount=5, ttl_ms=10),
            Reserve(**its, reservation=late, amount=5, ttl_ms=10, on_expired="charge"),
        ]
    )
    await asyncio.sleep(0.1)
    await caller.call([Sweep(shard=shard) for shard in range(SHARDS)])
    await caller.call([Confirm(shard=shard, reservation=late)])


async def test_each_reservation_is_made_of_its_entries_as_it_was_made_of_its_row(traffic, connection):
    ids = [row["id"] for row in await connection.fetch(IDS)]
    before = await rebuild.reservations(connection, ids)
    assert {"pending", "confirmed", "cancelled"} == {each.status for each in before.values()}
    assert {"requested", "failed", "expired", None} == {each.cancel_cause for each in before.values()}
    for has in ("late", "extensions", "parts", "price", "task", "resource", "metadata", "charged"):
        assert any(getattr(each, has) for each in before.values()), has
    assert any(each.legs and each.parts for each in before.values()), "what is held after a part was captured"
    await connection.execute("DELETE FROM reservations")
    after = await rebuild.reservations(connection, ids)
    assert ids == sorted(after)
    for id_, each in before.items():
        assert each == after[id_]


async def test_only_what_has_ended_is_dropped_and_only_so_much_of_it_as_is_old(traffic, database):
    pending = await database.fetch("SELECT * FROM reservations WHERE status = 'pending' ORDER BY id")
    moment = await database.fetchval(
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY settled_at) FROM reservations"
    )
    young = "SELECT * FROM reservations WHERE settled_at >= $1 ORDER BY id"
    kept = await database.fetch(young, moment)
    assert kept
    await drop_all(database, moment)
    assert kept == await database.fetch("SELECT * FROM reservations WHERE status <> 'pending' ORDER BY id")
    await drop_all(database)
    assert pending == await database.fetch("SELECT * FROM reservations ORDER BY id")
    assert pending


async def test_tasks_lead_to_the_reservation_that_they_were_last_bound_to(traffic, database, backing):
    bound = "SELECT DISTINCT provider, task FROM reservations WHERE task IS NOT NULL"
    tasks = [(row["provider"], row["task"]) for row in await database.fetch(bound)]
    assert len(tasks) > 20
    before = await backing.tasks(tasks)
    assert set(tasks) == before.keys()
    await drop_all(database)
    assert before == await backing.tasks(tasks)


async def test_a_task_that_was_bound_again_leads_to_the_later_reservation_also_when_both_are_dropped(
    caller, database, backing, redis, worker
):
    async def paid_by(shard, account, key):
        reservation = new_reservation_id(shard, NOW_MS)
        bound = {"task": "t", "provider": "fal", "task_shard": shard_of("fal:t", SHARDS)}
        reply = await caller.call([
            Grant(shard=shard, account=account, amount=9, open=True),
            Reserve(shard=shard, account=account, reservation=reservation, amount=5, ttl_ms=60_000),
            Bind(shard=shard, reservation=reservation, **bound),
            Confirm(shard=shard, reservation=reservation, key=key, fingerprint="the same"),
        ])  # fmt: skip
        assert {"Applied"} == {type(each).__name__ for each in reply.results}, reply
        await redis.delete(keys.task(bound["task_shard"], "fal", "t"))  # as it does in the course of time
        return reservation

    first, second = await paid_by(0, "a-0", "first"), await paid_by(1, "a-1", "second")
    await keep_journal(worker)
    # Whoever named the task under the first one's key means the reservation that had it then.
    asked = [Keyed("r", second, key, "the same", 1) for key in ("first", "second")]
    before = await backing.tasks([("fal", "t")]), await backing.answered(asked)
    assert {("fal", "t"): second} == before[0]
    assert [first, second] == [before[1][each].entry.reservation for each in asked]
    await drop_all(database)
    assert before == (await backing.tasks([("fal", "t")]), await backing.answered(asked))


async def test_entries_are_listed_by_their_task(traffic, database):
    history = PostgresHistory(database)
    task = await database.fetchval("SELECT task FROM reservations WHERE status = 'confirmed' AND task > ''")
    before = await history.transactions(TransactionFilter(task=task), limit=200)
    assert len(before.data) > 1
    await drop_all(database)
    assert before == await history.transactions(TransactionFilter(task=task), limit=200)


async def test_both_sides_are_still_equal_and_so_are_all_entries(traffic, database, connection, reconcile):
    await drop_all(database)
    run = await reconcile()
    assert ("equal", [], []) == (run.status, run.drift, run.position.unknown)
    assert [] == (await verify(connection, since=1)).findings


async def test_one_that_is_absent_though_it_is_not_old_is_drift_and_is_put_back(
    past, database, connection, reconcile, repair
):
    rows = "SELECT * FROM reservations ORDER BY id"
    before = await connection.fetch(rows)
    for ended, status in ((past.confirmed, "confirmed"), (past.cancelled, "cancelled")):
        await connection.execute("DELETE FROM reservations WHERE id::text = $1", ended)
        run = await reconcile()
        assert [(ANA, f"projection.reservation.{ended}", None, status)] == [
            (each.account_id, each.field, each.redis, each.journal) for each in run.drift
        ]
        await repair(run)
        assert before == await connection.fetch(rows)
        assert "equal" == (await reconcile()).status


async def test_a_repair_leaves_those_dropped_that_were_dropped(past, database, connection, reconcile, repair):
    await drop_all(database)
    before = await connection.fetch("SELECT * FROM reservations ORDER BY id")
    await connection.execute("UPDATE accounts SET available = available + 1 WHERE account = 'ana'")
    (repaired,) = await repair(await reconcile())
    assert repaired.projection
    assert before == await connection.fetch("SELECT * FROM reservations ORDER BY id")
    said = await connection.fetchval("SELECT after FROM repairs")
    assert past.confirmed not in said
    assert "equal" == (await reconcile()).status


async def test_redis_is_restored_key_by_key_from_a_journal_whose_reservations_were_dropped(
    traffic, database, redis, salvaging
):
    before = await in_redis(redis, SHARDS)
    await drop_all(database)
    await redis.flushall()
    found, lines = await salvaging()
    assert ([], {}, []) == (found.drift, found.fences, lines)
    assert_same(before, await in_redis(redis, SHARDS))


@pytest.mark.parametrize("seed", [2, 5])
async def test_events_are_made_of_endings_that_were_dropped_before_anybody_came_to_them(
    database, database_url, redis, redis_url, caller, seed
):
    await PostgresEvents(database, private=True).create("http://127.0.0.1:9/", EVERYTHING, "key:test")
    await Shop(caller, SHARDS, seed).trade(calls=40)
    await expire(caller)
    await journal_all(database_url, redis_url)
    await drop_all(database)
    await derive_all(database, 40)
    assert await assert_told(database, redis) > 20
    types = {row[0] for row in await database.fetch("SELECT DISTINCT type FROM events")}
    assert {"reservation.confirmed", "reservation.cancelled", "reservation.expired"} <= types


async def test_entries_that_contradict_each_other_are_told_and_not_made_into_something(
    past, connection, database, reconcile
):
    await drop_all(database)
    await connection.execute("SET session_replication_role = replica")
    changed = (
        "UPDATE journal SET entry = replace(entry, $2, $3) WHERE reservation = $1 AND kind = 'confirmed'"
    )
    await connection.execute(changed, past.confirmed, '"captured":5', '"captured":6')
    await connection.execute("SET session_replication_role = DEFAULT")
    with pytest.raises(Contradiction, match=past.confirmed):
        await rebuild.reservations(connection, [past.confirmed])
    run = await reconcile()
    assert "drift" == run.status
    assert {ANA} == {each.account_id for each in run.drift}


async def test_what_the_journal_does_not_have_is_not_dropped(past, connection, database):
    strange = new_reservation_id(0, NOW_MS)
    await connection.execute(
        "INSERT INTO reservations (id, shard, account, status, reserved, released, held, expires_at,"
        " created_at, settled_at, reserved_seq, ended_seq) VALUES ($1, 0, 'ana', 'cancelled', 1, 1, 0, now(),"
        " now(), now() - interval '1 year', 1, 2)",
        strange,
    )
    assert 2 == await drop_all(database, TOMORROW + timedelta(days=1))
    left = await connection.fetch("SELECT id::text FROM reservations WHERE status <> 'pending'")
    assert [strange] == [row["id"] for row in left]

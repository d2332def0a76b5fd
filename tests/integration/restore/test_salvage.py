"""What Redis has and the journal has not: it is journaled where it goes on from there, and kept where not."""

import json

from app.ledger import keys
from app.ledger.shards import shard_of
from persistence.admission import admit
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.state import assert_same, in_redis
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import forge, put_back, replace_server, snapshot


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

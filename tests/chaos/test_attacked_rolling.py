"""Rolling forward while the one store or the other goes back, is full, or had been repaired."""

import json

import pytest
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.operations import Cancel, Repair, Reserve
from app.ledger.shards import new_reservation_id
from persistence import rolling
from persistence.admission import admit
from persistence.birth import give_birth
from tests.integration.dying import Killed, dies_at
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.state import in_redis
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller, roll_back, snapshot


async def test_what_postgresql_lost_while_redis_was_rolled_is_drained_from_what_was_rolled(
    caller, database, database_url, redis, redis_url, restored, monkeypatch
):
    monkeypatch.setattr(rolling, "PAGE", 1)
    await caller.grant(0, calls=2)
    early = await snapshot(redis)
    copies = {}
    await journal_all(database_url, redis_url)
    for table in ("journal", "accounts", "lots", "shards"):
        copies[table] = await database.fetch(f"SELECT * FROM {table}")
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await roll_back(redis, early)
    with pytest.raises(Killed):
        await admit(database, redis, barrier=dies_at("after entries 4"))
    await _go_back(database, copies)
    assert (await admit(database, redis)).fences.keys() == {0}
    found = await restored()
    assert [(each.drained, each.salvaged, each.cursor) for each in found.shards] == [(2, 0, 4)]
    assert json.loads(await redis.get(keys.account(0, "ana0")))["available"] == 4


async def _go_back(database, copies) -> None:
    """A standby that lacked the last seconds was promoted."""
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for table, rows in copies.items():
            await connection.execute(f"DELETE FROM {table}")
            await connection.copy_records_to_table(table, records=[tuple(row) for row in rows])


async def test_a_redis_that_is_full_while_it_is_rolled_forward_is_rolled_when_it_has_room(
    database, database_url, own_valkey
):
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with connect(own_valkey.url) as redis:
        traffic = Traffic(Caller(redis, await admit(database, redis)), SHARDS, seed=24)
        await traffic.run(10)
        early = await snapshot(redis)
        await traffic.run(10)
        await journal_all(database_url, own_valkey.url)
        before = await in_redis(redis, SHARDS)
        await roll_back(redis, early)

        async def full(step: str) -> None:
            if step == "after values":
                await redis.config_set("maxmemory", 1)

        with pytest.raises(RedisError, match="maxmemory"):
            await admit(database, redis, barrier=full)
        await redis.config_set("maxmemory", 0)
        assert (await admit(database, redis)).fences == {}
        assert (await in_redis(redis, SHARDS)).values == before.values


async def test_a_reservation_that_a_repair_took_away_does_not_come_back_by_rolling_forward(
    caller, database, database_url, redis, redis_url
):
    """The repair is in the journal, and the Redis that was repaired has lost it."""
    now_ms = (await redis.time())[0] * 1000
    kept, stray, ended = (new_reservation_id(0, now_ms) for _ in range(3))
    await caller.grant(0, calls=20)
    await caller.call(
        [Reserve(shard=0, account="ana0", amount=3, ttl_ms=60_000, reservation=id_) for id_ in (kept, ended)]
    )
    await caller.call([Cancel(shard=0, reservation=ended, cause="failed")])
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    text = await redis.get(keys.reservation(0, kept))
    for id_ in (stray, ended):
        await redis.set(keys.reservation(0, id_), text.replace(kept.encode(), id_.encode()))
        await redis.zadd(keys.holds(0, "ana0"), {id_: now_ms + 60_000})
        await redis.zadd(keys.due(0), {f"reservation:{id_}:ana0": now_ms + 60_000})
    early = await snapshot(redis)
    account = before.values[keys.account(0, "ana0")]
    reply = await caller.call(
        [
            Repair(
                shard=0, account="ana0", found=account.version, version=account.version,
                available=account.available, held=account.held, lots=account.lots, open_holds=1,
                reservations=[before.values[keys.reservation(0, ended)]], strays=[stray],
            )
        ]
    )  # fmt: skip
    assert [type(each).__name__ for each in reply.results] == ["Applied"]
    await journal_all(database_url, redis_url)
    repaired = await in_redis(redis, SHARDS)
    await roll_back(redis, early)
    assert (await admit(database, redis)).fences == {}
    assert (await in_redis(redis, SHARDS)).values == repaired.values

"""A ledger is born once, in both stores or in neither, however often the birth is cut off."""

import asyncio
from uuid import UUID, uuid4

import pytest

from app.ledger import keys
from app.ledger.entries import genesis
from persistence.birth import BirthRefused, RedisLost, give_birth
from persistence.session import connect

SHARDS = 3
STEPS = ["after ledger row", "after ledger key", *(f"after meta {shard}" for shard in range(SHARDS))]


class Killed(Exception):
    """The process died here."""


def dies_at(step: str):
    async def barrier(name: str) -> None:
        if name == step:
            raise Killed

    return barrier


async def fetch(database_url: str, query: str):
    connection = await connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def assert_newborn(database_url: str, redis, ledger: UUID) -> None:
    assert await fetch(database_url, "SELECT id, shards, born FROM ledger") == [(ledger, SHARDS, True)]
    assert await fetch(
        database_url, "SELECT shard, cursor, link, head, incarnation FROM shards ORDER BY shard"
    ) == [(shard, 0, "genesis", genesis(ledger.bytes, shard), 0) for shard in range(SHARDS)]
    assert await redis.hgetall(keys.LEDGER) == {b"id": str(ledger).encode(), b"shards": b"3"}
    for shard in range(SHARDS):
        assert await redis.hgetall(keys.meta(shard)) == {
            b"ledger": str(ledger).encode(), b"incarnation": b"0", b"server": b"", b"fence": b"",
            b"sequence": b"0", b"link": b"genesis", b"now_ms": b"0",
            b"journaled": b"0", b"bytes": b"0", b"journaled_bytes": b"0", b"oldest_ms": b"",
        }  # fmt: skip
    assert await redis.dbsize() == 1 + SHARDS


async def test_a_ledger_is_born_in_two_empty_stores(database_url, redis_url, redis):
    ledger = await give_birth(database_url, redis_url, SHARDS)
    await assert_newborn(database_url, redis, ledger)


async def test_being_born_again_changes_nothing(database_url, redis_url, redis):
    ledger = await give_birth(database_url, redis_url, SHARDS)
    await redis.hset(keys.meta(1), "sequence", "7")
    assert await give_birth(database_url, redis_url, SHARDS) == ledger
    assert await redis.hget(keys.meta(1), "sequence") == b"7"


@pytest.mark.parametrize("step", STEPS)
async def test_a_birth_cut_off_is_finished_by_the_next_attempt(database_url, redis_url, redis, step):
    with pytest.raises(Killed):
        await give_birth(database_url, redis_url, SHARDS, barrier=dies_at(step))
    assert await fetch(database_url, "SELECT born FROM ledger") == [(False,)]
    ledger = await give_birth(database_url, redis_url, SHARDS)
    await assert_newborn(database_url, redis, ledger)


async def test_two_births_at_once_are_one(database_url, redis_url, redis):
    first, second = await asyncio.gather(*(give_birth(database_url, redis_url, SHARDS) for _ in range(2)))
    assert first == second
    await assert_newborn(database_url, redis, first)


async def test_a_born_ledger_is_not_born_again_in_an_empty_redis(database_url, redis_url, redis):
    await give_birth(database_url, redis_url, SHARDS)
    await redis.flushdb()
    with pytest.raises(RedisLost, match="bring its own Redis back, or run"):
        await give_birth(database_url, redis_url, SHARDS)
    assert await redis.dbsize() == 0


async def test_a_redis_with_another_ledger_is_not_touched(database_url, redis_url, redis):
    await redis.hset(keys.meta(2), "ledger", str(uuid4()))
    before = await redis.dump(keys.meta(2))
    with pytest.raises(BirthRefused, match="Name an empty Redis"):
        await give_birth(database_url, redis_url, SHARDS)
    assert await fetch(database_url, "SELECT * FROM ledger") == []
    assert await redis.dump(keys.meta(2)) == before
    assert await redis.dbsize() == 1


@pytest.mark.parametrize("key", [keys.LEDGER, keys.meta(2), keys.meta(9), keys.account(1, "ana")])
async def test_a_half_born_ledger_does_not_move_into_a_redis_taken_meanwhile(
    database_url, redis_url, redis, key
):
    with pytest.raises(Killed):
        await give_birth(database_url, redis_url, SHARDS, barrier=dies_at("after ledger row"))
    await redis.hset(key, mapping={"id": str(uuid4()), "ledger": str(uuid4())})
    with pytest.raises(BirthRefused, match="Name an empty Redis"):
        await give_birth(database_url, redis_url, SHARDS)
    assert await fetch(database_url, "SELECT born FROM ledger") == [(False,)]
    assert len(await redis.hgetall(key)) == 2


async def test_a_born_ledger_is_not_mistaken_for_the_ledger_in_a_redis(database_url, redis_url, redis):
    await give_birth(database_url, redis_url, SHARDS)
    await redis.hset(keys.LEDGER, "id", str(uuid4()))
    with pytest.raises(BirthRefused, match="holds another ledger"):
        await give_birth(database_url, redis_url, SHARDS)


async def test_other_keys_in_the_same_redis_are_left_alone(database_url, redis_url, redis):
    await redis.set("rq:queue:journal", "theirs")
    await give_birth(database_url, redis_url, SHARDS)
    assert await redis.get("rq:queue:journal") == b"theirs"


async def test_the_number_of_shards_is_fixed_at_birth(database_url, redis_url, redis):
    await give_birth(database_url, redis_url, SHARDS)
    with pytest.raises(BirthRefused, match="has 3 shards, fixed at its birth; LASTRO_SHARDS says 4"):
        await give_birth(database_url, redis_url, 4)
    for shards in (0, 4097):
        with pytest.raises(BirthRefused, match="1 to 4096"):
            await give_birth(database_url, redis_url, shards)


async def test_a_database_with_a_journal_and_no_ledger_is_refused(database_url, redis_url, redis):
    connection = await connect(database_url)
    await connection.execute("INSERT INTO shards (shard, head) VALUES (0, $1)", bytes(32))
    await connection.close()
    with pytest.raises(BirthRefused, match="has a journal but no ledger"):
        await give_birth(database_url, redis_url, SHARDS)
    assert await redis.dbsize() == 0

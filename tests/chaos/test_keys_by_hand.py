"""Keys that people have written by hand: whatever stands there, its shard is fenced, and it alone."""

import pytest

from app.ledger import keys
from app.ledger.backing import NotAdmitted
from app.ledger.operations import Reserve
from app.ledger.shards import new_reservation_id
from app.ledger.stream import Keep
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.state import in_redis
from tests.integration.streams import Caller, forge, replace_server, roll_back, snapshot

RESERVATION = "01a00000-0000-7000-9000-000000000000"
"""One that shard 0 could have made."""


async def test_bytes_that_are_no_text_fence_their_shard_and_no_other(
    caller, database, database_url, redis, redis_url, restored
):
    for shard in range(2):
        await caller.grant(shard)
    await journal_all(database_url, redis_url)
    await redis.xadd(keys.journal(0), {"other": "x"}, id="2-0")
    await redis.xadd(keys.journal(0), {"entry": b"\xff\xfe\x00"}, id="3-0")
    await redis.hset(keys.meta(0), mapping={"sequence": 3, "link": b"\xff\x00", "fence": b"\xfe\x00"})
    await replace_server(redis)
    terms = await admit(database, redis)
    assert terms.fences.keys() == {0}
    await Caller(redis, terms).grant(1)
    found = await restored()
    assert (found.fences, [each[-3:-1] for each in found.shards]) == ({}, [(0, 2)])
    assert await redis.hget(keys.meta(0), "sequence") == b"1"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("sequence", "9" * 20),
        ("incarnation", "9" * 20),
        ("incarnation", "9007199254740991"),
        ("incarnation", "\u0663"),
    ],
)
async def test_numbers_that_no_ledger_counts_to_fence_their_shard_and_no_other(
    caller, database, database_url, redis, redis_url, restored, name, number
):
    for shard in range(2):
        await caller.grant(shard)
    await journal_all(database_url, redis_url)
    await redis.hset(keys.meta(0), name, number)
    await replace_server(redis)
    terms = await admit(database, redis)
    assert terms.fences.keys() == {0}
    await Caller(redis, terms).grant(1)
    assert (await restored()).fences == {}
    await Caller(redis, await admit(database, redis)).grant(0)


async def test_whatever_stands_in_a_stream_is_salvaged(caller, redis, restored):
    await caller.grant(0)
    for members in [
        {"task": "a\0b", "reservation": RESERVATION},
        {"task": "t", "reservation": RESERVATION, "provider": "\0"},
        {"task": "t", "reservation": RESERVATION[:-1] + "\n"},
        {"task": "t" * 100_000, "reservation": RESERVATION, "amount": 10**400},
        {"task": 7},
    ]:
        await forge(redis, 0, available=77, **members)
    await redis.hset(keys.meta(0), "fence", "look at this")
    found = await restored()
    assert ([(each.drained, each.salvaged) for each in found.shards], found.fences) == ([(1, 5)], {})


async def test_a_ledger_key_of_another_type_is_said_in_words(caller, database, redis):
    await redis.delete(keys.LEDGER)
    await redis.set(keys.LEDGER, "mine")
    with pytest.raises(NotAdmitted, match=keys.LEDGER):
        await admit(database, redis)


async def test_something_else_under_a_key_fences_what_is_rolled_forward_and_no_other(
    caller, database, database_url, redis, redis_url, restored
):
    for shard in range(2):
        await caller.grant(shard)
    early = await snapshot(redis)
    now_ms = (await redis.time())[0] * 1000
    for shard in range(2):
        await caller.call(
            [Reserve(shard=shard, account=f"ana{shard}", amount=1, ttl_ms=60_000,
                     reservation=new_reservation_id(shard, now_ms))]
        )  # fmt: skip
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await roll_back(redis, early)
    await redis.set(keys.due(0), "mine")
    terms = await admit(database, redis)
    assert terms.fences.keys() == {0}
    await Caller(redis, terms).grant(1)
    await journal_all(database_url, redis_url)
    assert (await restored()).fences == {}
    after = await in_redis(redis, SHARDS)
    assert after.values[keys.due(0)] == before.values[keys.due(0)]


DAMAGES = [
    (field, value)
    for field in ("sequence", "link", "journaled", "bytes", "journaled_bytes", "oldest_ms", "now_ms", "goal")
    for value in (None, "x")
]


async def test_a_damaged_meta_keeps_no_other_shard_from_being_journaled_or_rolled_forward(
    database, database_url, redis, redis_url
):
    """Each of the first shards is damaged in its own way; the last one is whole."""
    whole = len(DAMAGES)
    await give_birth(database_url, redis_url, whole + 1)
    caller = Caller(redis, await admit(database, redis))
    for shard in range(whole + 1):
        await caller.grant(shard)
    early = await snapshot(redis)
    for shard in range(whole + 1):
        await caller.grant(shard)
    await journal_all(database_url, redis_url)
    await _damage(redis)
    await caller.grant(whole)
    drained = await drain(database_url, redis_url, 1.0, keep=Keep(0, 0), connections=1)
    assert (drained.failures, drained.rows, drained.condemned) == (0, 1, [])
    assert whole not in (await admit(database, redis)).fences
    await roll_back(redis, early)
    await _damage(redis)
    terms = await admit(database, redis)
    assert whole not in terms.fences
    assert 0 < len(terms.fences) < whole
    await Caller(redis, terms).grant(whole)


async def _damage(redis) -> None:
    for shard, (field, value) in enumerate(DAMAGES):
        await (
            redis.hdel(keys.meta(shard), field)
            if value is None
            else redis.hset(keys.meta(shard), field, value)
        )

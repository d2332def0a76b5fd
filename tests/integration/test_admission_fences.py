"""What an admission fences: whatever is not, entry by entry, what the journal goes on from (I9)."""

import pytest

from app.ledger import keys
from app.ledger.backing import Terms
from app.ledger.operations import Grant
from persistence.admission import admit
from persistence.birth import give_birth
from tests.integration.standings import SHARDS, journaled, metas, server_of, shards
from tests.integration.streams import Caller, replace_server, roll_back, snapshot

UNTIL = "Fenced until `lastro restore`"


@pytest.fixture
async def ledger(database_url, redis_url) -> str:
    return str(await give_birth(database_url, redis_url, SHARDS))


async def test_a_redis_without_meta_is_fenced_also_at_cursor_zero(database, redis, ledger, caplog):
    await redis.flushdb()
    terms = await admit(database, redis)
    (said,) = caplog.messages
    assert said.startswith("shards 0, 1 are fenced: Redis has nothing of the shard")
    assert sorted(terms.fences) == [0, 1]
    assert all("Redis has nothing of shard" in why and UNTIL in why for why in terms.fences.values())
    assert await shards(database, "fence") == list(terms.fences.values())
    assert await redis.dbsize() == 0
    assert await admit(database, redis) == terms


async def test_a_redis_behind_the_journal_is_fenced_and_says_by_how_much(database, redis, ledger):
    terms = await admit(database, redis)
    await Caller(redis, terms).grant(0)
    early = await snapshot(redis)
    await Caller(redis, terms).grant(0, calls=3)
    await journaled(database, redis, 0)
    await roll_back(redis, early)
    terms = await admit(database, redis)
    assert list(terms.fences) == [0]
    assert "3 entries behind the journal in shard 0: it ends at 1, the journal at 4" in terms.fences[0]
    assert terms.incarnations == [2, 2]
    assert await metas(redis, "fence") == [terms.fences[0], ""]
    assert await shards(database, "fence") == [terms.fences[0], None]


async def test_a_fenced_shard_refuses_and_the_others_go_on(database, redis, ledger):
    terms = await admit(database, redis)
    await Caller(redis, terms).grant(0)
    await database.execute("UPDATE shards SET cursor = 9 WHERE shard = 0")
    await replace_server(redis)
    terms = await admit(database, redis)
    reply = await Caller(redis, terms).call(
        [Grant(shard=0, account="ana0", amount=1), Grant(shard=1, account="ana1", amount=1, open=True)]
    )
    assert [type(each).__name__ for each in reply.results] == ["Declined", "Applied"]
    assert reply.results[0].word == "ledger_fenced"


async def test_a_fork_is_fenced_even_when_its_numbers_fit(database, redis, ledger):
    terms = await admit(database, redis)
    early = await snapshot(redis)
    await Caller(redis, terms).grant(0, calls=2)
    await journaled(database, redis, 0)
    await roll_back(redis, early)
    await Caller(redis, await _force(redis, terms)).grant(0, calls=2)
    await replace_server(redis)
    terms = await admit(database, redis)
    assert "different histories in shard 0 from entry 3 on" in terms.fences[0]


async def test_a_fork_that_has_grown_past_the_cursor_is_fenced_by_its_link(database, redis, ledger):
    terms = await admit(database, redis)
    early = await snapshot(redis)
    await Caller(redis, terms).grant(0, calls=2)
    await journaled(database, redis, 0)
    await roll_back(redis, early)
    await Caller(redis, await _force(redis, terms)).grant(0, calls=5)
    await replace_server(redis)
    terms = await admit(database, redis)
    assert "different histories in shard 0 from entry 3 on" in terms.fences[0]


async def _force(redis, terms: Terms) -> Terms:
    """Serve a rolled back Redis as if nobody had to admit it: what the admission is there to prevent."""
    server = await server_of(redis)
    for shard in range(SHARDS):
        await redis.hset(keys.meta(shard), mapping={"server": server, "incarnation": 1})
    return Terms(ledger=terms.ledger, server=server, incarnations=[1] * SHARDS, fences={})


async def test_a_stream_that_begins_after_the_cursor_is_fenced(database, redis, ledger):
    terms = await admit(database, redis)
    await Caller(redis, terms).grant(0, calls=3)
    await redis.xtrim(keys.journal(0), minid="3-0", approximate=False)
    await replace_server(redis)
    assert "begins at 3-0, but the journal ends at 0" in (await admit(database, redis)).fences[0]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda redis: redis.delete(keys.journal(0)), "ends at nothing, but the shard has counted to 2"),
        (lambda redis: redis.xadd(keys.journal(0), {"entry": "{}"}, id="9-0"), "ends at 9-0, but the shard"),
        (lambda redis: redis.set(keys.journal(0), "x"), "overwritten by something else"),
        (lambda redis: redis.set(keys.meta(0), "x"), "overwritten by something else"),
        (lambda redis: redis.delete(keys.meta(0)), "Redis has nothing of shard 0"),
        (
            lambda redis: redis.hset(keys.meta(0), "sequence", "two"),
            "meta of shard 0 in Redis is not readable",
        ),
        (lambda redis: redis.hdel(keys.meta(0), "ledger"), "meta of shard 0 in Redis is not readable"),
        (lambda redis: redis.hset(keys.meta(0), "fence", "because I say so"), "because I say so"),
    ],
)
async def test_a_damaged_shard_is_fenced_with_the_reason(database, redis, ledger, damage, reason):
    terms = await admit(database, redis)
    await Caller(redis, terms).grant(0, calls=2)
    await damage(redis)
    await replace_server(redis)
    terms = await admit(database, redis)
    assert list(terms.fences) == [0]
    assert reason in terms.fences[0]
    assert await shards(database, "fence") == [terms.fences[0], None]


async def test_an_entry_after_the_cursor_that_cannot_be_read_is_fenced(database, redis, ledger):
    terms = await admit(database, redis)
    await Caller(redis, terms).grant(0)
    await redis.delete(keys.journal(0))
    await redis.xadd(keys.journal(0), {"entry": "{"}, id="1-0")
    await replace_server(redis)
    assert "Entry 1 of shard 0 in Redis is not readable" in (await admit(database, redis)).fences[0]


async def test_a_fence_that_redis_forgot_is_put_up_again(database, redis, ledger):
    terms = await admit(database, redis)
    await database.execute(
        "UPDATE shards SET fence = 'closed for repairs', fenced_at = now() WHERE shard = 1"
    )
    assert (await admit(database, redis)).fences == {1: "closed for repairs"}
    assert await metas(redis, "fence") == ["", "closed for repairs"]
    await redis.hset(keys.meta(1), "fence", "")
    await replace_server(redis)
    later = await admit(database, redis)
    assert (later.incarnations, later.fences) == ([2, 2], {1: "closed for repairs"})
    assert await metas(redis, "fence") == ["", "closed for repairs"]
    assert terms.fences == {}

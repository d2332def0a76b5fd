"""A Redis that is merely behind is rolled forward by the admission, whoever else admits and dies then."""

import asyncio
import random

import asyncpg
import pytest

from app.ledger import keys
from app.ledger.admission import survey
from app.ledger.backing import Terms
from app.ledger.connection import connect
from app.ledger.judgement import Standing, fault
from app.ledger.operations import Grant
from persistence import catching_up
from persistence.admission import admit, amended
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import fence, fences, unfence
from persistence.standings import read_standings
from tests.integration.books import Shop, assert_equal
from tests.integration.dying import Killed, dies_at
from tests.integration.ledgers import journal_all
from tests.integration.streams import Caller, replace_server, roll_back, snapshot

SHARDS = 2


@pytest.fixture
async def terms(database, database_url, redis, redis_url) -> Terms:
    await give_birth(database_url, redis_url, SHARDS)
    return await admit(database, redis)


@pytest.fixture
async def behind(database, database_url, redis, redis_url, terms) -> int:
    """A Redis that went back in both shards while PostgreSQL has all; gives how many entries there were."""
    caller = Caller(redis, terms)
    shop = Shop(caller, SHARDS, random.Random(7).randrange(1000))
    await shop.trade(15)
    early = await snapshot(redis)
    await shop.trade(30)
    await journal_all(database_url, redis_url)
    rows = await database.fetchval("SELECT count(*) FROM journal")
    await roll_back(redis, early)
    return rows


async def whole(database, redis, database_url, redis_url) -> int:
    """Let what is due happen and be journaled; then both stores must say the same."""
    await drain(database_url, redis_url, 0.3, keep=None)
    return await assert_equal(database, redis)


async def test_a_shard_that_is_behind_is_rolled_forward_and_served(
    database, database_url, redis, redis_url, behind
):
    terms = await admit(database, redis)
    assert (terms.fences, terms.incarnations) == ({}, [2, 2])
    rows = await database.fetch("SELECT shard, incarnation, sequence FROM incarnations ORDER BY 1, 2")
    cursors = [each.cursor for each in await read_standings(database)]
    assert [tuple(row) for row in rows] == [
        (0, 1, 0), (0, 2, cursors[0]), (1, 1, 0), (1, 2, cursors[1])
    ]  # fmt: skip
    assert await whole(database, redis, database_url, redis_url) == behind
    await Caller(redis, terms).grant(0)
    assert await whole(database, redis, database_url, redis_url) >= behind + 1


STEPS = ["after commit", "after rolling lock", "after closing", "after values", "after rolling", "after lock"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_rolling_forward_that_is_cut_off_anywhere_is_finished_by_the_next(
    database, database_url, redis, redis_url, behind, step
):
    with pytest.raises(Killed):
        await admit(database, redis, barrier=dies_at(step))
    assert (await admit(database, redis)).fences == {}
    assert await whole(database, redis, database_url, redis_url) == behind


async def test_who_admits_during_a_rolling_forward_serves_the_other_shards_and_then_all(
    database, database_url, redis, redis_url, behind
):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def barrier(step: str) -> None:
        if step == "after values":
            reached.set()
            await go_on.wait()

    async with connect(redis_url) as other:
        rolling = asyncio.create_task(admit(database, other, barrier=barrier))
        await reached.wait()
        terms = await admit(database, redis)
        assert sorted(terms.refused) == [0]
        assert "is being rolled forward" in terms.fences[0]
        reply = await Caller(redis, terms).call([Grant(shard=1, account="a", amount=1, open=True)])
        assert reply.status == "ok"
        go_on.set()
        done = await rolling
    assert done.fences == {}
    changed = amended(terms, await read_standings(database))
    assert (changed.fences, changed.incarnations) == ({}, done.incarnations)
    assert await whole(database, redis, database_url, redis_url) >= behind + 1


async def test_processes_that_meet_a_server_that_went_back_at_the_same_moment_agree(
    database, database_url, redis, redis_url, behind
):
    clients = [connect(redis_url) for _ in range(4)]
    everybody = await asyncio.gather(*(admit(database, each) for each in clients))
    last = await admit(database, redis)
    assert last.fences == {}
    for each in everybody:
        assert set(each.fences) == each.refused
        assert each.incarnations <= last.incarnations
    assert await whole(database, redis, database_url, redis_url) == behind
    for each in clients:
        await each.aclose()


async def test_who_rolls_forward_and_sleeps_wakes_up_without_harm(
    database, database_url, redis, redis_url, behind
):
    """Its lock is gone, another one has finished, and calls have come since."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def barrier(step: str) -> None:
        if step == "after closing":
            reached.set()
            await go_on.wait()

    async with connect(redis_url) as other, asyncpg.create_pool(database_url) as own:
        sleeper = asyncio.create_task(admit(own, other, barrier=barrier))
        await reached.wait()
        await database.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE state = 'idle in transaction' AND datname = current_database()"
        )
        terms = await admit(database, redis)
        assert terms.fences == {}
        for shard in range(SHARDS):
            await Caller(redis, terms).grant(shard, calls=3)
        before = await snapshot(redis)
        go_on.set()
        await asyncio.gather(sleeper, return_exceptions=True)
        assert await snapshot(redis) == before
    assert await whole(database, redis, database_url, redis_url) >= behind + 3 * SHARDS


async def test_what_was_rolled_forward_by_halves_and_overtaken_by_a_loss_of_postgresql_is_fenced(
    database, redis, behind
):
    """Balances are ahead of the entries then, though every number fits."""
    with pytest.raises(Killed):
        await admit(database, redis, barrier=dies_at("after values"))
    (standing, *_) = await read_standings(database)
    (seen, *_) = await survey(redis, await _id(database), [standing])
    lost = Standing(0, int(seen.sequence), seen.link, standing.incarnation, None)
    assert "balances are ahead of the journal" in fault(lost, seen)


async def _id(database) -> str:
    return await database.fetchval("SELECT id::text FROM ledger")


async def test_one_that_has_taken_other_calls_since_is_no_prefix_and_is_fenced(
    database, database_url, redis, redis_url, terms
):
    caller = Caller(redis, terms)
    await caller.grant(0, calls=2)
    early = await snapshot(redis)
    await caller.grant(0, calls=5)
    await drain(database_url, redis_url, 0.3, keep=None)
    await roll_back(redis, early)
    await redis.hset(keys.meta(0), mapping={"incarnation": 1, "server": (await _server(redis))})
    await Caller(redis, Terms(terms.ledger, await _server(redis), [1, 1], {})).grant(0, calls=2)
    await replace_server(redis)
    terms = await admit(database, redis)
    assert "3 entries behind the journal in shard 0" in terms.fences[0]
    assert "lastro restore" in terms.fences[0]
    assert [each.shard for each in await fences(database)] == [0]


async def _server(redis) -> str:
    return (await redis.info("replication"))["master_replid"]


async def test_one_that_is_too_far_behind_is_fenced(database, redis, behind, monkeypatch):
    monkeypatch.setattr("persistence.rolling.BEHIND_MAX", 3)
    assert sorted((await admit(database, redis)).fences) == [0, 1]
    assert len(await fences(database)) == SHARDS


async def test_unfencing_rolls_forward_what_is_behind(database, database_url, redis, redis_url, behind):
    await fence(database, redis, None, "an old copy was put back")
    assert (await admit(database, redis)).refused == frozenset()
    opening = await unfence(database, redis, None, "go on")
    assert (opening.opened, opening.stays) == ([0, 1], {})
    assert await whole(database, redis, database_url, redis_url) == behind


async def test_a_long_rolling_forward_does_not_keep_the_lock_of_the_others(database, redis, behind):
    """While one shard is rolled forward, the rows of the others are free."""
    seen = []

    async def barrier(step: str) -> None:
        if step == "after closing":
            seen.append(
                await database.fetchval(
                    "SELECT count(*) FROM (SELECT FROM shards FOR UPDATE SKIP LOCKED) AS free"
                )
            )

    await admit(database, redis, barrier=barrier)
    assert seen == [SHARDS - 1] * SHARDS
    assert catching_up.SECONDS_MAX > 100

"""A Redis that was named by mistake, and one that has taken the place of a loss: they look the same, and only
whether the right one is still alive tells them apart.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from app.ledger import keys
from app.ledger.connection import connect
from persistence import served
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.doctor.between import admission as checked
from persistence.drain import drain
from persistence.fences import fence, fences, unfence
from persistence.pool import open_pool
from persistence.restore.claim import RestoreRefused, fenced
from persistence.served import note
from persistence.standings import read_standings
from tests.integration.streams import Caller, put_back, replace_server, snapshot

SHARDS = 2
ALL = set(range(SHARDS))


@pytest.fixture
async def caller(database, database_url, redis_url, redis) -> Caller:
    """Of the right Redis: it is admitted, and has some entries that are journaled."""
    await give_birth(database_url, redis_url, SHARDS)
    caller = Caller(redis, await admit(database, redis))
    await caller.grant(0, calls=3)
    await drain(database_url, redis_url, 0.3, keep=None)
    return caller


@pytest.fixture
async def wrong(own_valkey):
    async with connect(own_valkey.url) as redis:
        yield redis


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(served, "SEEN_SECONDS", 0.6)
    monkeypatch.setattr(served, "GAP_SECONDS", 0.4)
    monkeypatch.setattr(served, "LATE_SECONDS", 0.1)


@asynccontextmanager
async def alive(database, redis):
    """Somebody serves from it."""
    over = asyncio.Event()

    async def tell() -> None:
        while not over.is_set():
            await note(database, [(await redis.info("replication"))["master_replid"]])
            await asyncio.wait({over_soon}, timeout=0.05)

    over_soon = asyncio.create_task(over.wait())
    await note(database, [(await redis.info("replication"))["master_replid"]])
    telling = asyncio.create_task(tell())
    yield
    over.set()
    await asyncio.gather(telling, over_soon)


async def empty(_right, _wrong) -> None:
    """As it came."""


async def fork(right, wrong) -> None:
    """All of it, and a call of its own in the place of the last one of each shard."""
    await put_back(wrong, await snapshot(right))
    for shard in range(SHARDS):
        await wrong.hset(keys.meta(shard), "link", "another")


async def long_ago(right, wrong) -> None:
    """As far behind as no crash leaves it, so that it is no beginning of the journal."""
    await fork(right, wrong)
    await wrong.hset(keys.meta(0), "sequence", 1)
    await wrong.xtrim(keys.journal(0), maxlen=0, approximate=False)


@pytest.mark.parametrize("become", [empty, fork, long_ago])
async def test_the_wrong_one_is_refused_while_the_right_one_is_alive_and_fences_nobody(
    database, redis, caller, wrong, become
):
    await become(redis, wrong)
    before = await snapshot(wrong)
    async with alive(database, redis):
        for _ in range(3):
            terms = await admit(database, wrong)
            assert ALL == terms.refused
            assert "Another Redis is being served for shard 0 right now" in terms.fences[0]
            assert "LASTRO_REDIS_URL" in terms.fences[0]
    assert await snapshot(wrong) == before
    assert await fences(database) == []
    assert await admit(database, redis) == caller.terms
    await caller.grant(0)


async def test_one_that_nobody_serves_from_is_not_missed_and_the_verdict_is_the_old_one(
    database, redis, caller, wrong
):
    assert (await admit(database, wrong)).refused == set()
    assert ALL == {each.shard for each in await fences(database)}


@pytest.mark.usefixtures("quick")
async def test_once_the_right_one_is_gone_the_other_is_fenced_and_was_refused_from_the_first_moment(
    database, redis, caller, wrong
):
    async with alive(database, redis):
        pass
    began, looks = asyncio.get_running_loop().time(), 0
    while (terms := await admit(database, wrong)).refused:
        assert ALL == terms.refused == terms.fences.keys()
        looks += 1
        await asyncio.sleep(0.05)
    assert looks > 1
    assert 0.5 < asyncio.get_running_loop().time() - began < 3
    assert "Redis has nothing of shard 0" in terms.fences[0]
    assert ALL == {each.shard for each in await fences(database)}


@pytest.mark.usefixtures("quick")
async def test_one_that_was_there_beside_the_right_one_never_fences_it_however_long_that_is_away(
    database, redis, caller, wrong
):
    async with alive(database, redis):
        for _ in range(10):
            await admit(database, wrong)
            await asyncio.sleep(0.05)
    for _ in range(30):
        terms = await admit(database, wrong)
        assert ALL == terms.refused
        await asyncio.sleep(0.05)
    assert "Another Redis was being served for shard 0 beside this one" in terms.fences[0]
    assert await fences(database) == []


AWAY = """
UPDATE served_servers SET seen_at = seen_at - interval '1 hour';
UPDATE intruders SET since = since - interval '1 hour', looked_at = looked_at - interval '1 hour';
"""


async def test_who_comes_back_first_after_an_outage_does_not_fence_the_other(database, redis, caller, wrong):
    """Neither could say anything for an hour, and the wrong one is quicker."""
    async with alive(database, redis):
        await admit(database, wrong)
    await database.execute(AWAY)
    assert ALL == (await admit(database, wrong)).refused
    async with alive(database, redis):
        assert ALL == (await admit(database, wrong)).refused
    assert await fences(database) == []


async def test_what_nobody_has_seen_for_a_month_is_forgotten(database, redis, caller, wrong):
    async with alive(database, redis):
        await admit(database, wrong)
    await database.execute(AWAY.replace("1 hour", "31 days"))
    await database.execute("INSERT INTO served_servers VALUES ('gone', now() - interval '31 days')")
    assert (await admit(database, wrong)).refused == set()
    rows = await database.fetch("SELECT server FROM served_servers UNION ALL SELECT server FROM intruders")
    assert {row["server"] for row in rows} == {(await wrong.info("replication"))["master_replid"]}


async def test_the_wrong_one_waits_while_postgresql_restarts(own_postgres, redis_url, redis, wrong):
    await give_birth(own_postgres.url, redis_url, SHARDS)
    async with await open_pool(own_postgres.url) as database:
        await admit(database, redis)
        async with alive(database, redis):
            await admit(database, wrong)
            await asyncio.to_thread(own_postgres.stop)
            own_postgres.start()
            assert ALL == (await admit(database, wrong)).refused
        assert await fences(database) == []


async def test_a_replica_that_is_promoted_is_admitted_though_the_old_primary_is_alive(
    database, redis, caller, own_valkey, wrong
):
    """Once as far as it, once behind it and the journal."""
    await put_back(wrong, await snapshot(redis))
    async with alive(database, redis):
        assert (await admit(database, wrong)).fences == {}
        early = await snapshot(wrong)
        await Caller(wrong, await admit(database, wrong)).grant(0, calls=2)
        await drain(str(database._connect_args[0]), own_valkey.url, 0.3, keep=None)
        await redis.flushall()
        await put_back(redis, early)
        await replace_server(redis)
        async with alive(database, wrong):
            assert (await admit(database, redis)).fences == {}
            assert await redis.hget(keys.meta(0), "sequence") == b"5"


async def test_the_same_server_without_its_data_is_fenced_at_once(database, redis, caller):
    async with alive(database, redis):
        await redis.flushdb()
        assert ALL == (await admit(database, redis)).fences.keys()
        assert ALL == {each.shard for each in await fences(database)}


async def test_nothing_is_noted_of_one_that_is_not_admitted(database, redis, caller, wrong):
    server = (await wrong.info("replication"))["master_replid"]
    await note(database, [server])
    async with alive(database, redis):
        await admit(database, wrong)
        await note(database, [server])
    assert [caller.terms.server] == [
        row["server"] for row in await database.fetch("SELECT * FROM served_servers")
    ]
    await admit(database, redis)
    await put_back(wrong, await snapshot(redis))
    await admit(database, wrong)
    moment = "SELECT seen_at FROM served_servers WHERE server = $1"
    before = await database.fetchval(moment, caller.terms.server)
    await note(database, [caller.terms.server])
    await note(database, [server])
    assert before == await database.fetchval(moment, caller.terms.server)
    assert await database.fetchval(moment, server) is not None


async def test_two_wrong_ones_at_once_are_both_refused(database, redis, caller, own_valkey, valkey_server):
    """One is empty, the other one a fork; and each has several processes."""
    async with connect(own_valkey.url) as other, connect(own_valkey.url) as its_second:
        async with alive(database, redis):
            await fork(redis, other)
            clients = [other, its_second, other, its_second]
            found = await asyncio.gather(*(admit(database, each) for each in clients))
            assert [ALL] * 4 == [terms.refused for terms in found]
            await other.flushall()
            found = await asyncio.gather(*(admit(database, each) for each in clients))
            assert [ALL] * 4 == [terms.refused for terms in found]
        assert await fences(database) == []


async def test_a_wrong_one_keeps_no_fenced_shard_from_being_drained(
    database, database_url, redis, redis_url, caller, wrong
):
    """It would get the number of a shard that is fenced, and the right one's journal would stop."""
    await fork(redis, wrong)
    await caller.grant(0)
    await fence(database, redis, None, "moving")
    async with alive(database, redis):
        assert ALL == (await admit(database, wrong)).fences.keys()
        drained = await drain(database_url, redis_url, 0.3, keep=None)
        assert (drained.rows, drained.condemned) == (1, [])
        assert (await unfence(database, redis, None, "moved back")).stays == {}


async def test_the_operators_word_counts_for_what_is_fenced_and_only_for_that(database, redis, caller, wrong):
    await put_back(wrong, await snapshot(redis))
    await wrong.hset(keys.meta(1), "link", "another")
    await fence(database, redis, [0], "moving")
    async with alive(database, redis):
        opening = await unfence(database, wrong, None, "moved")
        assert (opening.opened, opening.stays) == ([0], {})
        assert {1} == (await admit(database, wrong)).refused
        assert {0} == (await admit(database, redis)).refused
        assert await fences(database) == []


async def test_a_restore_of_the_wrong_one_is_refused_before_anything_is_written(
    database, redis, caller, wrong
):
    seconds, _ = await redis.time()
    async with alive(database, redis):
        with pytest.raises(RestoreRefused, match=r"not the Redis that is served\. Another Redis is being"):
            await fenced(database, wrong, lambda: seconds * 1000)
    assert await wrong.dbsize() == 0
    assert await database.fetch("SELECT * FROM intruders") == []
    assert await fences(database) == []


async def test_a_restore_waits_until_one_that_was_alive_a_moment_ago_is_surely_gone(
    database, redis, caller, wrong, monkeypatch
):
    """Also of one that was refused for good as long as nobody named it on purpose."""
    monkeypatch.setattr(served, "SEEN_SECONDS", 0.6)
    seconds, _ = await redis.time()
    async with alive(database, redis):
        await admit(database, wrong)
    await database.execute("UPDATE intruders SET outlived = true")
    assert ALL == {each.shard for each in await fenced(database, wrong, lambda: seconds * 1000)}


async def test_the_doctor_says_that_another_one_is_served(database, redis, caller, wrong):
    async with alive(database, redis):
        finding = await checked(database, wrong, await read_standings(database))
        assert (finding.level, finding.says[:28]) == ("critical", "Another Redis is being serve")
        assert (await checked(database, redis, await read_standings(database))).level == "ok"

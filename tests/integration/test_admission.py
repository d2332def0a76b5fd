"""Which Redis is let in, under which number, and what is never served (I9)."""

import asyncio
from uuid import uuid4

import pytest

from app.ledger import keys
from app.ledger.backing import NotAdmitted, Terms
from app.ledger.connection import connect
from app.ledger.judgement import Standing
from app.ledger.operations import Grant
from persistence.admission import admit, amended, this_machines_clock_ms, watch
from persistence.birth import give_birth
from tests.integration.dying import Killed, dies_at
from tests.integration.standings import SHARDS, metas, server_of, shards
from tests.integration.streams import Caller, put_back, replace_server, roll_back, snapshot


@pytest.fixture
async def ledger(database_url, redis_url) -> str:
    return str(await give_birth(database_url, redis_url, SHARDS))


async def test_the_first_admission_gives_every_shard_the_number_one(database, redis, ledger):
    terms = await admit(database, redis)
    assert terms == Terms(ledger=ledger, server=await server_of(redis), incarnations=[1, 1], fences={})
    assert await shards(database, "incarnation") == [1, 1]
    assert await metas(redis, "incarnation") == ["1", "1"]
    assert await metas(redis, "server") == [terms.server] * 2
    reply = await Caller(redis, terms).call([Grant(shard=0, account="ana", amount=100, open=True)])
    assert reply.status == "ok"


async def test_whoever_comes_later_adopts_the_same_terms(database, redis, ledger):
    terms = await admit(database, redis)
    await Caller(redis, terms).grant(0, calls=3)
    assert await admit(database, redis) == terms


async def test_another_server_gets_a_higher_number_and_the_old_terms_are_refused(database, redis, ledger):
    before = await admit(database, redis)
    await Caller(redis, before).grant(0)
    await replace_server(redis)
    assert (
        await Caller(redis, before).call([Grant(shard=0, account="ana0", amount=1)])
    ).status == "not_admitted"
    after = await admit(database, redis)
    assert (after.incarnations, after.fences) == ([2, 2], {})
    assert after.server != before.server
    await Caller(redis, after).grant(0)


async def test_only_the_shard_that_needs_it_gets_a_higher_number(database, redis, ledger):
    await admit(database, redis)
    await redis.hset(keys.meta(1), "server", "")
    assert (await admit(database, redis)).incarnations == [1, 2]


@pytest.mark.parametrize("step", ["after lock", "after commit"])
async def test_an_admission_cut_off_is_made_good_by_the_next(database, redis, ledger, step):
    with pytest.raises(Killed):
        await admit(database, redis, barrier=dies_at(step))
    assert await metas(redis, "incarnation") == ["0", "0"]
    terms = await admit(database, redis)
    committed = 1 if step == "after commit" else 0
    assert terms.incarnations == [committed + 1] * 2
    assert await metas(redis, "incarnation") == [str(committed + 1)] * 2


async def test_two_processes_that_admit_at_once_agree(database, redis, redis_url, ledger):
    clients = [connect(redis_url) for _ in range(4)]
    terms = await asyncio.gather(*(admit(database, each) for each in clients))
    last = await admit(database, redis)
    assert [str(number) for number in last.incarnations] == await metas(redis, "incarnation")
    assert last.incarnations == await shards(database, "incarnation")
    assert all(each.incarnations <= last.incarnations for each in terms)
    for each in clients:
        await each.aclose()


@pytest.mark.parametrize(("change", "numbers"), [("data", [3, 2]), ("server", [3, 3]), ("both", [3, 3])])
async def test_a_redis_that_changes_between_commit_and_writing_is_looked_at_again(
    database, redis, ledger, change, numbers
):
    terms = await admit(database, redis)
    await Caller(redis, terms).grant(0, calls=2)
    early = await snapshot(redis)
    await Caller(redis, terms).grant(0)
    await replace_server(redis)
    steps = []

    async def barrier(name: str) -> None:
        steps.append(name)
        if steps == ["after lock", "after commit"]:
            if change != "server":
                await put_back(redis, early)
            if change != "data":
                await replace_server(redis)

    terms = await admit(database, redis, barrier=barrier)
    assert steps == ["after lock", "after commit"] * 2
    assert terms.incarnations == numbers
    assert await metas(redis, "server") == [await server_of(redis)] * 2


async def test_the_server_that_is_admitted_later_has_the_higher_number(database, redis, ledger, own_valkey):
    first = await admit(database, redis)
    await Caller(redis, first).grant(0)
    copy = connect(own_valkey.url)
    await roll_back(copy, await snapshot(redis))
    second = await admit(database, copy)
    assert second.incarnations == [2, 2]
    assert await metas(redis, "incarnation") == ["1", "1"]
    changed = amended(first, [Standing(shard, 0, "genesis", 2, None) for shard in range(SHARDS)])
    assert (
        await Caller(redis, changed).call([Grant(shard=0, account="ana0", amount=1)])
    ).status == "not_admitted"
    await copy.aclose()


async def test_a_journal_that_lost_its_last_admission_gets_a_number_above_both(database, redis, ledger):
    await admit(database, redis)
    await redis.hset(keys.meta(0), "incarnation", 7)
    assert (await admit(database, redis)).incarnations == [8, 1]


async def test_another_ledgers_redis_is_refused_and_nothing_is_written(database, redis, ledger):
    await redis.hset(keys.LEDGER, "id", str(uuid4()))
    before = await snapshot(redis)
    with pytest.raises(NotAdmitted, match="Another ledger lives in this Redis"):
        await admit(database, redis)
    assert await snapshot(redis) == before
    assert await shards(database, "fence") == [None, None]


async def test_another_ledgers_shard_is_refused_and_nothing_is_written(database, redis, ledger):
    await redis.hset(keys.meta(1), "ledger", str(uuid4()))
    before = await snapshot(redis)
    with pytest.raises(NotAdmitted, match="Another ledger lives in this Redis"):
        await admit(database, redis)
    assert await snapshot(redis) == before
    assert await shards(database, "fence") == [None, None]


async def test_a_database_without_a_ledger_says_so(database, redis):
    with pytest.raises(NotAdmitted, match="Run `lastro migrate`"):
        await admit(database, redis)


async def test_a_half_born_ledger_is_not_served(database_url, redis_url, database, redis):
    with pytest.raises(Killed):
        await give_birth(database_url, redis_url, SHARDS, barrier=dies_at("after meta 1"))
    with pytest.raises(NotAdmitted, match="Run `lastro migrate`"):
        await admit(database, redis)


@pytest.mark.parametrize(("minutes", "admitted"), [(9, True), (-9, True), (11, False), (-11, False)])
async def test_a_clock_more_than_ten_minutes_off_is_not_let_in(database, redis, ledger, minutes, admitted):
    async def attempt() -> Terms:
        return await admit(database, redis, clock_ms=lambda: this_machines_clock_ms() + minutes * 60_000)

    if admitted:
        assert (await attempt()).fences == {}
    else:
        with pytest.raises(NotAdmitted, match=f"{'behind' if minutes > 0 else 'ahead of'} this machine's"):
            await attempt()
        assert await shards(database, "incarnation") == [0, 0]


async def test_a_server_that_evicts_is_not_let_in_until_it_is_mended(database_url, database, own_valkey):
    await give_birth(database_url, own_valkey.url, SHARDS)
    redis = connect(own_valkey.url)
    await redis.config_set("maxmemory", 100_000_000)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(NotAdmitted, match="maxmemory-policy allkeys-lru"):
        await admit(database, redis)
    await redis.config_set("maxmemory-policy", "noeviction")
    assert (await admit(database, redis)).fences == {}
    await redis.aclose()


async def test_a_replica_is_not_let_in(database_url, database, own_valkey):
    await give_birth(database_url, own_valkey.url, SHARDS)
    redis = connect(own_valkey.url)
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(NotAdmitted, match="is a replica"):
        await admit(database, redis)
    await redis.aclose()


async def test_a_restarted_redis_is_admitted_again_with_all_it_had(database_url, database, own_valkey):
    await give_birth(database_url, own_valkey.url, SHARDS)
    redis = connect(own_valkey.url)
    before = await admit(database, redis)
    await Caller(redis, before).grant(0, calls=3)
    await redis.aclose()
    own_valkey.kill()
    own_valkey.start()
    redis = connect(own_valkey.url)
    after = await admit(database, redis)
    assert (after.incarnations, after.fences) == ([2, 2], {})
    await Caller(redis, after).grant(0)
    assert await metas(redis, "sequence") == ["4", "0"]
    await redis.aclose()


async def test_a_process_that_holds_the_lock_and_stops_does_not_stop_the_ledger(database, redis, ledger):
    async with database.acquire() as stopped, stopped.transaction():
        await stopped.execute("SELECT FROM shards FOR UPDATE")
        attempt = asyncio.create_task(admit(database, redis))
        done, _ = await asyncio.wait({attempt}, timeout=0.2)
        assert not done
    assert (await attempt).incarnations == [1, 1]


def test_what_a_server_is_refused_for_stays_until_the_shard_has_another_number():
    here = Terms("ledger", "server", [3, 3], {0: "the wrong one", 1: "a fence"}, frozenset({0}))
    same = [Standing(0, 5, "x", 3, None), Standing(1, 5, "x", 3, "a fence")]
    assert amended(here, same) is None
    opened = [same[0], Standing(1, 5, "x", 4, None)]
    assert amended(here, opened) == Terms("ledger", "server", [3, 4], {0: "the wrong one"}, frozenset({0}))
    renumbered = [Standing(0, 5, "x", 4, None), same[1]]
    assert amended(here, renumbered) == Terms("ledger", "server", [4, 3], {1: "a fence"})
    fenced = [Standing(0, 5, "x", 3, "everywhere"), same[1]]
    assert amended(here, fenced).fences == {0: "everywhere", 1: "a fence"}


async def test_what_others_admit_and_fence_is_brought_in_by_watching(database, redis, ledger, caplog):
    own: list[Terms] = [await admit(database, redis)]
    changed = asyncio.Event()

    def adopt(terms: Terms) -> None:
        own.append(terms)
        changed.set()

    watching = asyncio.create_task(watch(database, lambda: own[-1], adopt, interval_seconds=0.01))
    await database.execute("UPDATE shards SET incarnation = 5 WHERE shard = 1")
    await asyncio.wait_for(changed.wait(), 5)
    assert own[-1].incarnations == [1, 5]
    changed.clear()
    await database.execute("UPDATE shards SET fence = 'a fork', fenced_at = now() WHERE shard = 0")
    await asyncio.wait_for(changed.wait(), 5)
    assert own[-1].fences == {0: "a fork"}
    assert len(own) == 3
    caplog.clear()
    for fence in ("'Fenced by the operator: a move.', fenced_at = now()", "NULL, fenced_at = NULL"):
        changed.clear()
        await database.execute(f"UPDATE shards SET fence = {fence}")
        await asyncio.wait_for(changed.wait(), 5)
    watching.cancel()
    assert caplog.messages == [
        "shards 0, 1 refuse: Fenced by the operator: a move.",
        "shards 0, 1 are no longer fenced by the operator",
    ]

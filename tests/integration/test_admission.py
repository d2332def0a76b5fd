"""Which Redis is let in, under which number, and what is never served (I9)."""

import asyncio
from uuid import uuid4

import pytest

from app.ledger import keys
from app.ledger.admission import Standing
from app.ledger.backing import NotAdmitted, Terms
from app.ledger.connection import connect
from app.ledger.operations import Grant
from persistence.admission import admit, amended, this_machines_clock_ms, watch
from persistence.birth import give_birth
from tests.integration.dying import Killed, dies_at
from tests.integration.streams import Caller, put_back, replace_server, roll_back, snapshot

SHARDS = 2
UNTIL = "Fenced until `lastro restore`"


@pytest.fixture
async def ledger(database_url, redis_url) -> str:
    return str(await give_birth(database_url, redis_url, SHARDS))


async def shards(database, column: str) -> list[object]:
    return [row[0] for row in await database.fetch(f"SELECT {column} FROM shards ORDER BY shard")]


async def metas(redis, field: str) -> list[str]:
    return [(await redis.hget(keys.meta(shard), field)).decode() for shard in range(SHARDS)]


async def server_of(redis) -> str:
    return (await redis.info("replication"))["master_replid"]


async def journaled(database, redis, shard: int) -> None:
    """Let PostgreSQL know of all that the shard has, without the rows."""
    meta = await redis.hgetall(keys.meta(shard))
    await database.execute(
        "UPDATE shards SET cursor = $2, link = $3 WHERE shard = $1",
        shard, int(meta[b"sequence"]), meta[b"link"].decode(),
    )  # fmt: skip


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

"""What was answered and then lost with a Redis is said: which shard, from where to where, what it was."""

import asyncio
import json

import pytest

from app.ledger import keys
from app.ledger.acknowledged import Acknowledged
from app.ledger.backing import BackingUnavailable
from app.ledger.connection import connect
from app.ledger.operations import Deduct, Grant
from app.ledger.shards import shard_of
from persistence import admission
from persistence.acknowledged import look
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import unfence
from persistence.pool import open_pool
from tests.integration.ledgers import SHARDS, process
from tests.integration.streams import Caller, put_back, replace_server, roll_back, snapshot


@pytest.fixture
async def ledger(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        yield ledger


def spend(key: str) -> Deduct:
    return Deduct(account="ana", amount=1, key=key, fingerprint="f" * 16)


async def rows(database) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await database.fetch("SELECT * FROM acknowledged_lost ORDER BY id")]


async def test_what_was_answered_and_lost_is_reported_once_with_its_operations(
    database, database_url, redis, redis_url, ledger, caplog
):
    await ledger.grant(Grant(account="ana", amount=100))
    early = await snapshot(redis)
    journaled = await ledger.deduct(spend("journaled"))
    await drain(database_url, redis_url, 0.3, keep=None)
    lost = [await ledger.deduct(spend(f"lost-{number}")) for number in range(3)]
    assert await look(database, ledger.acknowledged) == []
    await roll_back(redis, early)
    await admit(database, redis)
    (found,) = await look(database, ledger.acknowledged)
    assert (found.shard, found.incarnation, found.ends) == (journaled.shard, 2, journaled.sequence)
    assert await look(database, ledger.acknowledged) == []
    ((_, shard, incarnation, first, last, operations, _, _),) = await rows(database)
    assert (shard, incarnation, first, last) == (journaled.shard, 2, 3, 5)
    assert json.loads(operations) == [
        {"transaction": str(each.transaction), "key": f"lost-{number}"} for number, each in enumerate(lost)
    ]
    assert f"acknowledged_lost: shard {shard}" in caplog.text
    assert str(lost[2].transaction) in caplog.text
    assert ledger.acknowledged.has_lost(60)


async def test_what_was_lost_is_found_though_the_next_history_has_grown_over_it_in_the_journal(
    database, database_url, redis, redis_url, ledger
):
    await ledger.grant(Grant(account="ana", amount=100))
    early = await snapshot(redis)
    await ledger.deduct(spend("lost"))
    await roll_back(redis, early)
    async with process(database, redis_url) as other:
        for number in range(5):
            await other.deduct(spend(f"other-{number}"))
        await drain(database_url, redis_url, 0.3, keep=None)
        (found,) = await look(database, ledger.acknowledged)
        assert [each.key for each in found.given] == ["lost"]
        assert await look(database, other.acknowledged) == []


async def test_what_survived_a_change_of_server_is_not_reported(
    database, database_url, redis, redis_url, ledger
):
    await ledger.grant(Grant(account="ana", amount=100))
    for number in range(3):
        await ledger.deduct(spend(f"kept-{number}"))
    await roll_back(redis, await snapshot(redis))
    await admit(database, redis)
    assert await look(database, ledger.acknowledged) == []
    assert list(ledger.acknowledged.open()) != []
    await drain(database_url, redis_url, 0.3, keep=None)
    assert await look(database, ledger.acknowledged) == []
    assert list(ledger.acknowledged.open()) == []
    assert await rows(database) == []


async def test_a_number_that_never_reached_redis_has_lost_nothing(
    database, database_url, redis, redis_url, ledger
):
    """Two admit at once; calls go on under the lower number, and the higher one has to be given again."""
    await ledger.grant(Grant(account="ana", amount=100))
    shard = shard_of("ana", SHARDS)
    await replace_server(redis)
    second_is_given, first_is_served = asyncio.Event(), asyncio.Event()

    async def until_served(step: str) -> None:
        if step == "after commit":
            second_is_given.set()
            await first_is_served.wait()

    async def until_given(step: str) -> None:
        if step == "after commit":
            seconds.append(asyncio.create_task(admit(database, other, barrier=until_served)))
            await second_is_given.wait()

    seconds: list[asyncio.Task] = []
    async with connect(redis_url) as other:
        first = await admit(database, redis, barrier=until_given)
        reply = await Caller(redis, first).call([Deduct(shard=shard, account="ana", amount=1)])
        acknowledged = Acknowledged()
        acknowledged.keep(shard, reply.results[0].sequence, first.incarnations[shard], "kept")
        first_is_served.set()
        assert first.incarnations[shard] + 2 == (await seconds[0]).incarnations[shard]
    assert await look(database, acknowledged) == []
    await drain(database_url, redis_url, 0.3, keep=None)
    assert await look(database, acknowledged) == []
    assert list(acknowledged.open()) == []


@pytest.mark.parametrize("dies", ["before it is written", "before it is noted"])
async def test_a_number_whose_giver_died_counts_once_redis_has_it(database, redis, ledger, monkeypatch, dies):
    """Whoever looks next finds it there, or gives another one."""
    await ledger.grant(Grant(account="ana", amount=100))
    early = await snapshot(redis)
    await ledger.deduct(spend("lost"))
    await roll_back(redis, early)

    class Killed(Exception):
        """Here."""

    async def dying(*_: object) -> None:
        raise Killed

    where = "_tell" if dies == "before it is written" else "_put_in_force"
    with monkeypatch.context() as patch:
        patch.setattr(admission, where, dying)
        with pytest.raises(Killed):
            await admit(database, redis)
    assert await look(database, ledger.acknowledged) == []
    await admit(database, redis)
    (found,) = await look(database, ledger.acknowledged)
    assert [each.key for each in found.given] == ["lost"]


async def test_what_a_wrong_redis_lacks_is_not_lost(
    database, database_url, redis, redis_url, ledger, own_valkey
):
    """It got a number, and a fence with it; then the right one goes on."""
    await ledger.grant(Grant(account="ana", amount=100))
    await drain(database_url, redis_url, 0.3, keep=None)
    async with connect(own_valkey.url) as wrong:
        await put_back(wrong, await snapshot(redis))
        await wrong.hset(keys.meta(shard_of("ana", SHARDS)), "link", "another")
        await ledger.deduct(spend("kept"))
        assert shard_of("ana", SHARDS) in (await admit(database, wrong)).fences
        assert await look(database, ledger.acknowledged) == []
        assert (await unfence(database, redis, None, "the right one")).stays == {}
    assert await look(database, ledger.acknowledged) == []


async def test_a_replay_is_no_new_answer(ledger):
    await ledger.grant(Grant(account="ana", amount=100))
    await ledger.deduct(spend("once"))
    before = ledger.acknowledged.lost(0, 99, 0), [*ledger.acknowledged.open()]
    assert (await ledger.deduct(spend("once"))).replayed
    assert (ledger.acknowledged.lost(0, 99, 0), [*ledger.acknowledged.open()]) == before


async def test_nothing_is_forgotten_while_postgresql_is_away(own_postgres):
    acknowledged = Acknowledged()
    acknowledged.keep(0, 1, 1, None)
    async with await open_pool(own_postgres.url) as pool:
        own_postgres.kill()
        with pytest.raises(BackingUnavailable):
            await look(pool, acknowledged)
        assert list(acknowledged.open()) == [0]
        pool.terminate()


def test_it_is_bounded_and_names_the_last_ones():
    acknowledged = Acknowledged(each_max=3)
    for sequence in range(1, 6):
        acknowledged.keep(0, sequence, 1, None)
    lost = acknowledged.lost(0, 2, 0)
    assert [each.sequence for each in lost.given] == [3, 4, 5]
    assert acknowledged.lost(0, 1, 0) is None

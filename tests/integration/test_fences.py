"""Fences by the operator's word: who is refused, what is drained meanwhile, and what opens them again."""

import asyncio

import pytest
from click.testing import CliRunner
from msgspec import structs

from app.cli import cli
from app.ledger import keys
from app.ledger.admission import survey, write
from app.ledger.connection import connect
from app.ledger.errors import LedgerFenced
from app.ledger.operations import Grant
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import FenceRefused, fence, fences, unfence
from persistence.planned import draining
from persistence.pool import open_pool
from persistence.standings import read_standings
from tests.chaos.test_between_admission import ACCOUNTS, SHARDS, deduct
from tests.integration.books import assert_equal
from tests.integration.dying import Killed, dies_at
from tests.integration.ledgers import process, watching
from tests.integration.streams import put_back, replace_server, snapshot


@pytest.fixture
async def ledger(database, database_url, redis_url):
    """As a process has it, with 100 credits in every shard."""
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger, watching(database, ledger):
        for name in ACCOUNTS.values():
            await ledger.grant(Grant(account=name, amount=100))
        yield ledger


async def refuses(ledger, shard: int) -> str:
    with pytest.raises(LedgerFenced) as refusal:
        await deduct(ledger, shard)
    with pytest.raises(LedgerFenced):
        await ledger.balance(ACCOUNTS[shard])
    return str(refusal.value.facts["why"])


async def serves(ledger, shard: int) -> None:
    """Within a moment."""
    async with asyncio.timeout(5):
        while True:
            try:
                await deduct(ledger, shard)
            except LedgerFenced:
                await asyncio.sleep(0.01)
            else:
                return


async def test_a_fenced_shard_refuses_at_once_with_the_reason_and_the_others_go_on(database, redis, ledger):
    assert await fence(database, redis, [1], "a look at ana") == [1]
    assert "Fenced by the operator: a look at ana. `lastro unfence` opens" in await refuses(ledger, 1)
    await deduct(ledger, 0)
    (only,) = await fences(database)
    assert (only.shard, only.by) == (1, "operator")
    opening = await unfence(database, redis, [1], "looked")
    assert (opening.opened, opening.stays) == ([1], {})
    await serves(ledger, 1)
    assert await fences(database) == []


async def test_a_fence_reaches_processes_also_where_redis_is_away(database, database_url, own_valkey):
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with process(database, own_valkey.url) as ledger, watching(database, ledger):
        await ledger.grant(Grant(account=ACCOUNTS[0], amount=100))
        await fence(database, connect("redis://127.0.0.1:1"), None, "it burns")
        async with asyncio.timeout(5):
            while not ledger.terms.fences:  # noqa: ASYNC110 - what it polls is polled
                await asyncio.sleep(0.01)
        assert "it burns" in await refuses(ledger, 0)


async def test_the_first_reason_stays(database, redis, ledger):
    await fence(database, redis, [1], "first")
    assert await fence(database, redis, [1, 2], "second") == [2]
    assert "first" in await refuses(ledger, 1)
    assert "second" in await refuses(ledger, 2)


async def test_a_shard_that_does_not_exist_is_refused(database, redis, ledger):
    with pytest.raises(FenceRefused, match="There is no shard 9; this ledger has 0 to 3"):
        await fence(database, redis, [1, 9], "why")
    assert await fences(database) == []


async def test_what_an_operator_fenced_is_journaled_on(database, database_url, redis, redis_url, ledger):
    await fence(database, redis, None, "a move")
    drained = await drain(database_url, redis_url, 0.5, keep=None)
    assert (drained.rows, drained.condemned) == (SHARDS, [])
    assert await assert_equal(database, redis) == SHARDS


@pytest.mark.parametrize("by", ["admission", "journal", "restore", "reconciliation"])
async def test_what_anybody_else_fenced_is_not_journaled(
    database, database_url, redis, redis_url, ledger, by
):
    await fence(database, redis, [1], "a move")
    await database.execute("UPDATE shards SET fenced_by = $1 WHERE shard = 1", by)
    assert (await drain(database_url, redis_url, 0.5, keep=None)).rows == SHARDS - 1
    assert await database.fetchval("SELECT cursor FROM shards WHERE shard = 1") == 0


async def test_draining_says_what_is_left_until_nothing_is_and_redis_may_be_moved(
    database, database_url, redis, redis_url, ledger, own_valkey
):
    left = [each async for each in draining(database_url, redis_url, database, redis, "a move")]
    assert [each.entries for each in left] == [SHARDS, 0]
    assert await assert_equal(database, redis) == SHARDS
    async with connect(own_valkey.url) as moved:
        await put_back(moved, await snapshot(redis))
        opening = await unfence(database, moved, None, "moved")
        assert (opening.opened, opening.stays) == (list(range(SHARDS)), {})
        async with process(database, own_valkey.url) as new:
            assert await deduct(new, 0) == 99
            # The one that was moved away from is no longer served, though it has all the same data.
            assert "Another Redis has been admitted" in await refuses(ledger, 0)
            assert await deduct(new, 0) == 98
    assert await fences(database) == []


async def test_a_drain_that_meets_a_shard_fenced_for_another_reason_names_it_and_ends(
    database, database_url, redis, redis_url, ledger
):
    await database.execute(
        "UPDATE shards SET fence = 'a fork', fenced_at = now(), fenced_by = 'journal' WHERE shard = 1"
    )
    left = [each async for each in draining(database_url, redis_url, database, redis, "a move")]
    assert left[-1] == (0, {1: "a fork"})
    assert await database.fetchval("SELECT sum(cursor) FROM shards") == SHARDS - 1


async def test_a_fenced_shard_is_drained_through_a_restart_of_postgresql(
    own_postgres, redis, redis_url, caplog
):
    await give_birth(own_postgres.url, redis_url, SHARDS)
    database = await open_pool(own_postgres.url)
    async with process(database, redis_url) as ledger:
        for name in ACCOUNTS.values():
            await ledger.grant(Grant(account=name, amount=100))
        await fence(database, redis, None, "a move")
        own_postgres.kill()
        drained = asyncio.create_task(drain(own_postgres.url, redis_url, 2.0, keep=None))
        async with asyncio.timeout(5):
            while "the journal waits" not in caplog.text:  # noqa: ASYNC110 - it is said or not
                await asyncio.sleep(0.01)
        own_postgres.start()
        assert (await drained).failures > 0
        await database.expire_connections()
        left = [each async for each in draining(own_postgres.url, redis_url, database, redis, "a move")]
        assert left[-1] == (0, {})
        assert await assert_equal(database, redis) == SHARDS
    await database.close()


async def test_unfencing_leaves_open_shards_as_they_are(database, redis, ledger):
    before = await database.fetch("SELECT * FROM shards ORDER BY shard")
    opening = await unfence(database, redis, None, "nothing")
    assert (opening.opened, opening.stays) == ([], {})
    assert await database.fetch("SELECT * FROM shards ORDER BY shard") == before


DAMAGES = {
    "nothing is there": (lambda redis: redis.delete(keys.meta(1)), "Redis has nothing of shard 1"),
    "the stream is gone": (lambda redis: redis.delete(keys.journal(1)), "ends at nothing"),
    "a stranger's link": (lambda redis: redis.hset(keys.meta(1), "link", "x"), "different histories"),
    "half restored": (lambda redis: redis.hdel(keys.meta(1), "sequence"), "is not readable"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_what_cannot_be_served_stays_fenced_and_says_what_to_do(
    database, database_url, redis, redis_url, ledger, damage
):
    change, why = damage
    await drain(database_url, redis_url, 0.5, keep=None)
    await fence(database, redis, None, "a look")
    await change(redis)
    opening = await unfence(database, redis, None, "looked")
    assert (opening.opened, list(opening.stays)) == ([0, 2, 3], [1])
    assert why in opening.stays[1]
    assert "lastro restore" in opening.stays[1]
    assert [each.shard for each in await fences(database)] == [1]
    await serves(ledger, 0)
    await refuses(ledger, 1)


async def test_a_shard_in_the_middle_of_a_restore_is_not_opened_however_whole_it_looks(
    database, redis, ledger
):
    await fence(database, redis, [1], "a restore")
    await database.execute("UPDATE shards SET fenced_by = 'restore' WHERE shard = 1")
    opening = await unfence(database, redis, None, "it looks good")
    assert "A restore of shard 1 was begun: run `lastro restore`" in opening.stays[1]
    await refuses(ledger, 1)


@pytest.mark.parametrize("step", ["after lock", "after lifting", "after commit"])
async def test_an_unfence_cut_off_anywhere_opens_nothing_by_halves_and_is_finished_by_the_next(
    database, redis, ledger, step
):
    await fence(database, redis, [1], "a look")
    with pytest.raises(Killed):
        await unfence(database, redis, [1], "looked", barrier=dies_at(step))
    terms = await admit(database, redis)
    assert (1 in terms.fences) == (step == "after lock")
    await unfence(database, redis, [1], "looked")
    await serves(ledger, 1)
    assert await redis.hget(keys.meta(1), "fence") == b""


async def test_a_fence_cut_off_before_redis_has_it_is_finished_by_the_next_admission(database, redis, ledger):
    with pytest.raises(Killed):
        await fence(database, redis, [1], "a look", barrier=dies_at("after fence"))
    await admit(database, redis)
    assert b"a look" in await redis.hget(keys.meta(1), "fence")


async def test_fences_and_unfences_that_race_with_admissions_end_equal_in_both_stores(
    database, redis, redis_url, ledger
):
    async def admitting() -> None:
        async with connect(redis_url) as own:
            for _ in range(12):
                await replace_server(redis)
                await asyncio.gather(admit(database, own), return_exceptions=True)

    async def fencing(shard: int) -> None:
        async with connect(redis_url) as own:
            for _ in range(6):
                await fence(database, own, [shard], "a race")
                await asyncio.gather(unfence(database, own, [shard], "raced"), return_exceptions=True)

    await asyncio.gather(admitting(), fencing(1), fencing(1), fencing(2))
    terms = await admit(database, redis)
    for shard in range(SHARDS):
        in_redis = (await redis.hget(keys.meta(shard), "fence")).decode()
        assert bool(in_redis) == (shard in terms.fences)
    await unfence(database, redis, None, "over")
    for shard in range(SHARDS):
        await serves(ledger, shard)


async def test_a_fence_put_up_while_another_is_lifted_holds(database, redis, ledger):
    await fence(database, redis, [1], "first")

    async def barrier(step: str) -> None:
        if step == "after lifting":
            await fence(database, redis, [1], "second")

    opening = await unfence(database, redis, [1], "done", barrier=barrier)
    assert "second" in opening.stays[1]
    async with asyncio.timeout(5):
        while "second" not in await refuses(ledger, 1):  # noqa: ASYNC110 - the refusal is the event
            await asyncio.sleep(0.01)  # the process that watches may still have the first reason


async def test_only_the_fence_that_was_judged_is_lifted_in_redis(database, redis, ledger):
    """Another one has been put up between the judgement and its writing."""
    await fence(database, redis, [1], "first")
    seen = (await survey(redis, ledger.terms.ledger, await read_standings(database)))[1]
    standing = structs.replace((await read_standings(database))[1], incarnation=9, fence=None)
    await redis.hset(keys.meta(1), "fence", "second")
    assert not await write(redis, ledger.terms.ledger, standing, seen)
    assert await redis.hget(keys.meta(1), "fence") == b"second"
    await redis.hset(keys.meta(1), "fence", seen.fence)
    assert await write(redis, ledger.terms.ledger, standing, seen)
    assert await redis.hget(keys.meta(1), "fence") == b""


async def forked(redis, own_valkey):
    """A client of a server that has a copy of everything."""
    copy = connect(own_valkey.url)
    await put_back(copy, await snapshot(redis))
    return copy


async def test_the_old_side_of_a_split_neither_fences_nor_serves_the_right_one(
    database, database_url, redis, redis_url, ledger, own_valkey
):
    copy = await forked(redis, own_valkey)
    async with process(database, own_valkey.url) as new, watching(database, new):
        await deduct(new, 0)
        await asyncio.gather(*(deduct(ledger, shard) for shard in (0, 0, 1)), return_exceptions=True)
        await drain(database_url, own_valkey.url, 0.5, keep=None)
        assert "Another Redis has been admitted for shard 0" in await refuses(ledger, 0)
        for _ in range(3):  # it keeps asking
            terms = await admit(database, redis)
            assert sorted(terms.fences) == sorted(terms.refused) == list(range(SHARDS))
        assert await fences(database) == []
        assert await deduct(new, 0) == 98
    await copy.aclose()


async def test_after_an_unfence_the_wrong_side_stays_refused_even_restarted_and_the_right_one_is_served(
    database, database_url, redis, redis_url, ledger, own_valkey
):
    """The wrong side comes back as another server, with a history of its own."""
    copy = await forked(redis, own_valkey)
    async with process(database, own_valkey.url) as new, watching(database, new):
        await deduct(ledger, 0)
        await deduct(new, 0)
        await drain(database_url, own_valkey.url, 0.5, keep=None)
        await replace_server(redis)
        assert "different histories" in (await admit(database, redis)).fences[0]
        async with asyncio.timeout(5):  # it takes the right side along, until somebody has looked
            while 0 not in new.terms.fences:  # noqa: ASYNC110 - what it polls is polled
                await asyncio.sleep(0.01)
        assert (await unfence(database, copy, None, "this is the right one")).stays == {}
        for restart in (False, False, True):
            if restart:
                await replace_server(redis)
            terms = await admit(database, redis)
            assert 0 in terms.refused
            assert "LASTRO_REDIS_URL" in terms.fences[0]
        assert await fences(database) == []
        await serves(new, 0)
        await refuses(ledger, 0)
    await copy.aclose()


async def test_an_empty_redis_that_somebody_named_by_mistake_fences_once_and_never_again(
    database, database_url, redis, redis_url, ledger, own_valkey
):
    async with connect(own_valkey.url) as empty:
        assert len((await admit(database, empty)).fences) == SHARDS
        assert len(await fences(database)) == SHARDS
        assert (await unfence(database, redis, None, "that was the wrong address")).stays == {}
        terms = await admit(database, empty)
        assert sorted(terms.refused) == list(range(SHARDS))
        assert await fences(database) == []
        await serves(ledger, 0)


async def test_the_operator_may_go_back_to_the_old_side(database, redis, ledger, own_valkey):
    copy = await forked(redis, own_valkey)
    await admit(database, copy)
    assert "Another Redis" in (await unfence(database, redis, None, "back")).stays.get(0, "Another Redis")
    await fence(database, redis, None, "going back")
    assert (await unfence(database, redis, None, "back")).stays == {}
    await serves(ledger, 0)
    assert "Another Redis has been admitted" in (await admit(database, copy)).fences[0]
    await copy.aclose()


def test_the_commands_say_what_they_did(own_valkey, own_postgres):
    asyncio.run(give_birth(own_postgres.url, own_valkey.url, 2))
    environment = {"LASTRO_REDIS_URL": own_valkey.url, "LASTRO_DATABASE_URL": own_postgres.url}

    def lastro(*arguments: str, **more: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, arguments, env=environment, **more)
        return done.exit_code, done.output

    assert lastro("fence", "--shard", "1", "--reason", "a look", input="n\n")[0] == 2
    code, said = lastro("fence", "--shard", "1", "--reason", "a look", "--yes")
    assert (code, said) == (0, "shard 1 refuses; `lastro unfence` opens again\n")
    code, said = lastro("fence", "--reason", "more", "--yes")
    assert (code, said.splitlines()[0]) == (0, "shard 0 refuses; `lastro unfence` opens again")
    assert "shard 1 refused already, by operator: Fenced by the operator: a look." in said
    assert lastro("unfence", "--shard", "0", "--reason", "done", "--yes") == (0, "shard 0 is open: done\n")
    code, said = lastro("drain", "--yes")
    assert (code, "PostgreSQL has everything" in said) == (0, True)
    assert lastro("unfence", "--reason", "done", input="n\n")[0] == 2
    assert lastro("unfence", "--reason", "done", input="y\n")[1].endswith("shards 0, 1 are open: done\n")
    assert lastro("unfence", "--reason", "done", "--yes") == (0, "nothing was fenced\n")
    assert lastro("fence", "--shard", "7", "--reason", "a look", "--yes")[0] == 2

"""Fencing and opening, cut off anywhere, and at the same time as others."""

import asyncio

import pytest
from msgspec import structs

from app.ledger import keys
from app.ledger.admission import survey, write
from app.ledger.connection import connect
from persistence.admission import admit
from persistence.fences import fence, unfence
from persistence.standings import read_standings
from tests.integration.dying import Killed, dies_at
from tests.integration.fences.serving import refuses, serves
from tests.integration.ledgers import SHARDS
from tests.integration.streams import replace_server


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

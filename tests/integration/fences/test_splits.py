"""Two servers of one ledger: which one is served, by the operator's word."""

import asyncio

from app.ledger.connection import connect
from persistence.admission import admit
from persistence.drain import drain
from persistence.fences import fence, fences, unfence
from tests.integration.fences.serving import refuses, serves
from tests.integration.ledgers import SHARDS, deduct, process, watching
from tests.integration.streams import put_back, replace_server, snapshot


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

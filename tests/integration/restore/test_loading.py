"""A shard is loaded by whoever has closed it, or not at all."""

import pytest

from app.ledger import keys
from app.ledger.admission import survey
from app.ledger.judgement import Standing
from app.ledger.loading import Binding, Closed, Moved, Page, bind, close, close_behind, load, unbind
from app.ledger.replies import Account, Lot
from tests.integration.streams import replace_server

LEDGER = "a-ledger"
ACCOUNT = Account(format=1, version=1, available=5, held=0, lots=[Lot("default", 100, 0, 5, 0, 1)])


@pytest.fixture
async def server(redis) -> str:
    return (await redis.info("replication"))["master_replid"]


@pytest.fixture
async def closed(redis, server) -> Closed:
    return await close(redis, Closed(LEDGER, 0, server, "7"), "it is being restored")


def page() -> Page:
    page = Page(0)
    page.account("ana", ACCOUNT)
    return page


async def test_a_page_is_written_into_a_closed_shard_and_again(redis, closed):
    await load(redis, closed, page())
    await load(redis, closed, page())
    assert await redis.get(keys.account(0, "ana"))


async def test_a_closed_shard_lets_nobody_in_and_cannot_be_opened_by_mistake(redis, closed):
    meta = await redis.hgetall(keys.meta(0))
    assert (meta[b"incarnation"], b"sequence" in meta) == (b"0", False)


@pytest.mark.parametrize(
    "changed",
    [{"ledger": "another"}, {"incarnation": "7"}, {"server": "another"}, {"sequence": "4"}],
    ids=lambda changed: next(iter(changed)),
)
async def test_nothing_is_written_into_a_shard_that_is_not_as_it_was_left(redis, closed, changed):
    await redis.hset(keys.meta(0), mapping=changed)
    with pytest.raises(Moved):
        await load(redis, closed, page())
    assert await redis.exists(keys.account(0, "ana")) == 0


async def test_nothing_is_written_into_a_shard_without_its_meta(redis, closed):
    await redis.delete(keys.meta(0))
    with pytest.raises(Moved):
        await load(redis, closed, page())
    assert await redis.exists(keys.account(0, "ana")) == 0


async def test_nothing_is_written_into_a_server_that_took_over(redis, closed):
    await replace_server(redis)
    with pytest.raises(Moved):
        await load(redis, closed, page())
    assert await redis.exists(keys.account(0, "ana")) == 0


async def test_what_follows_a_sequence_is_written_only_there(redis, closed):
    await load(redis, closed, page())
    filled = Page(0)
    filled.meta(sequence=3)
    await load(redis, closed, filled)
    with pytest.raises(Moved):
        await load(redis, closed, page(), sequence=2)
    await load(redis, closed, page(), sequence=3)


async def test_another_ledgers_shard_and_another_server_are_not_closed(redis, server):
    await redis.hset(keys.meta(0), mapping={"ledger": "another", "sequence": "4"})
    with pytest.raises(Moved):
        await close(redis, Closed(LEDGER, 0, server, "7"), "why")
    with pytest.raises(Moved):
        await close(redis, Closed("another", 0, "0" * 40, "7"), "why")
    assert await redis.hget(keys.meta(0), "sequence") == b"4"


async def test_a_shard_that_has_moved_since_it_was_seen_is_not_closed_for_rolling(redis, server):
    await redis.hset(
        keys.meta(0), mapping={"ledger": LEDGER, "sequence": "4", "link": "a", "incarnation": "3"}
    )
    (sighting,) = await survey(redis, LEDGER, [Standing(0, 9, "b", 3, None)])
    for moved in ({"sequence": "5", "link": "a"}, {"sequence": "4", "link": "b"}):
        await redis.hset(keys.meta(0), mapping=moved)
        with pytest.raises(Moved):
            await close_behind(redis, LEDGER, 0, sighting, 9)
        assert await redis.hget(keys.meta(0), "incarnation") == b"3"


async def test_a_task_that_was_bound_anew_is_neither_bound_back_nor_let_go(redis):
    name = keys.task(1, "fal", "t")
    await redis.set(name, "the-newer")
    await bind(redis, Binding(1, "fal", "t", "the-older", 2**45))
    await unbind(redis, 1, "fal", "t", "the-older")
    assert await redis.get(name) == b"the-newer"
    await unbind(redis, 1, "fal", "t", "the-newer")
    assert await redis.exists(name) == 0
    await bind(redis, Binding(1, "fal", "t", "the-older", 2**45))
    assert await redis.get(name) == b"the-older"
    assert await redis.pexpiretime(name) == 2**45

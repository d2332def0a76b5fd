"""How far the journal is behind each stream, as operators see it."""

import asyncio

import pytest

from app.embedded.ports import free_port
from app.journaling import ShardJournaled, Stream
from app.ledger.backing import BackingUnavailable
from app.ledger.connection import connect
from app.ledger.operations import Grant
from app.ledger.shards import shard_of
from persistence.drain import drain
from persistence.fences import fence
from persistence.journaling import StreamsAndJournal
from persistence.pool import open_pool
from persistence.verify import verify
from tests.integration.jobs.waiting import caught_up

SHARD = shard_of("alice", 4)


async def test_each_stream_is_held_against_the_journal_until_it_has_caught_up(ledger, database, redis, work):
    of = StreamsAndJournal(database, redis)
    before = await of.shards()
    assert [0, 1, 2, 3] == [each.shard for each in before]
    assert {(0, 0, 0.0)} == {(each.cursor, each.behind, each.lag_seconds) for each in before}

    for _ in range(3):
        await ledger.grant(Grant(account="alice", amount=1))
    await asyncio.sleep(0.05)  # time is what is measured
    behind = (await of.shards())[SHARD]
    assert (0, 3, None) == (behind.cursor, behind.behind, behind.journaled_at)
    assert behind.stream is not None
    assert (3, 3) == (behind.stream.sequence, behind.stream.kept)
    assert 0.05 <= (behind.lag_seconds or 0) < 10

    journaling = asyncio.create_task(drain(work.database_url, work.redis_url, 30, keep=None))
    await caught_up(database, {SHARD: 3})
    journaling.cancel()
    await asyncio.wait({journaling})
    after = (await of.shards())[SHARD]
    assert (3, 0, 0.0, 0, None) == (
        after.cursor, after.behind, after.lag_seconds, after.verified, after.verified_at,
    )  # fmt: skip
    assert after.journaled_at is not None
    async with database.acquire() as connection:
        await verify(connection)
    proved = (await of.shards())[SHARD]
    assert 3 == proved.verified
    assert proved.verified_at is not None


async def test_a_fence_is_shown_with_its_reason(ledger, database, redis):
    await fence(database, redis, [SHARD], "a disk is being changed")
    shards = await StreamsAndJournal(database, redis).shards()
    assert [SHARD] == [each.shard for each in shards if each.fence is not None]
    assert "a disk is being changed" in (shards[SHARD].fence or "")


async def test_what_redis_does_not_say_is_left_open_and_postgresql_has_to_answer(ledger, database):
    nobody = connect(f"redis://127.0.0.1:{free_port()}")
    shards = await StreamsAndJournal(database, nobody).shards()
    assert {(None, None, None)} == {(each.stream, each.behind, each.lag_seconds) for each in shards}
    async with await open_pool(f"postgresql://nobody@127.0.0.1:{free_port()}/lastro") as nowhere:
        with pytest.raises(BackingUnavailable):
            await StreamsAndJournal(nowhere, nobody).shards()
    await nobody.aclose()


def test_a_stream_that_was_read_later_than_its_cursor_is_never_behind_by_less_than_nothing():
    shard = ShardJournaled(0, 5, None, 0, None, None, Stream(4, 4, 1.0))
    assert (0, 0.0) == (shard.behind, shard.lag_seconds)

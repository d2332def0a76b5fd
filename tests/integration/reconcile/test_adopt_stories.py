"""Whatever happens to an account, and wherever the middle of it is lost: adopting leads both sides to the
same state, and so does a restore.
"""

import time

import pytest

from app.ledger import keys
from app.ledger.operations import Sweep
from app.ledger.replies import Applied
from persistence.admission import admit
from persistence.reconcile.adopt import adopt
from persistence.restore import restore
from persistence.verify import verify
from tests.integration.journal.workers import SHARDS, keep_journal
from tests.integration.reconcile.stories import CALLS, STORIES
from tests.integration.reconcile.telling import SHARD, Customer, Passes
from tests.integration.restore.looking import Looking
from tests.integration.restore.state import in_journal, in_redis
from tests.integration.streams import replace_server


class Telling:
    """All stories at once, call by call: each with an account of its own."""

    def __init__(self, caller, redis, now_ms, suffix) -> None:
        self._caller = caller
        self._redis = redis
        self._stories = {
            story.__name__: story(Customer(f"{story.__name__}-{suffix}", now_ms)) for story in STORIES
        }
        self._answers: dict[str, list[Applied] | None] = dict.fromkeys(self._stories)

    async def go_on(self) -> None:
        """By one call of each, of which nothing is refused."""
        for name, story in self._stories.items():
            asked = story.send(self._answers[name])
            if isinstance(asked, Passes):
                await let_pass(self._redis, asked.ms)
                answers = (await self._caller.call([Sweep(shard=SHARD)])).results
            else:
                answers = (await self._caller.call(asked)).results
                assert all(isinstance(each, Applied) and each.entry for each in answers), (name, answers)
            self._answers[name] = answers

    def end(self) -> None:
        for name, story in self._stories.items():
            with pytest.raises(StopIteration):
                story.send(self._answers[name])


async def clock_ms(redis) -> int:
    """Of the shard, which may be ahead of the server's."""
    seconds, microseconds = await redis.time()
    seen = int(await redis.hget(keys.meta(SHARD), "now_ms"))
    return max(seconds * 1000 + microseconds // 1000, seen)


async def let_pass(redis, ms) -> None:
    await redis.hset(keys.meta(SHARD), "now_ms", await clock_ms(redis) + ms)


@pytest.fixture
def tell(caller, redis, database, database_url, redis_url, worker):
    """Tells the stories, of which the calls after `journaled` and up to `lost` are lost, and adopts."""

    async def told(journaled, lost):
        caller.terms = await admit(database, redis)
        telling = Telling(caller, redis, await clock_ms(redis), f"{journaled}-{lost}")
        kept = 0
        for call in range(1, CALLS + 1):
            await telling.go_on()
            if call == journaled:
                await keep_journal(worker)
            if call == lost:
                kept = int(await redis.hget(keys.meta(SHARD), "sequence")) + 1
        telling.end()
        await redis.xtrim(keys.journal(SHARD), minid=f"{kept}-0", approximate=False)
        await replace_server(redis)
        assert [None] == [each.still for each in await adopt(database_url, redis_url, "ana")]
        await keep_journal(worker)

    return told


@pytest.fixture
def both_sides(redis, connection):
    """What Redis has, and what a restore would put there. But for keys and refunds of lost entries, which
    nobody can name any more.
    """

    async def of():
        now_ms = time.time_ns() // 1_000_000
        return [
            {
                name: value
                for name, value in state.values.items()
                if ":operation:" not in name and ":refunded:" not in name
            }
            for state in (await in_redis(redis, SHARDS), await in_journal(connection, SHARDS, now_ms))
        ]

    return of


@pytest.mark.parametrize("journaled", range(CALLS))
async def test_whatever_is_lost_of_a_story_is_what_redis_has_of_it(
    journaled, caller, redis, tell, reconcile, connection, both_sides, database_url, redis_url, tmp_path
):
    await caller.grant(SHARD)
    for lost in range(journaled + 1, CALLS + 1):
        await tell(journaled, lost)
    run = await reconcile()
    assert [] == [(each.account_id, each.field, each.redis, each.journal) for each in run.drift]
    assert "equal" == run.status
    assert [] == (await verify(connection, since=1)).findings
    before, expected = await both_sides()
    assert expected == before
    await redis.flushall()
    assert await restore(database_url, redis_url, salvage=tmp_path / "salvage", watch=Looking()) is not None
    after, _ = await both_sides()
    assert before == after

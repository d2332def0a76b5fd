"""The numbers stay right whatever becomes of Redis: lost and restored, put right, behind its own time."""

import asyncio
import random

from app.http.times import moment
from app.ledger import keys
from persistence.admission import admit
from persistence.monitoring.counting import count
from persistence.monitoring.following import Following
from tests.integration.books import Shop
from tests.integration.journal.conftest import caller, ledger, worker
from tests.integration.journal.workers import SHARDS, keep_journal
from tests.integration.monitoring.comparing import assert_all
from tests.integration.monitoring.tally import Tally
from tests.integration.monitoring.test_counting import assert_counted, stay
from tests.integration.monitoring.years import Years
from tests.integration.reconcile.conftest import connection, hands, kept, past, place, reconcile, repair
from tests.integration.reconcile.past import ANA, BOB
from tests.integration.restore.conftest import restored

__all__ = [
    "caller", "connection", "hands", "kept", "ledger", "past", "place", "reconcile", "repair", "restored",
    "worker",
]  # fmt: skip

CURSORS = "SELECT cursor FROM shards ORDER BY shard"
AS_OF = "SELECT as_of FROM usage_state"


async def test_what_was_counted_before_a_restore_and_what_comes_after_it_add_up(
    database, redis, caller, worker, restored
):
    shop, following = Shop(caller, SHARDS, seed=8), Following(database, redis)
    await stay(caller)
    await shop.trade(calls=40)
    await keep_journal(worker)
    async with database.acquire() as connection:
        await count(connection, entries_max=30)  # not all of it
    await shop.trade(calls=5)  # of which the journal has nothing
    await redis.flushall()
    await following.turn()
    assert await database.fetchval(AS_OF) is None, "Redis cannot tell"
    found = await restored()
    assert [] == found.drift
    await following.turn()
    was = await database.fetchval(AS_OF)
    assert was is not None
    await assert_counted(database)
    caller.terms = await admit(database, redis)
    await shop.trade(calls=30)
    await keep_journal(worker)
    await following.turn()
    assert was < await database.fetchval(AS_OF)
    tally = await assert_counted(database)
    assert 1 < len({line.entry.incarnation for line in tally.lines})


async def test_what_was_put_right_is_a_transaction_that_moves_nothing(
    database, redis, connection, past, reconcile, repair, caller
):
    while await count(connection):
        pass
    text = await redis.get(keys.reservation(0, past.open))
    await redis.set(keys.reservation(0, "stray"), text)
    await redis.zadd(keys.holds(0, ANA), {"stray": 5})
    await past.put_account(BOB, available=10**6)
    await repair(await reconcile(full=False))
    assert "equal" == (await reconcile()).status
    await Shop(caller, SHARDS, seed=9).trade(calls=10)
    await all_is_journaled(database, redis)
    while await count(connection):
        pass
    tally = await assert_counted(database)
    assert tally.kinds()["repaired"] == (2, 0)


async def all_is_journaled(database, redis) -> None:
    sequences = [int(await redis.hget(keys.meta(shard), "sequence")) for shard in range(SHARDS)]
    async with asyncio.timeout(20):
        while sequences != [row["cursor"] for row in await database.fetch(CURSORS)]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_time_that_a_new_redis_has_not_reached_yet_is_counted_as_entries_have_it(
    database, redis, timed, clock, journaled, count_all, monitoring, restored
):
    """The clock of the first one was years ahead; time never goes back in a shard."""
    began_ms = clock.now_ms
    years = Years(timed, clock, journaled, 3)
    await years.begin()
    await years.go_on(40)
    await years.end()
    await count_all()
    ahead_ms = clock.now_ms
    await redis.flushall()
    await restored()
    await clock.set(began_ms)
    await years.go_on(40)
    await years.end()
    await count_all(25)
    tally = await Tally.of(database)
    last = max(line.at for line in tally.lines)
    assert any(line.entry.incarnation > 1 for line in tally.lines)
    for shard in range(3):
        its = [line.at for line in tally.lines if line.shard == shard]
        assert sorted(its) == its
    clock.now_ms = max(ahead_ms, int(last.timestamp() * 1000) + 1)
    await assert_all(tally, monitoring, random.Random(3), moment(clock.now_ms))

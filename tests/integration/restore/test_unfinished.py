"""Restores that are refused, killed, or find something wrong: nothing is served by halves."""

import pytest

from app.ledger import keys
from persistence.admission import admit
from persistence.fences import unfence
from persistence.restore import RestoreRefused, restore
from tests.integration.dying import Killed, dies_at
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.looking import STEPS, Looking
from tests.integration.restore.state import assert_same, in_redis, spoil
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import roll_back, snapshot


@pytest.mark.parametrize("step", STEPS)
async def test_a_restore_that_was_killed_after_any_step_is_begun_again(
    caller, database, database_url, redis, redis_url, restored, step
):
    await Traffic(caller, SHARDS, seed=3).run(30)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    with pytest.raises(Killed):
        await restored(barrier=dies_at(step))
    terms = await admit(database, redis)
    assert terms.fences.keys() == set(range(SHARDS))
    assert all(new > old for new, old in zip(terms.incarnations, caller.terms.incarnations, strict=True))
    opening = await unfence(database, redis, None, "somebody is in a hurry")
    assert (opening.opened, opening.stays.keys()) == ([], set(range(SHARDS)))
    found = await restored()
    assert (found.drift, found.fences) == ([], {})
    assert_same(before, await in_redis(redis, SHARDS))
    assert (await admit(database, redis)).fences == {}


async def test_a_restore_that_was_killed_between_two_pages_is_begun_again(
    caller, database, database_url, redis, redis_url, restored, monkeypatch
):
    await Traffic(caller, SHARDS, seed=5).run(30)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    pages = 0

    def dies(_watch: Looking, _by: int) -> None:
        nonlocal pages
        pages += 1
        if pages == 3 * SHARDS + 2:  # proved, drained and salvaged are counted, too
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Looking, "advance", dies)
        with pytest.raises(Killed):
            await restored()
    assert 0 < len(await redis.keys("lastro:*:account:*")) < len(before.values)
    assert (await restored()).fences == {}
    assert_same(before, await in_redis(redis, SHARDS))


async def test_a_healthy_ledger_is_refused(caller, restored):
    with pytest.raises(RestoreRefused, match="healthy"):
        await restored()


async def test_who_looks_on_may_say_no_and_nothing_is_done(caller, database_url, redis, redis_url, tmp_path):
    await redis.hset(keys.meta(0), "fence", "look at this")
    before = await redis.dump(keys.meta(1))
    assert await restore(database_url, redis_url, salvage=tmp_path / "x", watch=Looking(agrees=False)) is None
    assert await redis.dump(keys.meta(1)) == before


async def test_two_restores_at_once_are_one_too_many(caller, redis, restored):
    await redis.hset(keys.meta(0), "fence", "look at this")

    async def second(step: str) -> None:
        if step == "after drain":
            with pytest.raises(RestoreRefused, match="Another restore"):
                await restored()

    assert (await restored(barrier=second)).fences == {}


async def test_what_only_redis_has_because_postgresql_lost_it_is_not_given_up(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=6)
    await redis.xtrim(keys.journal(0), minid="4-0", approximate=False)
    await redis.hset(keys.meta(0), "fence", "look at this")
    before = await redis.dump(keys.account(0, "ana0"))
    with pytest.raises(RestoreRefused, match="--adopt"):
        await restored()
    assert await redis.dump(keys.account(0, "ana0")) == before


@pytest.mark.parametrize("moment", ["after load", "after comparison"])
async def test_a_server_that_is_replaced_before_it_is_opened_stays_closed(
    caller, database, database_url, redis, redis_url, restored, moment
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.flushall()
    copy = {}

    async def replaced(step: str) -> None:
        if step == "after removal":
            copy.update(await snapshot(redis))
        if step == moment:
            await roll_back(redis, copy)

    with pytest.raises(RestoreRefused, match="again"):
        await restored(barrier=replaced)
    assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))
    assert (await restored()).fences == {}


async def test_something_that_is_loaded_wrongly_is_found_and_not_opened(
    caller, database, database_url, redis, redis_url, restored
):
    await caller.grant(0, calls=3)
    await journal_all(database_url, redis_url)
    await redis.flushall()

    async def spoilt(step: str) -> None:
        if step == "after load":
            await spoil(redis, keys.account(0, "ana0"))

    found = await restored(barrier=spoilt)
    assert [each.account_id for each in found.drift] == ["ana0"]
    assert (await admit(database, redis)).fences.keys() == set(range(SHARDS))

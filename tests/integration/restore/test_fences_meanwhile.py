"""Fences that are put up while a restore is at work, and the backlog of shards that are not restored."""

import pytest

from app.ledger import keys
from persistence import journal
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import fence, unfence
from persistence.restore import RestoreRefused, draining, restore
from tests.integration.restore.looking import Looking
from tests.integration.streams import Caller, forge

SHARDS = 2


class Killed(Exception):
    """The restore died here."""


@pytest.fixture
async def served(database, database_url, redis_url, redis) -> Caller:
    await give_birth(database_url, redis_url, SHARDS)
    return Caller(redis, await admit(database, redis))


@pytest.fixture
def begun(database_url, redis_url, tmp_path):
    """Restores, with whoever looks on."""
    looking = Looking()

    async def run(**options):
        path = tmp_path / "salvaged"
        return await restore(database_url, redis_url, salvage=path, watch=looking, **options), looking

    return run


async def fenced_by(database, shard: int) -> str | None:
    return await database.fetchval("SELECT fenced_by FROM shards WHERE shard = $1", shard)


async def test_what_the_journal_condemns_meanwhile_stays_the_restores(
    served, database, redis, begun, monkeypatch
):
    """Killed before Redis has the sentence: nobody opens a shard that is half restored."""
    await served.grant(0, calls=4)
    await forge(redis, 0, available=1)
    await redis.hset(keys.meta(0), "fence", "look at this")

    async def dies(*_args: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(journal, "fence", dies)
        with pytest.raises(Killed):
            await begun()
    assert await fenced_by(database, 0) == "restore"
    opening = await unfence(database, redis, None, "somebody is in a hurry")
    assert opening.opened == []
    assert "run `lastro restore`" in opening.stays[0]
    found, _ = await begun()
    assert (found.fences, found.shards[0].salvaged, "Entry 5" in found.shards[0].why) == ({}, 1, True)


@pytest.mark.parametrize("dies_once", [False, True])
async def test_a_shard_that_the_operator_fences_meanwhile_does_not_open_at_the_end(
    served, database, database_url, redis_url, redis, begun, dies_once
):
    await served.grant(0, calls=3)
    await drain(database_url, redis_url, 0.2, keep=None)
    await redis.flushall()

    async def operator(step: str) -> None:
        if step == "after load":
            assert await fence(database, redis, [0], "a look at ana") == []
            if dies_once:
                raise Killed

    if dies_once:
        with pytest.raises(Killed):
            await begun(barrier=operator)
        found, _ = await begun()
    else:
        found, _ = await begun(barrier=operator)
    assert (found.fences, found.left) == ({}, [0])
    fences = (await admit(database, redis)).fences
    assert fences.keys() == {0}
    assert fences[0].startswith("Fenced by the operator: a look at ana.")
    assert (await unfence(database, redis, [0], "seen")).opened == [0]


async def test_a_backlog_of_another_shard_is_journaled_to_its_end(
    served, database, redis, begun, monkeypatch
):
    """However many batches that takes."""
    await served.grant(1, calls=12)
    await redis.hset(keys.meta(0), "fence", "look at this")
    monkeypatch.setattr(draining, "MOVED_MAX", 3)
    one_by_one(monkeypatch)
    found, looking = await begun()
    assert found.fences == {}
    assert "others" in looking.steps
    assert await database.fetchval("SELECT cursor FROM shards WHERE shard = 1") == 12


def one_by_one(monkeypatch) -> None:
    made = journal.Journal.__init__

    def small(self, *args, **options) -> None:
        made(self, *args, **options | {"entries_max": 1})

    monkeypatch.setattr(journal.Journal, "__init__", small)


async def test_a_backlog_that_does_not_get_on_is_told(served, redis, begun, monkeypatch):
    await served.grant(1, calls=2)
    await redis.hset(keys.meta(0), "fence", "look at this")
    monkeypatch.setattr(draining, "MOVED_MAX", 3)

    async def moved(_self, shard: int) -> journal.Batch:
        return journal.Batch(journal.Outcome.MOVED, 0, 0)

    async def only_others(step: str) -> None:
        if step == "after proof":
            own = journal.Journal.one_batch

            async def one_batch(self, shard: int) -> journal.Batch:
                return await (moved if shard == 1 else own)(self, shard)

            monkeypatch.setattr(journal.Journal, "one_batch", one_batch)

    with pytest.raises(RestoreRefused, match="Shard 1, which is not restored, has entries up to 2"):
        await begun(barrier=only_others)

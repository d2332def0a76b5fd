"""A backup is brought to where nothing is: what is in use stays as it was, what was never used makes room."""

import msgspec
import pytest

from app.ledger import keys
from app.ledger.errors import Unavailable
from app.ledger.operations import Grant
from persistence.admission import admit
from persistence.backup.drill import Willing, faults
from persistence.backup.importing import BEGUN, import_backup
from persistence.backup.manifest import BackupRefused
from persistence.birth import give_birth
from persistence.pool import open_pool
from persistence.restore import restore
from tests.integration.backup.books import SHARDS, said_by
from tests.integration.dying import Killed, dies_at
from tests.integration.ledgers import process
from tests.integration.streams import Caller

pytestmark = pytest.mark.usefixtures("small_pages")

STRANGERS = {
    "a ledger with entries": "moved",
    "a Redis of another ledger": "stranger",
    "a Redis in which something is": "something",
    "a Redis with credits that are not journaled yet": "unjournaled",
}


@pytest.mark.parametrize("who", STRANGERS.values(), ids=STRANGERS.keys())
async def test_a_ledger_in_use_is_refused_and_left_as_it_was(
    backup, second, second_url, redis, redis_url, connection, who
):
    if who == "stranger":
        await redis.hset(keys.LEDGER, "id", "another")
    elif who == "something":
        await redis.set(keys.account(1, "ana"), "{}")
    elif who == "unjournaled":
        await give_birth(second_url, redis_url, SHARDS)
        async with await open_pool(second_url, connections_max=2) as pool:
            await Caller(redis, await admit(pool, redis)).grant(1)
    target = connection if who == "moved" else second
    before = await said_by(target) if who in ("moved", "unjournaled") else None
    keys_before = await redis.dbsize()
    with pytest.raises(BackupRefused, match=r"is in use|holds a ledger that is not the one"):
        await import_backup(target, redis, backup)
    if before:
        assert await said_by(target) == before
    assert await redis.dbsize() == keys_before


@pytest.mark.parametrize("step", ["after fence", "after clearing", "after founding"])
async def test_a_ledger_that_was_founded_and_never_used_makes_room(
    connection, backup, second, second_url, redis, redis_url, step
):
    await give_birth(second_url, redis_url, SHARDS)
    async with await open_pool(second_url, connections_max=2) as pool:
        await admit(pool, redis)
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at(step))
    await import_backup(second, redis, backup)
    assert await said_by(second) == await said_by(connection)
    assert await redis.dbsize() == 0


async def test_a_ledger_that_was_founded_with_other_shards_stays(
    backup, second, second_url, redis, redis_url
):
    await give_birth(second_url, redis_url, 5)
    with pytest.raises(
        BackupRefused, match="The backup has 3 shards, and the ledger that was founded here has"
    ):
        await import_backup(second, redis, backup)
    assert await second.fetchval("SELECT count(*) FROM shards WHERE fence IS NULL") == 5


async def test_whoever_uses_a_ledger_at_the_last_moment_keeps_it(
    backup, second, second_url, redis, redis_url
):
    await give_birth(second_url, redis_url, SHARDS)
    async with await open_pool(second_url, connections_max=2) as pool:
        caller = Caller(redis, await admit(pool, redis))
        looks = 0

        class Late:
            """Redis, in which credits are granted right after it was looked at for the first time."""

            def __getattr__(self, name):
                return getattr(redis, name)

            async def scan(self, place, **options):
                nonlocal looks
                looks += place == 0
                return await redis.scan(place, **options)

            async def evalsha(self, *call):
                """The first fence that comes."""
                if await redis.hget(keys.meta(1), "sequence") == b"0":
                    await caller.grant(1)
                return await redis.evalsha(*call)

        with pytest.raises(BackupRefused, match="in use"):
            await import_backup(second, Late(), backup)
        reply = await caller.call([Grant(shard=1, account="ana1", amount=1)])
        assert reply.results[0].word == "ledger_fenced"
    assert looks == 2
    assert await redis.hget(keys.meta(1), "sequence") == b"1"


async def test_another_import_is_not_gone_on_with(connection, backup, second, redis, tmp_path):
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at("after page"))
    backup.manifest = msgspec.structs.replace(backup.manifest, ledger="0" * 8 + "-0000-0000-0000-" + "0" * 12)
    with pytest.raises(BackupRefused, match=r"An import of ledger .* was begun"):
        await import_backup(second, redis, backup)
    assert await second.fetchval("SELECT DISTINCT fence FROM shards") == BEGUN


async def test_a_process_that_runs_while_its_unused_ledger_makes_room_grants_nothing_in_the_new_one(
    connection, backup, second, second_url, redis, redis_url, tmp_path
):
    await give_birth(second_url, redis_url, SHARDS)
    grant = Grant(account="ana", amount=5)
    async with await open_pool(second_url) as pool, process(pool, redis_url, seconds=0.5) as ledger:

        async def meanwhile(step: str) -> None:
            with pytest.raises(Unavailable):
                await ledger.grant(grant)

        await import_backup(second, redis, backup, barrier=meanwhile)
        assert await said_by(second) == await said_by(connection)
        onlooker = Willing(lambda _count: None)
        restored = await restore(second_url, redis_url, salvage=tmp_path / "s", watch=onlooker)
        assert faults(restored) == []
        with pytest.raises(Unavailable):
            await ledger.grant(grant)
    assert await said_by(second) == await said_by(connection)
    sequences = [int(await redis.hget(keys.meta(shard), "sequence")) for shard in range(SHARDS)]
    assert sequences == [each.cursor for each in backup.manifest.shards]

"""What an import makes is the ledger that was exported, however often it is killed."""

import msgspec
import pytest

from app.ledger.entries import seal
from app.ledger.operations import Grant
from persistence.admission import admit
from persistence.backup.drill import Willing, faults
from persistence.backup.export import export
from persistence.backup.folder import export_folder
from persistence.backup.importing import DONE, import_backup
from persistence.backup.manifest import BackupRefused
from persistence.backup.reading import Backup
from persistence.birth import BirthRefused, give_birth
from persistence.drain import drain
from persistence.migrate import migrate
from persistence.pool import open_pool
from persistence.restore import restore
from persistence.verify import verify
from tests.integration.backup.books import SHARDS, said_by
from tests.integration.dying import Killed, dies_at
from tests.integration.streams import Caller

pytestmark = pytest.mark.usefixtures("small_pages")


@pytest.mark.parametrize("form", [export, export_folder])
async def test_an_imported_ledger_is_the_exported_one(connection, backup, second, redis, tmp_path, form):
    await form(connection, tmp_path / "b")
    again = Backup(tmp_path / "b")
    told = []
    again.check(told.append)
    await import_backup(second, redis, again, seen=told.append)
    assert await said_by(second) == await said_by(connection)
    assert sum(told) == 2 * again.manifest.entries
    verdict = await verify(second, since=1)
    assert (verdict.findings, verdict.erased) == (
        [],
        await connection.fetchval("SELECT count(*) FROM erasures"),
    )
    standings = await second.fetch("SELECT fence, fenced_by, incarnation FROM shards")
    assert {(row["fence"], row["fenced_by"]) for row in standings} == {(DONE, "restore")}
    assert min(row["incarnation"] for row in standings) > 1_000_000
    assert await redis.dbsize() == 0


STEPS = [("after founding", 1), ("after page", 1), ("after page", 4), ("before birth", 1)]


@pytest.mark.parametrize(("step", "time"), STEPS)
async def test_an_import_that_was_killed_is_begun_again(
    connection, backup, second, second_url, redis, redis_url, step, time
):
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at(step, time))
    assert await second.fetchval("SELECT born FROM ledger") is False
    with pytest.raises(BirthRefused, match="was begun and not finished"):
        await give_birth(second_url, redis_url, SHARDS)
    await import_backup(second, redis, backup)
    assert await said_by(second) == await said_by(connection)


async def test_an_import_that_is_done_changes_nothing_when_it_is_repeated(backup, second, redis):
    await import_backup(second, redis, backup)
    before = await said_by(second)
    await import_backup(second, redis, backup)
    assert await said_by(second) == before


@pytest.mark.parametrize("step", ["after claim", "after removal", "after load", "after comparison"])
async def test_an_import_killed_while_redis_is_loaded_goes_on_with_that(
    connection, backup, second, second_url, redis, redis_url, tmp_path, step
):
    onlooker = Willing(lambda _count: None)
    await import_backup(second, redis, backup)
    with pytest.raises(Killed):
        await restore(second_url, redis_url, salvage=tmp_path / "s", watch=onlooker, barrier=dies_at(step))
    await import_backup(second, redis, backup)
    restored = await restore(second_url, redis_url, salvage=tmp_path / "s", watch=onlooker)
    assert faults(restored) == []
    assert await said_by(second) == await said_by(connection)
    with pytest.raises(BackupRefused, match="in use"):
        await import_backup(second, redis, backup)


async def test_a_later_backup_may_go_on_with_an_import_an_earlier_one_may_not(
    connection, backup, second, redis, tmp_path
):
    shorter = Backup(tmp_path / "a.gz")
    shards = [msgspec.structs.replace(each, cursor=3) for each in backup.manifest.shards]
    shorter.manifest = msgspec.structs.replace(backup.manifest, shards=shards)
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at("before birth"))
    with pytest.raises(BackupRefused, match="was of a later backup"):
        await import_backup(second, redis, shorter)


async def test_an_empty_ledger_can_be_backed_up_and_brought_back(
    second, second_url, redis, redis_url, empty_database_url, tmp_path
):
    ledger = await give_birth(second_url, redis_url, SHARDS)
    await export(second, tmp_path / "a.gz")
    await migrate(empty_database_url)
    await redis.flushall()
    async with await open_pool(empty_database_url) as pool, pool.acquire() as connection:
        await import_backup(connection, redis, Backup(tmp_path / "a.gz"))
        assert await connection.fetchval("SELECT id FROM ledger WHERE born") == ledger


async def test_what_is_at_its_limits_comes_back_exactly(
    second, second_url, redis, redis_url, empty_database_url, tmp_path
):
    """One shard; the largest balance, as many lots as there may be, and text that JSON has to escape."""
    await give_birth(second_url, redis_url, 1)
    noted = seal(reason='\u2028\U0001f600 \\ " \x00 \x7f \ud7ff \'; DROP TABLE notes; -- {"shard":0')
    lots = [Grant(shard=0, account="eve", amount=1, bucket=f"b{each}", open=True) for each in range(64)]
    grants = [
        Grant(shard=0, account="ana", amount=2**53 - 1, open=True, notes=noted.text, notes_hash=noted.hash),
        *lots,
        Grant(shard=0, account="eve", amount=1, bucket="one too many"),
    ]
    async with await open_pool(second_url, connections_max=2) as pool:
        reply = await Caller(redis, await admit(pool, redis)).call(grants)
    assert [type(each).__name__ for each in reply.results] == ["Applied"] * 65 + ["Declined"]
    while await second.fetchval("SELECT cursor FROM shards") < 65:
        await drain(second_url, redis_url, 0.15, keep=None)
    await export(second, tmp_path / "a.gz")
    await redis.flushall()
    await migrate(empty_database_url)
    async with await open_pool(empty_database_url) as pool, pool.acquire() as connection:
        await import_backup(connection, redis, Backup(tmp_path / "a.gz"))
        assert await said_by(connection) == await said_by(second)
    onlooker = Willing(lambda _count: None)
    restored = await restore(empty_database_url, redis_url, salvage=tmp_path / "s", watch=onlooker)
    assert faults(restored) == []

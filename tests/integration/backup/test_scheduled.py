"""Backups take themselves: one at a time, gone on with by whoever comes next, and the oldest go."""

import asyncio

import asyncpg
import pytest

from persistence import jobs
from persistence.backup.reading import Backup
from persistence.backup.scheduled import Plan, backup_slice
from persistence.told import Work
from persistence.workbench import Workbench
from tests.integration.backup.books import tamper
from tests.integration.dying import Killed, dies_at

pytestmark = pytest.mark.usefixtures("small_pages")


@pytest.fixture
async def connection(past_url):
    """Of the database that backups are taken of."""
    connection = await asyncpg.connect(past_url)
    yield connection
    await connection.close()


@pytest.fixture
def plan(tmp_path) -> Plan:
    return Plan(tmp_path / "backups", keep=2, interval_seconds=3600)


BACKUPS = "SELECT finished_at IS NOT NULL, removed_at IS NOT NULL, entries, error FROM backups ORDER BY id"


async def recorded(connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await connection.fetch(BACKUPS)]


async def take(past_url, plan, seconds: float = 0.0, **options) -> int:
    """Slices until nothing is left to do; how many there were."""
    count = 0
    while await backup_slice(past_url, plan, seconds, **options):
        count += 1
    return count


async def test_a_backup_that_is_due_is_taken_in_slices_and_recorded(connection, past_url, plan):
    assert await take(past_url, plan) > 3
    rows = await connection.fetchval("SELECT count(*) FROM journal")
    assert await recorded(connection) == [(True, False, rows, None)]
    (file,) = plan.folder.iterdir()
    Backup(file).check()
    assert await take(past_url, plan) == 0


async def test_only_so_many_stay_and_strange_files_do(connection, past_url, plan):
    plan.folder.mkdir()
    (plan.folder / "lastro-00000000-20200101T000000Z.jsonl.gz").write_text("not one that is recorded")
    for _ in range(4):
        await take(past_url, plan, 60.0)
        await connection.execute("UPDATE backups SET started_at = started_at - interval '2 hours'")
    assert [row[1] for row in await recorded(connection)] == [True, True, False, False]
    assert len(list(plan.folder.iterdir())) == 3


STEPS = ["recorded", "begun", "after page", "before end", "taken", "finished", "removed"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_backup_whose_worker_died_is_finished_by_another(connection, past_url, plan, step):
    for _ in range(3):
        await take(past_url, plan, 60.0)
        await connection.execute("UPDATE backups SET started_at = started_at - interval '2 hours'")
    with pytest.raises(Killed):
        await take(past_url, plan, barrier=dies_at(step))
    await take(past_url, plan)
    found = await recorded(connection)
    assert len(found) == 4
    assert [row[0] for row in found] == [True] * 4
    if step != "finished":  # then the old ones go with the next one
        assert len(list(plan.folder.iterdir())) == 2
    for file in plan.folder.iterdir():
        Backup(file).check()


async def test_two_workers_at_once_take_one_backup(connection, past_url, plan):
    answers = await asyncio.gather(*(backup_slice(past_url, plan, 60.0) for _ in range(4)))
    assert answers.count(True) == 1
    assert len(await recorded(connection)) == 1


async def test_a_backup_that_fails_is_recorded_said_and_tried_again_later(
    connection, past_url, plan, caplog, tmp_path
):
    await tamper(connection, "UPDATE journal SET entry = entry || ' ' WHERE shard = 1 AND seq = 50")
    await take(past_url, plan)
    ((finished, _, entries, error),) = await recorded(connection)
    assert (finished, entries) == (True, None)
    assert error.startswith("The journal of shard 1 is not as it was written")
    assert "has failed" in caplog.text
    assert list(plan.folder.iterdir()) == []
    assert await take(past_url, plan) == 0
    await tamper(connection, "UPDATE journal SET entry = rtrim(entry) WHERE shard = 1 AND seq = 50")
    await connection.execute("UPDATE backups SET finished_at = finished_at - interval '11 minutes'")
    await take(past_url, plan)
    assert [row[3] is None for row in await recorded(connection)] == [False, True]


async def test_a_folder_that_cannot_be_made_is_a_failure(connection, past_url, tmp_path):
    (tmp_path / "file").write_text("")
    await take(past_url, Plan(tmp_path / "file" / "backups", 2, 3600))
    ((_, _, _, error),) = await recorded(connection)
    assert "Not a directory" in error


async def test_a_backup_that_the_disk_lost_before_it_was_recorded_does_not_keep_others_from_being_taken(
    connection, past_url, plan
):
    with pytest.raises(Killed):
        await take(past_url, plan, barrier=dies_at("taken"))
    (file,) = plan.folder.iterdir()
    file.write_bytes(b"")
    await take(past_url, plan)
    await connection.execute("UPDATE backups SET finished_at = finished_at - interval '11 minutes'")
    await take(past_url, plan)
    first, second = await recorded(connection)
    assert "is not a backup of Lastro" in first[3]
    assert (second[0], second[3]) == (True, None)


async def test_a_backup_of_another_workers_folder_is_waited_for_and_then_given_up(
    connection, past_url, plan, tmp_path
):
    await backup_slice(past_url, Plan(tmp_path / "other", 2, 3600), 0.0)
    assert await take(past_url, plan) == 0
    await connection.execute("UPDATE backups SET started_at = started_at - interval '2 hours'")
    await take(past_url, plan)
    await connection.execute("UPDATE backups SET finished_at = finished_at - interval '11 minutes'")
    await take(past_url, plan)
    found = await recorded(connection)
    assert [row[3] for row in found] == ["no worker with this folder has finished it", None]


async def test_nothing_is_taken_before_there_is_a_ledger(second, second_url, plan):
    assert await backup_slice(second_url, plan, 1.0) is False
    assert await recorded(second) == []


def test_the_job_takes_the_backup_where_there_is_a_folder(past_url, redis_url, plan):
    for backups, done in ((None, False), (plan, True)):
        work = Work(redis_url=redis_url, queue_url=redis_url, database_url=past_url, backups=backups)
        bench = Workbench(work)
        bench.open()
        jobs.bench.set(bench)
        try:
            assert jobs.backup() is done
        finally:
            bench.close()
    assert len(list(plan.folder.iterdir())) == 1

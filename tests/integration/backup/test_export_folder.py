"""A folder has a file for each day; those of days that are over are kept as they are."""

import msgspec
import pytest

from persistence.backup import snapshot
from persistence.backup.folder import export_folder
from persistence.backup.manifest import BackupRefused
from persistence.backup.reading import Backup
from tests.integration.backup.books import erase_one, rows_in, rows_of, tamper
from tests.integration.dying import Killed, dies_at

pytestmark = pytest.mark.usefixtures("small_pages")

SPREAD = """
UPDATE journal SET at = now() - interval '1 day' * (3 - least(3, seq / 20))
"""


async def _spread_over_days(connection) -> None:
    """The rows' times alone, which an export only sorts by: days ago, the last of today."""
    await tamper(connection, SPREAD)


async def test_a_folder_has_a_file_a_day_and_all_rows(connection, tmp_path):
    await _spread_over_days(connection)
    manifest = await export_folder(connection, tmp_path / "f")
    assert [each.closed for each in manifest.files] == [True, True, True, False]
    assert sorted(rows_in(tmp_path / "f")) == await rows_of(connection)
    names = {each.name for each in (tmp_path / "f").iterdir()}
    assert names == {"manifest.json", *(each.name for each in manifest.files)}


async def test_days_that_are_over_are_not_written_again(connection, tmp_path):
    await _spread_over_days(connection)
    first = await export_folder(connection, tmp_path / "f")
    second = await export_folder(connection, tmp_path / "f")
    assert first.files[:3] == second.files[:3]
    assert first.files[3].written_at < second.files[3].written_at
    assert sorted(rows_in(tmp_path / "f")) == await rows_of(connection)


@pytest.mark.parametrize(("step", "time"), [("after file", 1), ("after file", 3), ("before last", 1)])
async def test_a_folder_that_was_cut_off_goes_on_with_the_next_file(connection, tmp_path, step, time):
    await _spread_over_days(connection)
    folder = tmp_path / "f"
    with pytest.raises(Killed):
        await export_folder(connection, folder, barrier=dies_at(step, time))
    with pytest.raises(BackupRefused, match="export was not finished"):
        Backup(folder)
    finished = {each.name: each.stat().st_mtime_ns for each in folder.glob("*.gz")}
    manifest = await export_folder(connection, folder)
    closed = {each.name for each in manifest.files if each.closed}
    for name in closed & finished.keys():
        assert finished[name] == (folder / name).stat().st_mtime_ns
    assert len(closed & finished.keys()) == min(3, time if step == "after file" else 3)
    assert sorted(rows_in(folder)) == await rows_of(connection)


async def test_an_export_that_is_killed_leaves_the_backup_of_before(connection, tmp_path):
    await _spread_over_days(connection)
    folder = tmp_path / "f"
    await export_folder(connection, folder)
    with pytest.raises(Killed):
        await export_folder(connection, folder, barrier=dies_at("before last"))
    assert sorted(rows_in(folder)) == await rows_of(connection)


async def test_a_day_with_notes_that_were_erased_since_is_written_again(connection, tmp_path):
    await _spread_over_days(connection)
    first = await export_folder(connection, tmp_path / "f")
    await erase_one(connection)
    second = await export_folder(connection, tmp_path / "f")
    assert [a == b for a, b in zip(first.files, second.files, strict=True)][:3] == [False, True, True]
    assert sorted(rows_in(tmp_path / "f")) == await rows_of(connection)


async def test_a_row_that_came_after_its_day_was_closed_stands_in_the_next_file(connection, tmp_path):
    await _spread_over_days(connection)
    manifest = await export_folder(connection, tmp_path / "f")
    await tamper(
        connection, "UPDATE journal SET at = now() - interval '2 days' WHERE at > now() - interval '1 hour'"
    )
    again = await export_folder(connection, tmp_path / "f")
    assert again.files[:3] == manifest.files[:3]
    assert sorted(rows_in(tmp_path / "f")) == await rows_of(connection)


async def test_a_folder_with_something_else_or_of_another_ledger_is_left_alone(connection, second, tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "letters.txt").write_text("dear")
    with pytest.raises(BackupRefused, match="not empty and not a backup"):
        await export_folder(connection, tmp_path / "f")
    await export_folder(connection, tmp_path / "g")
    await connection.execute("UPDATE ledger SET id = gen_random_uuid()")
    with pytest.raises(BackupRefused, match="Name another folder"):
        await export_folder(connection, tmp_path / "g")
    with pytest.raises(BackupRefused, match="no ledger"):
        await export_folder(second, tmp_path / "h")


async def test_a_folder_does_not_go_on_with_a_journal_that_lost_rows(connection, tmp_path):
    await export_folder(connection, tmp_path / "f")
    await tamper(connection, "UPDATE journal SET hash = sha256('x') WHERE seq = 30")
    manifest = Backup(tmp_path / "f").manifest
    changed = msgspec.structs.replace(manifest.shards[0], cursor=30)
    assert not await snapshot.still_there(
        connection, msgspec.structs.replace(manifest, shards=[changed, *manifest.shards[1:]])
    )
    await tamper(connection, "DELETE FROM journal WHERE shard = 0 AND seq > 30")
    with pytest.raises(BackupRefused, match="PostgreSQL has lost rows since"):
        await export_folder(connection, tmp_path / "f")

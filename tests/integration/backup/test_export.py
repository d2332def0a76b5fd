"""A backup is the journal of one moment, whatever is written or erased meanwhile."""

import asyncio
import gzip
import json
import os
from pathlib import Path

import pytest

from persistence.backup.export import FileExport, export
from persistence.backup.folder import export_folder
from persistence.backup.manifest import BackupRefused
from persistence.backup.reading import Backup
from tests.integration.backup.books import erase_one, rows_in, rows_of, tamper

pytestmark = pytest.mark.usefixtures("small_pages")


async def test_a_backup_has_every_row_word_for_word(connection, tmp_path):
    told = []
    manifest = await export(connection, tmp_path / "a.gz", expect=told.append, seen=told.append)
    rows = await rows_of(connection)
    assert rows_in(tmp_path / "a.gz") == rows
    assert (manifest.entries, told[0], sum(told[1:])) == (len(rows),) * 3
    assert [each.name for each in tmp_path.iterdir()] == ["a.gz"]
    assert (tmp_path / "a.gz").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("form", [export, export_folder])
async def test_what_has_its_name_is_on_disk(connection, tmp_path, monkeypatch, form):
    synced, fsync, replace = set(), os.fsync, Path.replace
    named = []

    def noted(file: int) -> None:
        fsync(file)
        synced.add(os.fstat(file).st_ino)

    def seen(half: Path, whole: Path) -> None:
        if not whole.name.endswith(".part.json"):  # a note that is torn is not believed
            named.append(whole.name)
            assert half.stat().st_ino in synced
        synced.discard(tmp_path.stat().st_ino)
        replace(half, whole)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", seen)
    await form(connection, tmp_path / "a" if form is export else tmp_path)
    assert named[-1] == ("a" if form is export else "manifest.json")
    assert tmp_path.stat().st_ino in synced


async def test_a_backup_can_be_read_without_us(connection, tmp_path):
    await export(connection, tmp_path / "a.gz")
    lines = [json.loads(line) for line in gzip.decompress((tmp_path / "a.gz").read_bytes()).splitlines()]
    entries = [json.loads(line["entry"]) for line in lines if "entry" in line]
    assert lines[0]["lastro"] == "backup"
    assert sum(each["kind"] == "granted" for each in entries) > 10
    assert lines[-1]["entries"] == len(entries)


async def test_an_export_in_slices_is_the_same(connection, tmp_path):
    slices = 0
    while True:
        exporting = FileExport(connection, tmp_path / "a.gz")
        await exporting.begin()
        slices += 1
        try:
            if await exporting.advance(0.0):
                break
        finally:
            exporting.close()
    assert slices > 10
    assert rows_in(tmp_path / "a.gz") == await rows_of(connection)


@pytest.mark.parametrize("form", [export, export_folder])
async def test_a_backup_under_load_is_of_one_moment(
    database, living, journal_all, redis_url, database_url, tmp_path, form
):
    """Each page and each file is followed by more traffic, and the journal of it."""
    await living.run(20)
    await journal_all()
    moves = 0

    async def meanwhile(_step: str) -> None:
        nonlocal moves
        if moves < 4:
            moves += 1
            await living.run(5)
            await journal_all()

    async with database.acquire() as connection:
        before = await connection.fetchval("SELECT count(*) FROM journal")
        manifest = await form(connection, tmp_path / "backup", barrier=meanwhile)
        after = await rows_of(connection)
    found = rows_in(tmp_path / "backup")
    assert before == len(found) == manifest.entries < len(after)
    assert set(found) < set(after)


async def test_a_journal_that_is_not_as_it_was_written_is_not_backed_up(connection, tmp_path):
    await tamper(connection, "UPDATE journal SET entry = entry || ' ' WHERE shard = 1 AND seq = 5")
    with pytest.raises(BackupRefused, match="journal of shard 1 is not as it was written, at or before row"):
        await export(connection, tmp_path / "a.gz")
    with pytest.raises(BackupRefused, match="shard 1 is not as it was written"):
        await export_folder(connection, tmp_path / "folder")


async def test_a_journal_with_a_gap_is_not_backed_up(connection, tmp_path):
    await tamper(connection, "DELETE FROM journal WHERE shard = 2 AND seq = 5")
    with pytest.raises(BackupRefused, match="shard 2 is not as it was written, at or before row 5;"):
        await export(connection, tmp_path / "a.gz")


async def test_what_is_erased_while_an_export_runs_is_not_in_it(connection, tmp_path):
    erased = []

    async def meanwhile(step: str) -> None:
        if step == "after page" and not erased:
            await asyncio.sleep(0)
            erased.append(await erase_one(connection))

    await export(connection, tmp_path / "a.gz", barrier=meanwhile)
    assert rows_in(tmp_path / "a.gz") == await rows_of(connection)
    rows = [each.row for page in Backup(tmp_path / "a.gz").pages() for each in page]
    assert [(row.shard, row.seq, row.erased.reason) for row in rows if row.erased] == [
        (*erased[0], "asked to")
    ]

"""A backup is the journal of one moment, whatever is written meanwhile and however often it is killed."""

import asyncio
import errno
import gzip
import json
import os
from pathlib import Path

import msgspec
import pytest

from persistence.backup import snapshot
from persistence.backup.export import FileExport, export
from persistence.backup.folder import export_folder
from persistence.backup.manifest import BackupRefused
from persistence.backup.reading import Backup
from tests.integration.backup.books import tamper
from tests.integration.dying import Killed, dies_at

STEPS = [("begun", 1), ("after page", 1), ("after page", 3), ("before end", 1)]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    monkeypatch.setattr(snapshot, "PAGE_ROWS", 20)


def rows_in(path) -> list[tuple[int, int, str, str | None]]:
    found = [each.row for page in Backup(path).pages() for each in page]
    return [(row.shard, row.seq, row.entry, row.notes) for row in found]


ROWS = "SELECT shard, seq, entry, text FROM journal LEFT JOIN notes USING (shard, seq) ORDER BY shard, seq"


async def rows_of(connection) -> list[tuple[int, int, str, str | None]]:
    return [tuple(row) for row in await connection.fetch(ROWS)]


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


@pytest.mark.parametrize(("step", "time"), STEPS)
async def test_an_export_that_was_killed_goes_on_where_it_was(connection, tmp_path, step, time):
    path = tmp_path / "a.gz"
    with pytest.raises(Killed):
        await export(connection, path, barrier=dies_at(step, time))
    assert not path.exists()
    before = (tmp_path / "a.gz.part").read_bytes()
    again = []
    await export(connection, path, seen=again.append)
    assert path.read_bytes()[: len(before)] == before
    assert rows_in(path) == await rows_of(connection)
    assert sum(again) == len(await rows_of(connection))
    assert [each.name for each in tmp_path.iterdir()] == ["a.gz"]


async def test_what_was_half_written_when_the_machine_died_is_written_again(connection, tmp_path):
    path, part = tmp_path / "a.gz", tmp_path / "a.gz.part"
    with pytest.raises(Killed):
        await export(connection, path, barrier=dies_at("after page", 2))
    with part.open("ab") as file:
        file.write(b"half a page" * 10_000)
    await export(connection, path)
    assert rows_in(path) == await rows_of(connection)
    path.unlink()
    with pytest.raises(Killed):
        await export(connection, path, barrier=dies_at("after page", 2))
    part.write_bytes(part.read_bytes()[:-9])
    await export(connection, path)
    assert rows_in(path) == await rows_of(connection)


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


async def test_two_exports_into_one_file_do_not_meet(connection, tmp_path):
    first = FileExport(connection, tmp_path / "a.gz")
    await first.begin()
    second = FileExport(connection, tmp_path / "a.gz")
    with pytest.raises(BackupRefused, match="Another process is writing"):
        await second.begin()
    await first.advance()
    with pytest.raises(BackupRefused, match="is there already"):
        await second.begin()


async def test_an_export_does_not_take_away_the_file_that_another_has_just_finished(connection, tmp_path):
    """It has looked already, and comes to write when the other one has let go."""
    with pytest.raises(Killed):
        await export(connection, tmp_path / "a.gz", barrier=dies_at("after page", 2))
    first, second = FileExport(connection, tmp_path / "a.gz"), FileExport(connection, tmp_path / "a.gz")
    can_go_on = second._can_go_on

    async def meanwhile(state) -> bool:
        found = await can_go_on(state)
        await first.begin()
        await first.advance()
        return found

    second._can_go_on = meanwhile
    with pytest.raises(BackupRefused, match=r"Another process is writing|is there already"):
        await second.begin()
    second.discard()
    assert rows_in(tmp_path / "a.gz") == await rows_of(connection)


async def test_two_exports_into_one_folder_do_not_meet(connection, tmp_path):
    async def meanwhile(step: str) -> None:
        with pytest.raises(BackupRefused, match="Another process is writing into"):
            await export_folder(connection, tmp_path / "f")

    await export_folder(connection, tmp_path / "f", barrier=meanwhile)
    assert sorted(rows_in(tmp_path / "f")) == await rows_of(connection)
    await export_folder(connection, tmp_path / "f")


async def test_an_unfinished_file_of_somebody_elses_making_is_neither_followed_nor_left_open_to_all(
    connection, tmp_path
):
    part, letter = tmp_path / "a.gz.part", tmp_path / "letter"
    letter.write_text("dear")
    part.symlink_to(letter)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        await export(connection, tmp_path / "a.gz")
    assert letter.read_text() == "dear"
    part.unlink()
    part.touch(mode=0o666)
    part.chmod(0o666)
    await export(connection, tmp_path / "a.gz")
    assert (tmp_path / "a.gz").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("form", [export, export_folder])
async def test_a_backup_for_which_the_disk_is_too_small_goes_on_when_there_is_room(
    connection, tmp_path, monkeypatch, form
):
    """The kernel writes half of a page, and refuses the rest."""
    write, room = os.write, 6_000

    def on_a_small_disk(file: int, text) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= (fits := min(len(text), room))
        return write(file, text[:fits])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", on_a_small_disk)
        with pytest.raises(OSError, match="No space left"):
            await form(connection, tmp_path / "a.gz")
    await form(connection, tmp_path / "a.gz")
    assert sorted(rows_in(tmp_path / "a.gz")) == await rows_of(connection)


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


async def erase_one(connection) -> tuple[int, int]:
    shard, sequence = await connection.fetchrow("SELECT shard, seq FROM notes ORDER BY shard, seq LIMIT 1")
    await connection.execute("DELETE FROM notes WHERE shard = $1 AND seq = $2", shard, sequence)
    await connection.execute(
        "INSERT INTO erasures (shard, seq, by, reason) VALUES ($1, $2, 'x', 'asked to')", shard, sequence
    )
    return shard, sequence


@pytest.mark.parametrize("step", ["after page", "before end"])
async def test_what_is_erased_while_an_export_lies_unfinished_is_not_in_it(connection, tmp_path, step):
    path = tmp_path / "a.gz"
    with pytest.raises(Killed):
        await export(connection, path, barrier=dies_at(step))
    await erase_one(connection)
    await export(connection, path)
    assert rows_in(path) == await rows_of(connection)


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

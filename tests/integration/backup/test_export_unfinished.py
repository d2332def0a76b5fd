"""Exports that are killed, meet each other, or run out of disk."""

import errno
import os

import pytest

from persistence.backup.export import FileExport, export
from persistence.backup.folder import export_folder
from persistence.backup.manifest import BackupRefused
from tests.integration.backup.books import erase_one, rows_in, rows_of
from tests.integration.dying import Killed, dies_at

pytestmark = pytest.mark.usefixtures("small_pages")

STEPS = [("begun", 1), ("after page", 1), ("after page", 3), ("before end", 1)]


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


@pytest.mark.parametrize("step", ["after page", "before end"])
async def test_what_is_erased_while_an_export_lies_unfinished_is_not_in_it(connection, tmp_path, step):
    path = tmp_path / "a.gz"
    with pytest.raises(Killed):
        await export(connection, path, barrier=dies_at(step))
    await erase_one(connection)
    await export(connection, path)
    assert rows_in(path) == await rows_of(connection)

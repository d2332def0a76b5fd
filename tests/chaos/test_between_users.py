"""A data folder that somebody else has prepared, or may change, is not used."""

import os
from pathlib import Path

import pytest

from app.embedded import CannotStart
from app.settings import Settings, SettingsError
from app.up.data import DataFolder


def test_a_folder_that_anybody_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(CannotStart, match="anybody may write to it"):
        DataFolder(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_elses_is_refused_and_left_as_it_is(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(CannotStart, match="belongs to somebody else"):
        DataFolder(folder)
    assert list(folder.iterdir()) == []


def test_a_lock_that_is_a_link_does_not_overwrite_what_it_points_to(tmp_path: Path):
    precious = tmp_path / "precious"
    precious.write_text("words")
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "lock").symlink_to(precious)
    with pytest.raises(CannotStart):
        DataFolder(folder)
    assert precious.read_text() == "words"


def test_whatever_a_data_folder_holds_only_its_owner_can_read(tmp_path: Path):
    before = os.umask(0)
    try:
        folder = DataFolder(tmp_path / "data")
        folder.write_environment({"LASTRO_REDIS_URL": "redis://:secret@127.0.0.1/0"})
        for each in folder.path.rglob("*"):
            assert each.stat().st_mode & 0o077 == 0, each
        folder.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize("password", ["secret", "sec/ret", "sec@ret", "sec//ret@", "sec?ret#"])
def test_no_password_is_told_by_the_error_about_its_setting(password):
    wrong = {"LASTRO_REDIS_URL": f"http://:{password}@host/0", "LASTRO_DATABASE_URL": "postgresql://host/db"}
    with pytest.raises(SettingsError, match=r"http://\*\*\*@host/0") as told:
        Settings.read(wrong)
    assert "ret" not in str(told.value)

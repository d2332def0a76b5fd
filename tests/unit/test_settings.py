"""What can be set, and what is said when it is set wrongly."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, names, table

ROOT = Path(__file__).parents[2]
REQUIRED = {"LASTRO_REDIS_URL": "redis://one", "LASTRO_DATABASE_URL": "postgresql://two"}


def test_what_is_not_set_is_as_documented() -> None:
    settings = Settings.read(REQUIRED)
    assert settings == Settings(redis_url="redis://one", database_url="postgresql://two")
    assert (settings.shards, settings.host, settings.port) == (16, "127.0.0.1", 8000)
    assert (settings.backlog_max, settings.backlog_bytes_max) == (1_000_000, 268_435_456)
    assert (settings.stream_keep_seconds, settings.stream_keep_bytes) == (3600, 268_435_456)
    assert (settings.holds_max, settings.queue_max, settings.batch_max) == (10_000, 10_000, 256)
    assert (settings.request_seconds, settings.log_level, settings.ack) == (5.0, "info", "memory")


def test_the_queue_is_in_the_same_redis_unless_it_is_set() -> None:
    assert Settings.read(REQUIRED).queue_url == "redis://one"
    assert Settings.read(REQUIRED | {"LASTRO_QUEUE_URL": "rediss://q"}).queue_url == "rediss://q"


@pytest.mark.parametrize("url", ["redis+cluster://one", "rediss+cluster://me:hush@one:7000/0"])
def test_a_cluster_has_the_ledger_and_never_the_queues(url: str) -> None:
    on_a_cluster = REQUIRED | {"LASTRO_REDIS_URL": url}
    settings = Settings.read(on_a_cluster | {"LASTRO_QUEUE_URL": "redis://q"})
    assert (settings.redis_url, settings.queue_url) == (url, "redis://q")
    with pytest.raises(SettingsError, match=r"^LASTRO_QUEUE_URL is not set, .* need a Redis of") as raised:
        Settings.read(on_a_cluster)
    assert "hush" not in str(raised.value)
    with pytest.raises(
        SettingsError, match=r"^LASTRO_QUEUE_URL=rediss?\+cluster://.*should start with redis://"
    ):
        Settings.read(on_a_cluster | {"LASTRO_QUEUE_URL": url})


def test_a_cluster_has_only_database_0() -> None:
    with pytest.raises(SettingsError, match=r"^LASTRO_REDIS_URL=.*names database 3: .* only database 0"):
        Settings.read(
            REQUIRED | {"LASTRO_REDIS_URL": "redis+cluster://one/3", "LASTRO_QUEUE_URL": "redis://q"}
        )


def test_what_is_set_wins_and_other_variables_are_ignored() -> None:
    settings = Settings.read(REQUIRED | {"LASTRO_PORT": "9000", "LASTRO_LOG_LEVEL": "debug", "PORT": "1"})
    assert (settings.port, settings.log_level) == (9000, "debug")


def test_settings_travel_to_child_processes_unchanged() -> None:
    settings = Settings.read(REQUIRED | {"LASTRO_HOST": "10.0.0.1", "LASTRO_REQUEST_SECONDS": "2.5"})
    assert Settings.read(settings.environment()) == settings


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LASTRO_PROT", "9000", "LASTRO_PROT=9000 is not a setting of Lastro"),
        ("LASTRO_PORT", "high", "LASTRO_PORT=high: expected `int`, got `str`"),
        ("LASTRO_PORT", "65536", "LASTRO_PORT=65536: expected `int` <= 65535"),
        ("LASTRO_SHARDS", "0", "LASTRO_SHARDS=0: expected `int` >= 1"),
        ("LASTRO_LOG_LEVEL", "loud", "LASTRO_LOG_LEVEL=loud should be one of debug, info, warning, error"),
        (
            "LASTRO_ACK",
            "disk",
            "LASTRO_ACK=disk should be memory, fsync or replicated=N with N from 1 to 100",
        ),
        ("LASTRO_ACK", "replicated=0", "LASTRO_ACK=replicated=0 should be memory, fsync or replicated=N"),
        ("LASTRO_ACK", "replicated=101", "LASTRO_ACK=replicated=101 should be memory, fsync or replicated=N"),
        ("LASTRO_ACK", "", "LASTRO_ACK= should be memory, fsync or replicated=N"),
        ("LASTRO_REDIS_URL", "http://one", "LASTRO_REDIS_URL=http://one should start with redis://"),
        (
            "LASTRO_DATABASE_URL",
            "mysql://one",
            "LASTRO_DATABASE_URL=mysql://one should start with postgresql://",
        ),
    ],
)
def test_an_error_names_variable_and_value(variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(said)}"):
        Settings.read(REQUIRED | {variable: value})


@pytest.mark.parametrize(
    ("level", "fsync", "replicas"),
    [("memory", False, 0), ("fsync", True, 0), ("replicated=1", False, 1), ("replicated=100", False, 100)],
)
def test_a_level_of_acknowledgement_is_what_it_names(level: str, fsync: bool, replicas: int) -> None:
    settings = Settings.read(REQUIRED | {"LASTRO_ACK": level})
    assert (fsync, replicas) == (settings.acknowledgement.fsync, settings.acknowledgement.replicas)
    assert Settings.read(settings.environment()) == settings


@pytest.mark.parametrize("variable", sorted(REQUIRED))
def test_an_error_says_what_to_do_about_a_missing_variable(variable: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable} is not set.*make run.*--data"):
        Settings.read({name: value for name, value in REQUIRED.items() if name != variable})


def test_an_error_shows_no_password() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.read(REQUIRED | {"LASTRO_DATABASE_URL": "mysql://me:hush@host/db"})
    assert "hush" not in str(raised.value)
    assert "mysql://***@host/db" in str(raised.value)


def test_the_table_has_a_row_for_every_setting() -> None:
    assert set(re.findall(r"^\| `(\w+)` ", table(), re.MULTILINE)) == names()
    assert "None" not in table()


def test_the_table_of_the_readme_is_the_table_of_the_settings() -> None:
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_is_printed_for_the_readme() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "app.settings"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        check=True,
    )
    assert printed.stdout.decode() == table() + "\n"

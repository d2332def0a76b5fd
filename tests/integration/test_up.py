"""`lastro up` as a newcomer meets it: it starts, says so, keeps all alive, and leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from app.embedded import Valkey
from app.embedded.ports import free_port
from app.up.data import VERSION, read_environment
from tests import proc
from tests.folders import reachable_folder
from tests.integration.running import LastroUp, lastro, linux

Until = Callable[..., None]
PARTS = ["valkey-server", "/postgres -D", "app.cli api", "app.cli worker", "app.cli cron"]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as somebody else")


def refused(*arguments: str, **variables: str) -> str:
    """What a refused `lastro up` says: one sentence on standard error, with exit code 2."""
    done = lastro("up", *arguments, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def up(reachable_tmp_path: Path) -> Iterator[LastroUp]:
    """For a test that ends it."""
    running = LastroUp(reachable_tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[LastroUp]:
    """For tests that leave it running."""
    with reachable_folder() as folder:
        running = LastroUp(folder)
        running.start()
        yield running
        running.stop()


def test_it_says_ready_with_a_key_that_opens_the_api(shared: LastroUp) -> None:
    assert shared.line("ready") == f"http://127.0.0.1:{read_environment(shared.data)['LASTRO_PORT']}"
    assert shared.key == (shared.data / "dev-key").read_text().strip()
    assert shared.get("/health/ready")[0] == 200
    status, body = shared.get("/api/credits/balance?accountId=nobody")
    assert (status, body["code"]) == (404, "account_not_found")


def test_only_the_owner_can_read_keys_and_passwords(shared: LastroUp) -> None:
    for secret in ("env", "dev-key", "passwords", "valkey/valkey.conf"):
        assert stat.S_IMODE((shared.data / secret).stat().st_mode) == 0o600
    for closed in ("valkey", "postgres", "logs"):
        assert stat.S_IMODE((shared.data / closed).stat().st_mode) == 0o700
    password = json.loads((shared.data / "passwords").read_text())
    commands = [each.command for each in shared.family()]
    assert not any(word in command for word in password.values() for command in commands)


def test_its_valkey_keeps_everything_it_acknowledged(shared: LastroUp) -> None:
    with Redis.from_url(read_environment(shared.data)["LASTRO_REDIS_URL"], decode_responses=True) as client:
        assert client.config_get("appendfsync", "appendonly", "maxmemory-policy") == {
            "appendfsync": "always",
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }


def test_ctrl_c_ends_everything_in_order_within_5_seconds(up: LastroUp) -> None:
    family = up.family()
    asked = time.monotonic()
    os.kill(up.pid, signal.SIGINT)
    assert up.wait(5.0)
    assert time.monotonic() - asked < 5.0
    assert up.ending == "ended with code 0"
    assert len(family) > len(PARTS)
    assert not any(proc.lives(each.pid) for each in family)
    assert not (up.data / "env").exists()
    assert "killed" not in up.said
    assert "bye bye" in (up.data / "logs" / "valkey.log").read_text()
    assert "database system is shut down" in (up.data / "logs" / "postgresql.log").read_text()


@linux
def test_a_killed_one_leaves_no_orphans(up: LastroUp, until: Until) -> None:
    family = up.family()
    assert len(family) > len(PARTS)
    up.kill()
    until(lambda: not any(proc.lives(each.pid) for each in family), 5.0)


def test_the_next_start_goes_on_with_the_same_ledger_and_key_even_right_after_a_kill(up: LastroUp) -> None:
    ledger, key = up.line("ledger"), up.key
    up.restart()
    assert (up.line("ledger"), up.key) == (ledger, key)
    assert up.answers()


@linux
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_dies_is_started_again_within_a_second_and_that_is_said(
    shared: LastroUp, until: Until, part: str
) -> None:
    killed, said, died_at = shared.parts(part)[0], len(shared.said), proc.now()
    os.kill(killed.pid, signal.SIGKILL)

    def again() -> list[float]:
        return [each.started_at for each in shared.parts(part) if each.started_at > died_at]

    until(again)
    assert again()[0] - died_at < 1.0
    assert "was ended by SIGKILL; it is started again" in shared.said[said:]
    until(shared.answers)


@pytest.mark.nightly("a whole ledger lost and restored; tests/integration/restore has each step")
def test_one_whose_valkey_has_lost_everything_says_so_and_serves_again_after_a_restore(
    reachable_tmp_path: Path, until: Until
) -> None:
    running = LastroUp(reachable_tmp_path)
    running.start()
    try:
        assert running.post("/api/credits/grant", {"accountId": "ana", "amount": 7})[0] == 201
        key = running.key
        until(lambda: running.get("/api/credits/transactions?accountId=ana")[1]["data"] != [])
        running.stop()
        shutil.rmtree(running.data / "valkey")
        running.spawn()
        until(lambda: "run `lastro restore`" in running.said and (running.data / "env").exists(), 20.0)
        path = "/api/credits/balance?accountId=ana"
        until(lambda: running.code(path, key) == (503, "ledger_fenced"), 20.0)
        done = lastro("restore", "--yes", "--data", str(running.data))
        assert done.returncode == 0, done.stdout + done.stderr
        until(running.is_ready, 20.0)
        assert (running.key, running.get(path)[1]["available"]) == (key, 7)
    finally:
        running.stop()


def test_a_second_one_on_the_same_data_is_refused(shared: LastroUp) -> None:
    said = refused("--port", "0", "--data", str(shared.data))
    assert f"Another `lastro up` (process {shared.pid}) uses {shared.data}" in said
    assert read_environment(shared.data)


def test_a_busy_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as busy:
        port = busy.getsockname()[1]
        said = refused("--port", str(port), "--data", str(tmp_path / "data"))
    assert f"Port {port} on 127.0.0.1 is in use" in said


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("lastro data 0, postgresql 9\n")
    said = refused("--port", "0", "--data", str(tmp_path))
    assert f"was made by another version (lastro data 0, postgresql 9; this one reads {VERSION})" in said


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    said = refused("--port", "0", "--data", str(tmp_path))
    assert "is not empty and not a data folder of Lastro" in said


def test_a_misspelt_setting_is_refused(tmp_path: Path) -> None:
    said = refused("--data", str(tmp_path), LASTRO_SHARD="4")
    assert said == "Error: LASTRO_SHARD=4 is not a setting of Lastro\n"


def test_an_ephemeral_one_leaves_nothing(reachable_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(reachable_tmp_path))
    running = LastroUp(reachable_tmp_path, "--ephemeral")
    running.start()
    (folder,) = reachable_tmp_path.glob("lastro-*")
    assert str(folder) in running.line("postgresql")
    running.stop()
    assert {each.name for each in reachable_tmp_path.iterdir()} == {"said"}


@as_root
def test_data_that_postgresql_cannot_reach_goes_where_it_can_and_the_folder_says_where(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o700)  # like root's home
    running = LastroUp(tmp_path)
    running.start()
    link = running.data / "postgres"
    try:
        assert link.is_symlink()
        assert (link / "data" / "PG_VERSION").exists()
        assert running.line("postgresql").endswith(str(link.readlink()))
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    finally:
        running.stop()
        shutil.rmtree(link.readlink())


def test_other_commands_find_it_by_its_folder(shared: LastroUp) -> None:
    def said(*arguments: str) -> str:
        done = lastro(*arguments, "--data", str(shared.data))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert said("keys", "create", "--name", "shop", "--scope", "spend", "--scope", "grant").startswith("lk_")
    assert "shop" in said("keys", "list")
    assert said("keys", "revoke", "shop") == "revoked shop\n"
    assert "shop" not in said("keys", "list")
    assert said("migrate") == f"ledger {shared.line('ledger')}\n"


def test_health_checks_are_told_whether_workers_and_cron_are_at_work(
    shared: LastroUp, valkey_server: Valkey, until: Until
) -> None:
    for command in ("worker", "cron"):
        until(lambda command=command: lastro(command, "--alive", "--data", str(shared.data)).returncode == 0)
        elsewhere = lastro(
            command, "--alive", LASTRO_REDIS_URL=valkey_server.url, LASTRO_DATABASE_URL="postgresql://x"
        )
        assert elsewhere.returncode == 1


def test_the_environment_wins_over_the_folder(shared: LastroUp) -> None:
    done = lastro("migrate", "--data", str(shared.data), LASTRO_SHARDS="8")
    assert done.returncode == 2
    assert "LASTRO_SHARDS says 8. Set it to 16" in done.stderr

"""`lastro up` as a newcomer meets it: it starts, says so, keeps all alive, and leaves nothing behind."""

import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.embedded import Process, Valkey
from app.embedded.ports import free_port
from app.up.data import VERSION, read_environment
from tests.conftest import reachable_folder

Until = Callable[..., None]
LASTRO = [sys.executable, "-m", "app.cli"]
ROOT = Path(__file__).parents[2]
PARTS = ["valkey-server", "/postgres -D", "app.cli api", "app.cli worker", "app.cli cron"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parents")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as somebody else")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LASTRO_")}


class LastroUp(Process):
    """A running `lastro up --port 0`; `said` is what it has printed since it was started."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__("lastro up", folder / "said", orphan_signal=signal.SIGTERM)
        self.data = folder / "data"
        self._folder = folder
        self._arguments = arguments or ("--data", str(self.data))

    def command(self) -> list[str]:
        return [*LASTRO, "up", "--port", "0", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return environment()

    def folder(self) -> Path:
        return ROOT

    def spawn(self) -> None:
        self.log.unlink(missing_ok=True)
        super().spawn()

    def is_ready(self) -> bool:
        return "\nkey " in self.said

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def key(self) -> str:
        return self.line("key").split()[0]

    def line(self, word: str) -> str:
        """The rest of the last line that begins with this word."""
        lines = [line for line in self.said.splitlines() if line.startswith(f"{word} ")]
        return lines[-1].removeprefix(word).strip()

    def get(self, path: str, key: str | None = None) -> tuple[int, Any]:
        return self._ask("GET", path, key or self.key)

    def post(self, path: str, body: object) -> tuple[int, Any]:
        return self._ask("POST", path, self.key, json.dumps(body))

    def _ask(self, method: str, path: str, key: str, body: str | None = None) -> tuple[int, Any]:
        port = int(read_environment(self.data)["LASTRO_PORT"])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request(method, path, body, headers={"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def code(self, path: str, key: str) -> tuple[int, str]:
        """Status and code of a refusal; nothing when there is no answer."""
        try:
            status, body = self.get(path, key)
        except OSError:
            return 0, ""
        return status, body.get("code", "")

    def answers(self) -> bool:
        try:
            return self.get("/api/credits/balance?accountId=nobody")[0] == 404
        except OSError:
            return False

    def family(self) -> dict[int, str]:
        """All descendants: process id to command line."""
        parents: dict[int, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
        found: dict[int, str] = {}
        row = [self.pid]
        while row:
            row = [child for child, parent in parents.items() if parent in row]
            found |= {child: command_line(child) for child in row}
        return found

    def part(self, word: str) -> int:
        """The process id of the first one with this in its command line."""
        return min(pid for pid, command in self.family().items() if word in command)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def lastro(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*LASTRO, *arguments],
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


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
    assert not any(word in command for word in password.values() for command in shared.family().values())


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
    assert not any(map(lives, family))
    assert not (up.data / "env").exists()
    assert "killed" not in up.said
    assert "bye bye" in (up.data / "logs" / "valkey.log").read_text()
    assert "database system is shut down" in (up.data / "logs" / "postgresql.log").read_text()


@linux
def test_a_killed_one_leaves_no_orphans(up: LastroUp, until: Until) -> None:
    family = up.family()
    assert len(family) > len(PARTS)
    up.kill()
    until(lambda: not any(map(lives, family)), 5.0)


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
    pid, said = shared.part(part), len(shared.said)
    os.kill(pid, signal.SIGKILL)
    until(lambda: any(part in line for other, line in shared.family().items() if other > pid), 1.0)
    until(lambda: "was ended by SIGKILL; it is started again" in shared.said[said:], 1.0)
    until(shared.answers)


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

"""Our own servers: what they keep, and that they never outlive the one who started them."""

import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from app.embedded import CannotStart, Postgres, Valkey
from app.embedded.ports import FIRST, LAST, free_port, is_free
from app.embedded.unprivileged import can_be_reached

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel ties children to parents on Linux only"
)


def test_valkey_is_set_up_to_lose_and_evict_nothing(own_valkey: Valkey) -> None:
    with Redis.from_url(own_valkey.url, decode_responses=True) as client:
        found = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save", "bind")
    assert found == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
        "bind": "127.0.0.1",
    }


def test_valkey_keeps_what_it_acknowledged_over_a_crash(own_valkey: Valkey) -> None:
    url = own_valkey.url
    assert url.startswith("redis://default:")  # redis-cli refuses a password without a user
    with Redis.from_url(url) as client:
        client.set("lastro", "1")
    own_valkey.restart()
    assert own_valkey.url == url
    with Redis.from_url(url) as client:
        assert client.get("lastro") == b"1"


def test_valkey_asks_strangers_for_a_password(own_valkey: Valkey) -> None:
    with (
        Redis(port=own_valkey.port, protocol=2) as stranger,
        pytest.raises(Exception, match="Authentication required"),
    ):
        stranger.get("lastro")


async def test_postgresql_keeps_what_it_committed_over_a_crash(own_postgres: Postgres) -> None:
    url = own_postgres.url
    await _run(url, "CREATE TABLE kept AS SELECT 7 AS number")
    own_postgres.restart()
    assert own_postgres.url == url
    assert await _run(url, "SELECT number FROM kept") == 7


async def test_postgresql_asks_strangers_for_a_password(own_postgres: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _run(own_postgres.url.replace("lastro:", "lastro:not-"), "SELECT 1")


async def test_a_database_is_fresh_and_migrated(database: asyncpg.Pool) -> None:
    assert await database.fetchval("SELECT count(*) FROM shards") == 0


def test_passwords_are_on_no_command_line_and_in_no_readable_file(
    own_valkey: Valkey, own_postgres: Postgres
) -> None:
    for server in (own_valkey, own_postgres):
        password = server.url.split("@")[0].split(":")[-1]
        assert not any(password in argument for argument in server.command())
    configuration = own_valkey.folder() / "valkey.conf"
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o600


def test_a_second_postgresql_on_the_same_data_is_refused(own_postgres: Postgres, tmp_path: Path) -> None:
    second = Postgres(own_postgres.folder(), tmp_path / "log", password="x", durable=False)
    with pytest.raises(CannotStart, match="postgresql ended with code 1"):
        second.start()


def test_a_valkey_told_to_use_a_busy_port_says_so(own_valkey: Valkey, tmp_path: Path) -> None:
    second = Valkey(tmp_path / "valkey", tmp_path / "log", password="x", port=own_valkey.port)
    with pytest.raises(CannotStart, match="valkey ended"):
        second.start()


def test_a_free_port_is_free_and_below_those_of_clients() -> None:
    port = free_port()
    assert FIRST <= port <= LAST
    assert is_free("127.0.0.1", port)


def test_a_folder_in_a_closed_home_cannot_be_reached(reachable_tmp_path: Path) -> None:
    home = reachable_tmp_path / "home"
    (home / "data").mkdir(parents=True)
    home.chmod(0o700)
    assert not can_be_reached(home / "data")


PARENT = """
import sys, pathlib, signal
from app.embedded import Postgres, Valkey
folder = pathlib.Path(sys.argv[1])
valkey = Valkey(folder / "valkey", folder / "valkey.log", password="x")
postgres = Postgres(folder / "postgres", folder / "postgres.log", password="x", durable=False)
valkey.start(), postgres.start()
print(valkey.pid, postgres.pid, flush=True)
signal.pause()
"""


@linux
def test_servers_end_in_order_when_their_starter_is_killed(
    reachable_tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    pids = _pids_of_a_killed_parent(PARENT, str(reachable_tmp_path))
    until(lambda: not any(map(_lives, pids)))
    assert "bye bye" in (reachable_tmp_path / "valkey.log").read_text()
    assert "database system is shut down" in (reachable_tmp_path / "postgres.log").read_text()


def _pids_of_a_killed_parent(program: str, *arguments: str) -> list[int]:
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        assert all(map(_lives, pids))
        parent.send_signal(signal.SIGKILL)
    return pids


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def _run(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()

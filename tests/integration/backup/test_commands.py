"""The commands: what they say, and their exit codes."""

import asyncio
import json
import os
import signal
import tempfile
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from app.cli import cli
from app.embedded import Valkey
from tests import proc
from tests.integration.backup.books import tamper

SEALED = "UPDATE journal SET entry = entry || ' ' WHERE shard = 1 AND seq = 5"


@pytest.fixture
def lastro(past_url, redis_url, tmp_path, monkeypatch):
    """Runs a command over a ledger with a past. Returns its exit code and what it said."""
    monkeypatch.setenv("LASTRO_DATABASE_URL", past_url)
    monkeypatch.setenv("LASTRO_REDIS_URL", redis_url)
    monkeypatch.setenv("LASTRO_SHARDS", "3")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


async def _tamper(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await tamper(connection, statement)
    await connection.close()


@pytest.fixture
def tampered(past_url):
    return lambda statement: asyncio.run(_tamper(past_url, statement))


def test_verify_proves_names_and_refuses(lastro, tampered):
    code, said = lastro("verify")
    assert (code, "rows as they were written" in said) == (0, True)
    code, said = lastro("verify", "--from", "1", "--json")
    verdict = json.loads(said.splitlines()[-1])
    assert (code, verdict["findings"], len(verdict["shards"])) == (0, [], 3)
    shard = verdict["shards"][2]
    head = f"2:{shard['last']}:{shard['head']}"
    assert lastro("verify", "--head", head)[0] == 0
    code, said = lastro("verify", "--head", head[:-4] + "0000")
    assert (code, "is not the one that was kept" in said) == (1, True)
    assert lastro("verify", "--head", "2:x:00")[0] == 2
    assert lastro("verify", "--head", f"7:1:{shard['head']}")[0] == 2
    tampered(SEALED)
    assert lastro("verify")[0] == 0, "only what is new is recomputed"
    code, said = lastro("verify", "--from", "1")
    assert (code, "Row 5 of shard 1 was changed" in said) == (1, True)


def test_a_backup_is_exported_proves_the_journal_and_is_drilled(lastro, tampered):
    code, said = lastro("export", "a.gz")
    assert (code, "entries in a.gz" in said) == (0, True)
    assert lastro("export", "f", "--folder")[0] == 0
    code, said = lastro("export", "a.gz")
    assert (code, "is there already" in said) == (2, True)
    for nowhere in (".", "/", "f"):
        code, said = lastro("export", nowhere)
        assert (code, "is there already" in said) == (2, True)
    for backup in ("a.gz", "f", "f/manifest.json"):
        code, said = lastro("verify", "--manifest", backup)
        assert (code, "3 heads kept elsewhere found" in said) == (0, True), said
    code, said = lastro("drill", "f")
    assert (code, "comes back whole" in said) == (0, True), said
    for step in ("check", "import", "verify", "restore", "reconcile"):
        assert f"\n{step} " in f"\n{said}"
    Path("a.gz").write_bytes(Path("a.gz").read_bytes()[:2000])
    code, said = lastro("drill", "a.gz")
    assert (code, "cut off" in said) == (2, True)
    tampered(SEALED)
    code, said = lastro("export", "b.gz")
    assert (code, "is not as it was written" in said) == (2, True)


def while_its_servers_start(monkeypatch, tell):
    start = Valkey.start
    monkeypatch.setattr(Valkey, "start", lambda *given: (tell(), start(*given)))


def while_it_restores_and_again_while_it_tidies_up(monkeypatch, tell):
    async def restore(*_, **__):
        tell()
        await asyncio.sleep(30)  # not for ever, so that a test fails where nothing ends it

    monkeypatch.setattr("persistence.backup.drill.restore", restore)
    while_it_tidies_up(monkeypatch, tell)


def while_it_tidies_up(monkeypatch, tell):
    kill = Valkey.kill
    monkeypatch.setattr(Valkey, "kill", lambda *given: (tell(), kill(*given)))


@pytest.mark.parametrize(
    "moment",
    [while_its_servers_start, while_it_restores_and_again_while_it_tidies_up, while_it_tidies_up],
)
def test_a_drill_that_is_ended_leaves_nothing_behind(lastro, reachable_tmp_path, monkeypatch, moment):
    lastro("export", "a.gz")
    monkeypatch.setattr(tempfile, "tempdir", str(reachable_tmp_path))
    moment(monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    code, said = lastro("drill", "a.gz")
    assert 128 + signal.SIGTERM == code, said
    assert "comes back whole" not in said
    assert [] == list(reachable_tmp_path.iterdir())
    mine = proc.descendants(os.getpid())
    assert [] == [each.command for each in mine if str(reachable_tmp_path) in each.command]


def test_an_imported_ledger_serves(lastro, second_url, monkeypatch):
    lastro("export", "a.gz")
    code, said = lastro("import", "a.gz")
    assert (code, "is in use" in said) == (2, True)
    monkeypatch.setenv("LASTRO_DATABASE_URL", second_url)
    code, said = lastro("import", "a.gz")
    assert (code, "Redis has everything, and the ledger serves" in said) == (0, True), said
    assert lastro("verify", "--manifest", "a.gz")[0] == 0
    balances = Path("b.csv")
    balances.write_text("account,bucket,amount\nnew-one,plan,50\n")
    code, said = lastro("import", "--balances", "b.csv")
    assert (code, "1 granted, 0 had been granted before" in said) == (0, True), said
    balances.write_text(balances.read_text() + "other one,plan,50\nthird,plan,0\n")
    code, said = lastro("import", "--balances", "b.csv")
    assert (code, "line 3: account 'other one' is not" in said) == (2, True), said
    assert lastro("import")[0] == 2
    code, said = lastro("erase", "--account", "new-one", "--reason", "x", "--yes")
    assert code == 2
    assert "PostgreSQL" in said or "journal knows no account" in said

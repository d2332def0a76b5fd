"""What whoever runs `lastro restore` is told."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from app.ledger import keys
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import fence, fences
from tests.integration.ledgers import journal_all
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller, forge

SHARDS = 2


@pytest.fixture
async def caller(database, database_url, redis_url, redis) -> Caller:
    await give_birth(database_url, redis_url, SHARDS)
    return Caller(redis, await admit(database, redis))


@pytest.fixture
def lastro(database_url, redis_url, tmp_path):
    """Runs a command to its end. Returns its exit code, what it said, and what it complained of."""

    async def run(*arguments: str, answer: str = "") -> tuple[int, str, str]:
        urls = {"LASTRO_REDIS_URL": redis_url, "LASTRO_DATABASE_URL": database_url}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli", *arguments,
            env={**os.environ, **urls, "LASTRO_SHARDS": str(SHARDS)}, cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, complained = await process.communicate(answer.encode())
        assert process.returncode is not None
        return process.returncode, said.decode(), complained.decode()

    return run


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """The command runs in a folder of its own, and finds the program all the same."""
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))


async def test_a_healthy_ledger_is_told_so(caller, lastro):
    code, said, complained = await lastro("restore", "--yes")
    assert (code, said) == (2, "")
    assert (
        complained == "Error: No shard is fenced: the ledger is healthy, and there is nothing to restore.\n"
    )


async def test_what_was_restored_is_told_with_its_moment_and_what_may_be_missing(
    caller, database_url, redis, redis_url, lastro, tmp_path
):
    await Traffic(caller, SHARDS, seed=1).run(30)
    await journal_all(database_url, redis_url)
    await redis.flushall()
    code, said, complained = await lastro("restore", answer="y\n")
    assert (code, complained) == (0, "")
    assert said.count("Redis has nothing of the shard") == 1
    assert "loading accounts and holds: " in said
    assert "/s\n" in said
    assert 1 <= said.count("and had not reached PostgreSQL by ") <= SHARDS
    assert said.splitlines()[-1].partition(" ")[2].startswith("accounts and open reservations restored in")
    assert list(tmp_path.iterdir()) == []
    assert (await lastro("restore", "--yes"))[0] == 2


async def test_whoever_says_no_has_done_nothing(caller, redis, lastro):
    await redis.hset(keys.meta(0), "fence", "look at this")
    code, said, complained = await lastro("restore", answer="n\n")
    assert (code, complained) == (2, "Error: Nothing was done.\n")
    assert "look at this" in said
    assert (await redis.hget(keys.meta(0), "fence")).startswith(b"look at this")


async def test_what_the_operator_has_fenced_and_redis_has_whole_is_not_restored(
    caller, database, database_url, redis, redis_url, lastro
):
    await caller.grant(0, calls=2)
    await drain(database_url, redis_url, 0.2, keep=None)
    await fence(database, redis, None, "planned work")
    code, _, complained = await lastro("restore", "--yes")
    assert code == 2
    assert "are fenced by the operator alone" in complained
    assert "`lastro unfence` opens again" in complained

    await redis.delete(keys.meta(1))
    code, said, _ = await lastro("restore", "--yes")
    assert code == 0
    assert "shard 1 is as at birth" in said
    assert " fenced by the operator; `lastro unfence` opens again" in said
    others = [shard for shard in range(SHARDS) if shard != 1]
    assert {each.shard: each.by for each in await fences(database)} == dict.fromkeys(others, "operator")

    code, said, _ = await lastro("restore", "--yes", "--shard", "0")
    assert (code, "shard 0 is as of " in said) == (0, True)
    assert [each.shard for each in await fences(database)] == others[1:]


async def test_what_the_journal_does_not_have_is_named_and_kept_in_the_file(caller, redis, lastro, tmp_path):
    await caller.grant(0, calls=4)
    await forge(redis, 0, available=1)
    await redis.hset(keys.meta(0), "fence", "look at this")
    code, said, _ = await lastro("restore", "--yes", "--salvage", "kept/orphans.jsonl")
    assert code == 1
    assert "not in the journal: 0-1-5: granted 1 of ana0" in said
    assert (
        "entry 4, of which 4 were still in Redis. 1 entries that are not of its history are kept in" in said
    )
    (line,) = (tmp_path / "kept" / "orphans.jsonl").read_text().splitlines()
    assert json.loads(line)["transaction"] == "0-1-5"

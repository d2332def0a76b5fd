"""`lastro reconcile`: what it says and how it ends."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from app.cli import cli
from persistence.reconcile.work import working
from tests.integration.reconcile.past import ANA


@pytest.fixture
def lastro(database_url, redis_url, tmp_path):
    """Runs the command, in a thread of its own because it has an event loop of its own."""
    environment = {"LASTRO_DATABASE_URL": database_url, "LASTRO_REDIS_URL": redis_url}

    async def run(*arguments, **options):
        call = ["reconcile", "--data", str(tmp_path), "--by", "tester", *arguments]
        return await asyncio.to_thread(CliRunner().invoke, cli, call, env=environment, **options)

    return run


async def test_it_ends_with_0_1_or_2(past, connection, lastro):
    equal = await lastro()
    assert (0, "2 accounts: equal") == (equal.exit_code, equal.stdout.splitlines()[-1])
    assert (
        "granted 180 + refunded 0 + adjusted 0 = available 161 + held 14 + spent 5 + lapsed 0" in equal.stdout
    )

    await past.put_account(ANA, available=132)
    drift = await lastro()
    assert 1 == drift.exit_code
    assert ["ana", "available", "132", "131"] in [line.split() for line in drift.stdout.splitlines()]
    assert not [line for line in drift.stdout.splitlines() if line.endswith(" ")]
    assert 1 == (await lastro("--account", ANA)).exit_code
    assert 0 == (await lastro("--account", "bob")).exit_code

    kept = await lastro("--repair", input="n\n")
    assert 1 == kept.exit_code
    assert 132 == (await past.account(ANA)).available

    repaired = await lastro("--repair", "--json", "--yes")
    told = json.loads(repaired.stdout)
    assert (0, "equal", [ANA]) == (
        repaired.exit_code, told["status"], [each["accountId"] for each in told["repaired"]]
    )  # fmt: skip
    assert "tester" == await connection.fetchval("SELECT by FROM repairs")
    assert "operator:tester" == await connection.fetchval("SELECT by FROM journal WHERE kind = 'repaired'")

    told = json.loads((await lastro("--repair", "--json", "--yes")).stdout)
    assert ("equal", [], {}) == (told["status"], told["repaired"], told["failed"])

    await connection.execute("UPDATE shards SET fence = 'x', fenced_at = now() WHERE shard = 2")
    assert 2 == (await lastro()).exit_code
    assert "could not tell: Shard 2 is fenced: x" in (await lastro()).stdout


async def test_what_is_true_of_several_shards_is_said_once_with_what_to_do(past, connection, redis, lastro):
    await connection.execute("UPDATE shards SET fence = 'of shard ' || shard, fenced_at = now()")
    (why,) = json.loads((await lastro("--json")).stdout)["unknown"]
    assert "Shards 0 to 2 are fenced: of the shard" == why
    await connection.execute("UPDATE shards SET fence = NULL, fenced_at = NULL")
    await redis.flushall()
    whys = json.loads((await lastro("--json")).stdout)["unknown"]
    assert 1 == len(whys)
    assert "the shard has no meta. Redis has lost its data" in whys[0]


async def test_it_waits_for_others_and_adopts_only_what_is_lost(past, database_url, lastro, monkeypatch):
    monkeypatch.setattr("persistence.reconcile.command.PATIENCE_SECONDS", 0.1)
    adopted = await lastro("--adopt", "--yes")
    assert 0 == adopted.exit_code
    assert "nothing to adopt" in adopted.stdout
    async with working(database_url):
        busy = await lastro()
    assert 2 == busy.exit_code
    assert "Another `lastro reconcile` is at work" in busy.stderr

"""Fences by the operator's word: who is refused, and what opens them again."""

import asyncio

import pytest
from click.testing import CliRunner

from app.cli import cli
from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.operations import Grant
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.fences import FenceRefused, fence, fences, unfence
from tests.integration.fences.serving import refuses, serves
from tests.integration.ledgers import ACCOUNTS, SHARDS, deduct, process, watching


async def test_a_fenced_shard_refuses_at_once_with_the_reason_and_the_others_go_on(database, redis, ledger):
    assert await fence(database, redis, [1], "a look at ana") == [1]
    assert "Fenced by the operator: a look at ana. `lastro unfence` opens" in await refuses(ledger, 1)
    await deduct(ledger, 0)
    (only,) = await fences(database)
    assert (only.shard, only.by) == (1, "operator")
    opening = await unfence(database, redis, [1], "looked")
    assert (opening.opened, opening.stays) == ([1], {})
    await serves(ledger, 1)
    assert await fences(database) == []


async def test_a_fence_reaches_processes_also_where_redis_is_away(database, database_url, own_valkey):
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with process(database, own_valkey.url) as ledger, watching(database, ledger):
        await ledger.grant(Grant(account=ACCOUNTS[0], amount=100))
        await fence(database, connect("redis://127.0.0.1:1"), None, "it burns")
        async with asyncio.timeout(5):
            while not ledger.terms.fences:  # noqa: ASYNC110 - what it polls is polled
                await asyncio.sleep(0.01)
        assert "it burns" in await refuses(ledger, 0)


async def test_the_first_reason_stays(database, redis, ledger):
    await fence(database, redis, [1], "first")
    assert await fence(database, redis, [1, 2], "second") == [2]
    assert "first" in await refuses(ledger, 1)
    assert "second" in await refuses(ledger, 2)


async def test_a_shard_that_does_not_exist_is_refused(database, redis, ledger):
    with pytest.raises(FenceRefused, match="There is no shard 9; this ledger has 0 to 3"):
        await fence(database, redis, [1, 9], "why")
    assert await fences(database) == []


async def test_unfencing_leaves_open_shards_as_they_are(database, redis, ledger):
    before = await database.fetch("SELECT * FROM shards ORDER BY shard")
    opening = await unfence(database, redis, None, "nothing")
    assert (opening.opened, opening.stays) == ([], {})
    assert await database.fetch("SELECT * FROM shards ORDER BY shard") == before


DAMAGES = {
    "nothing is there": (lambda redis: redis.delete(keys.meta(1)), "Redis has nothing of shard 1"),
    "the stream is gone": (lambda redis: redis.delete(keys.journal(1)), "ends at nothing"),
    "a stranger's link": (lambda redis: redis.hset(keys.meta(1), "link", "x"), "different histories"),
    "half restored": (lambda redis: redis.hdel(keys.meta(1), "sequence"), "is not readable"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_what_cannot_be_served_stays_fenced_and_says_what_to_do(
    database, database_url, redis, redis_url, ledger, damage
):
    change, why = damage
    await drain(database_url, redis_url, 0.5, keep=None)
    await fence(database, redis, None, "a look")
    await change(redis)
    opening = await unfence(database, redis, None, "looked")
    assert (opening.opened, list(opening.stays)) == ([0, 2, 3], [1])
    assert why in opening.stays[1]
    assert "lastro restore" in opening.stays[1]
    assert [each.shard for each in await fences(database)] == [1]
    await serves(ledger, 0)
    await refuses(ledger, 1)


async def test_a_shard_in_the_middle_of_a_restore_is_not_opened_however_whole_it_looks(
    database, redis, ledger
):
    await fence(database, redis, [1], "a restore")
    await database.execute("UPDATE shards SET fenced_by = 'restore' WHERE shard = 1")
    opening = await unfence(database, redis, None, "it looks good")
    assert "A restore of shard 1 was begun: run `lastro restore`" in opening.stays[1]
    await refuses(ledger, 1)


def test_the_commands_say_what_they_did(own_valkey, own_postgres):
    asyncio.run(give_birth(own_postgres.url, own_valkey.url, 2))
    environment = {"LASTRO_REDIS_URL": own_valkey.url, "LASTRO_DATABASE_URL": own_postgres.url}

    def lastro(*arguments: str, **more: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, arguments, env=environment, **more)
        return done.exit_code, done.output

    assert lastro("fence", "--shard", "1", "--reason", "a look", input="n\n")[0] == 2
    code, said = lastro("fence", "--shard", "1", "--reason", "a look", "--yes")
    assert (code, said) == (0, "shard 1 refuses; `lastro unfence` opens again\n")
    code, said = lastro("fence", "--reason", "more", "--yes")
    assert (code, said.splitlines()[0]) == (0, "shard 0 refuses; `lastro unfence` opens again")
    assert "shard 1 refused already, by operator: Fenced by the operator: a look." in said
    assert lastro("unfence", "--shard", "0", "--reason", "done", "--yes") == (0, "shard 0 is open: done\n")
    code, said = lastro("drain", "--yes")
    assert (code, "PostgreSQL has everything" in said) == (0, True)
    assert lastro("unfence", "--reason", "done", input="n\n")[0] == 2
    assert lastro("unfence", "--reason", "done", input="y\n")[1].endswith("shards 0, 1 are open: done\n")
    assert lastro("unfence", "--reason", "done", "--yes") == (0, "nothing was fenced\n")
    assert lastro("fence", "--shard", "7", "--reason", "a look", "--yes")[0] == 2

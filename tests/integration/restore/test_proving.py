"""Tables that were changed by hand are not what a restore loads."""

import pytest

from app.ledger import keys
from app.ledger.operations import Grant, Reserve
from app.ledger.shards import shard_of
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.restore import proving, restore
from tests.integration.restore.looking import Looking
from tests.integration.restore.state import assert_same, in_redis
from tests.integration.restore.test_rolling import journal_all
from tests.integration.restore.traffic import Traffic
from tests.integration.streams import Caller

SHARDS = 2
NAME = next(f"ana-{n}" for n in range(9) if shard_of(f"ana-{n}", SHARDS) == 0)
BOB = next(f"bob-{n}" for n in range(9) if shard_of(f"bob-{n}", SHARDS) == 0)
RESERVATION = "01a00000-0000-7000-9000-000000000001"


@pytest.fixture
async def ledger(database, database_url, redis_url, redis, tmp_path):
    """Two shards with an open hold, journaled. Returns what Redis has, and restores it."""
    await give_birth(database_url, redis_url, SHARDS)
    caller = Caller(redis, await admit(database, redis))
    await Traffic(caller, SHARDS, seed=2).run(30)
    await caller.call(
        [
            Grant(
                shard=0, account=NAME, amount=50, bucket="plan", expires_at_ms=4_102_444_800_000, open=True
            ),
            Grant(shard=0, account=NAME, amount=50, open=True),
            Grant(shard=0, account=BOB, amount=7, open=True),
        ]
    )
    await caller.call([Reserve(shard=0, account=NAME, reservation=RESERVATION, amount=5, ttl_ms=3_600_000)])
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)

    async def emptied_and_restored():
        await redis.flushall()
        return await restore(database_url, redis_url, salvage=tmp_path / "salvaged", watch=Looking())

    return before, emptied_and_restored


async def tamper(database, statement: str) -> None:
    """What somebody does who may do anything in the database."""
    async with database.acquire() as connection:
        await connection.execute("SET session_replication_role = replica")
        done = await connection.execute(statement.replace("NAME", f"'{NAME}'").replace("BOB", f"'{BOB}'"))
        await connection.execute("SET session_replication_role = DEFAULT")
    assert not done.endswith(" 0")


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE reservations SET expires_at = now() + interval '9 h' WHERE id = '{RESERVATION}'",
        f"UPDATE reservations SET reserved_seq = 1 WHERE id = '{RESERVATION}'",
        f"UPDATE reservations SET shard = 1 WHERE id = '{RESERVATION}'",
        f"DELETE FROM reservations WHERE id = '{RESERVATION}'",
        "UPDATE lots SET available = 50 + CASE bucket WHEN 'plan' THEN -9 ELSE 4 END WHERE account = NAME",
        "UPDATE accounts SET shard = 1 WHERE account = NAME",
        "WITH gone AS (DELETE FROM lots WHERE account = BOB) DELETE FROM accounts WHERE account = BOB",
    ],
)
async def test_what_was_changed_by_hand_is_written_again_by_the_entries(database, redis, ledger, statement):
    before, restored = ledger
    await tamper(database, statement)
    found = await restored()
    account = BOB if "BOB" in statement else NAME
    assert set(found.rewritten) == {account}
    assert (found.drift, found.fences) == ([], {})
    assert_same(before, await in_redis(redis, SHARDS))
    recorded = await database.fetch("SELECT DISTINCT account, side, by FROM repairs")
    assert [tuple(each) for each in recorded] == [(account, "projection", "restore")]
    assert (await restored_again(database, redis)) == {}


async def restored_again(database, redis) -> dict[int, str]:
    return (await admit(database, redis)).fences


async def test_an_account_that_no_entry_has_made_gets_nothing(database, redis, ledger):
    before, restored = ledger
    thief = next(f"thief-{n}" for n in range(9) if shard_of(f"thief-{n}", SHARDS) == 0)
    await database.execute(
        "INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at) "
        "VALUES ($1, 0, 3, 1000, 0, now(), now())", thief
    )  # fmt: skip
    assert (await restored()).rewritten == [thief]
    assert not await redis.exists(keys.account(0, thief))
    assert_same(before, await in_redis(redis, SHARDS))


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE journal SET entry = replace(entry, ',50,', ',90,') WHERE account = NAME AND version = 1",
         f"contradicts itself about {NAME}"),
        ("UPDATE journal SET entry = 'x' WHERE account = BOB", f"contradicts itself about {BOB}"),
        ("DELETE FROM journal WHERE account = BOB", "lacks entry"),
    ],
)  # fmt: skip
async def test_a_shard_whose_entries_contradict_themselves_stays_closed_and_the_others_open(
    database, redis, ledger, statement, why
):
    _, restored = ledger
    await tamper(database, statement)
    found = await restored()
    assert found.fences.keys() == {0}
    assert why in found.fences[0]
    assert "`lastro verify`" in found.fences[0]
    assert [each.shard for each in found.shards] == [1]
    assert (await admit(database, redis)).fences.keys() == {0}


async def test_a_ledger_as_it_was_written_is_not_suspected(ledger):
    _, restored = ledger
    assert (await restored()).rewritten == []


async def test_what_ends_the_proof_of_one_shard_is_told_as_it_is_and_nothing_is_loaded(
    ledger, redis, monkeypatch
):
    _, restored = ledger
    missing = proving._missing

    async def gone(connection, shard):
        if shard == 1:
            raise ConnectionResetError("PostgreSQL is gone")
        return await missing(connection, shard)

    monkeypatch.setattr(proving, "_missing", gone)
    with pytest.raises(ConnectionResetError, match="PostgreSQL is gone"):
        await restored()
    assert [] == await redis.keys("lastro:*:account:*")

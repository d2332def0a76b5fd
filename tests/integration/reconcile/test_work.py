"""Who reconciles when, and what is done about drift by itself."""

import asyncio
from functools import partial

import pytest

from app.ledger import keys
from app.ledger.errors import LedgerFenced
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant, Reserve
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.reconcile.position import begin
from persistence.reconcile.recorded import PostgresReconciliations
from persistence.reconcile.run import Run
from persistence.reconcile.slice import reconcile_slice
from persistence.reconcile.work import COMMAND, next_run, working
from tests.integration.reconcile.past import ANA, BOB
from tests.integration.reconcile.test_compare import tamper, told

SHOWN = "SELECT by, status, accounts FROM reconciliations ORDER BY started_at"


@pytest.fixture
def work(database_url, redis_url, ledger):
    return partial(reconcile_slice, database_url, redis_url, keep=None, seconds=1.0)


async def shown(connection):
    return [tuple(row) for row in await connection.fetch(SHOWN)]


async def test_a_run_begins_by_itself_and_not_again_before_its_time(past, connection, work):
    assert await work() is not None
    assert await work() is None
    assert await work(every_seconds=0.0) is not None
    assert [("system", "equal", 2)] * 2 == await shown(connection)


async def test_the_only_worker_keeps_the_journal_while_it_compares(past, caller, connection, work):
    await caller.call([Grant(shard=1, account=BOB, amount=5)])
    await work()
    assert [("system", "equal", 2)] == await shown(connection)
    assert 2 == await connection.fetchval("SELECT version FROM accounts WHERE account = 'bob'")


async def test_what_somebody_asks_for_is_done_next(past, database, connection, work):
    await work()
    asked = await PostgresReconciliations(database).start("key:ana")
    assert asked.id == await work()
    assert ("key:ana", "equal", 2) == (await shown(connection))[1]


async def test_one_process_at_a_time_works(past, database_url, work):
    async with working(database_url) as first:
        assert first is not None
        async with working(database_url) as second:
            assert second is None
        assert await work() is None
    async with asyncio.timeout(20):
        while await work() is None:  # PostgreSQL has not noticed yet that the first has gone
            pass


async def test_a_run_goes_on_where_the_process_before_ended(past, redis, connection, work):
    name = await begin(connection, "key:ana", full=True)
    run = await Run(connection, redis, name, page=1).load()
    while run.accounts == 0:
        await run.step()
    assert name == await work()
    assert [("key:ana", "equal", 2)] == await shown(connection)


async def test_what_a_command_left_behind_is_not_gone_on_with(past, connection):
    await begin(connection, COMMAND + "ana", full=True)
    assert await next_run(connection, every_seconds=0.0) is not None
    assert ("command:ana", "unknown", 0) == (await shown(connection))[0]


async def test_a_drifted_account_is_fenced_alone_and_the_others_go_on(past, caller, redis, connection, work):
    account = await past.account(ANA)
    await past.put_account(ANA, available=account.available + 1)
    await work()
    assert [("system", "drift", 2)] == await shown(connection)
    why = (await past.account(ANA)).fence
    assert "available is 132 in Redis and 131 in the journal" in why
    reply = await caller.call(
        [Deduct(shard=0, account=ANA, amount=1), Deduct(shard=1, account=BOB, amount=1)]
    )
    assert ["ledger_fenced", 29] == [reply.results[0].word, reply.accounts[0].available]


async def test_an_account_of_which_a_table_is_wrong_goes_on_to_be_served(past, connection, work):
    await tamper(connection, "UPDATE lots SET priority = 3 WHERE account = 'ana' AND bucket = 'plan'")
    await work()
    assert [("system", "drift", 2)] == await shown(connection)
    assert (await past.account(ANA)).fence is None


async def test_an_account_that_redis_lost_is_refused_and_never_opened_anew(
    redis, database, connection, ledger, work, reconcile, repair, monkeypatch
):
    """Through the engine, which asks the journal about accounts that Redis does not know."""
    engine = Ledger(redis, PostgresBacking(database, partial(admission.admit, database, redis)))
    await engine.start()
    try:
        await engine.grant(Grant(account="ana", amount=10))
        await work()
        shard = await connection.fetchval("SELECT shard FROM accounts WHERE account = 'ana'")
        await redis.delete(keys.account(shard, "ana"))
        await work(every_seconds=0.0)
        assert "drift" == (await shown(connection))[1][1]
        reservation = await engine.new_reservation_id("ana")
        for ask in (
            lambda: engine.grant(Grant(account="ana", amount=1)),
            lambda: engine.deduct(Deduct(account="ana", amount=1)),
            lambda: engine.reserve(Reserve(account="ana", amount=1, reservation=reservation)),
            lambda: engine.balance("ana"),
        ):
            with pytest.raises(LedgerFenced):
                await ask()
        monkeypatch.setitem(__import__("tests").integration.reconcile.past.SHARD, "ana", shard)
        run = await reconcile(full=False)
        assert {("ana", "account"): (None, "version 1")} == told(run)
        await repair(run)
        assert 10 == (await engine.balance("ana")).account.available
        assert "equal" == (await reconcile()).status
    finally:
        await engine.stop()
        await asyncio.sleep(0)


async def test_a_run_that_could_not_tell_is_repeated_sooner_but_not_at_once(past, connection, work):
    await connection.execute("UPDATE shards SET fence = 'x', fenced_at = now() WHERE shard = 2")
    assert await work() is not None
    assert await work() is None
    assert [("system", "unknown", 2)] == await shown(connection)
    await connection.execute("UPDATE reconciliations SET started_at = now() - interval '61 s'")
    assert await work() is not None


async def test_a_shard_that_cannot_be_looked_at_ends_no_run(past, redis, connection, work):
    await redis.delete(keys.due(1))
    await redis.rpush(keys.due(1), "x")
    assert await work() is not None
    assert ("system", "unknown") == (await shown(connection))[0][:2]


async def test_two_who_ask_at_once_get_the_same_run(past, database, connection):
    recorded = PostgresReconciliations(database)
    asked = await asyncio.gather(*(recorded.start(f"key:{each}") for each in range(5)))
    assert (
        1
        == len({each.id for each in asked})
        == await connection.fetchval("SELECT count(*) FROM reconciliations")
    )

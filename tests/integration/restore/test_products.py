"""A Redis that went back, or was lost, has afterwards what products need, as it was."""

import pytest

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.operations import Bind, Configure, Confirm, Extend, Original, Refund, Reserve
from app.ledger.replies import Applied, Declined
from app.ledger.shards import new_reservation_id, shard_of
from persistence.admission import admit
from persistence.birth import give_birth
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.reconcile.past import ANA, NOW_MS
from tests.integration.reconcile.products import Products
from tests.integration.restore.state import assert_same, in_redis
from tests.integration.restore.test_rolling import copied
from tests.integration.restore.test_rolling import put_back as put_back_files
from tests.integration.streams import Caller, put_back, replace_server, snapshot

TASK, TASK_SHARD = "job-1", shard_of("fal:job-1", SHARDS)


async def of(caller, redis) -> Products:
    products = await Products(caller, redis).happen()
    bind = Bind(shard=0, reservation=products.part, task=TASK, provider="fal", task_shard=TASK_SHARD)
    await caller.call([bind])
    return products


@pytest.fixture
async def products(caller, redis):
    return await of(caller, redis)


async def go_on(products, caller):
    """Everything that can be done to what is there already, and what makes nothing new."""
    answers = (
        await caller.call([
            Refund(shard=0, account=ANA, originals=[products.spent], amount=5),
            Configure(shard=0, account=ANA, overdraft_limit=70, low_balance=9, status="frozen"),
            Configure(shard=0, account=ANA, status="active"),
            products.capture(3, "second"),
            Extend(shard=0, reservation=products.part, ttl_ms=86_400_000, task_shard=TASK_SHARD),
        ])
    ).results  # fmt: skip
    assert all(isinstance(each, Applied) for each in answers), answers


async def test_a_redis_that_went_back_is_rolled_forward_over_all_of_it(
    database, database_url, own_valkey, tmp_path
):
    """Also over what is in another shard: the index of a task lives as long as its reservation."""
    await give_birth(database_url, own_valkey.url, SHARDS)
    async with connect(own_valkey.url) as redis:
        products = await of(Caller(redis, await admit(database, redis)), redis)
    copy = copied(own_valkey, tmp_path)
    async with connect(own_valkey.url) as redis:
        await go_on(products, Caller(redis, await admit(database, redis)))
        await journal_all(database_url, own_valkey.url)
        before = await in_redis(redis, SHARDS)
    put_back_files(own_valkey, copy)
    async with connect(own_valkey.url) as redis:
        refunded, task = keys.refunded(0, products.refunded), keys.task(TASK_SHARD, "fal", TASK)
        assert b"6" == await redis.get(refunded)
        assert await redis.pexpiretime(task) < before.forgotten[task]
        assert (await admit(database, redis)).fences == {}
        assert_same(await in_redis(redis, SHARDS), before)
        assert b"11" == await redis.get(refunded)


async def test_a_redis_that_was_lost_gives_nothing_back_twice_after_its_restore(
    products, caller, database, database_url, redis, redis_url, restored
):
    await go_on(products, caller)
    await journal_all(database_url, redis_url)
    before = await in_redis(redis, SHARDS)
    await redis.flushall()
    assert (await admit(database, redis)).fences
    assert (await restored()).drift == []
    assert_same(await in_redis(redis, SHARDS), before)
    caller.terms = await admit(database, redis)
    again = Refund(shard=0, account=ANA, originals=[products.spent], amount=10)
    part = products.capture(8, "first")
    refused, replayed = (await caller.call([again, part])).results
    assert isinstance(refused, Declined)
    assert ("exceeds_transaction", 9) == (refused.word, refused.facts["left"])
    assert isinstance(replayed, Applied)
    assert replayed.replayed
    rest = Confirm(shard=0, reservation=products.part, amount=1000)
    late = Confirm(shard=0, reservation=products.late)
    (capped, confirmed) = (await caller.call([rest, late])).results
    assert (capped.entry.captured, confirmed.replayed) == (19, True)


async def test_what_was_given_back_is_read_back_before_anybody_is_let_in(
    products, database, database_url, redis, redis_url, restored
):
    await journal_all(database_url, redis_url)
    await redis.flushall()
    assert (await admit(database, redis)).fences
    refunded = keys.refunded(0, products.refunded)

    async def forget(step: str) -> None:
        if step == "after load":
            assert await redis.delete(refunded)

    drift = (await restored(barrier=forget)).drift
    assert [(f"refunded.{products.refunded}", None, 6)] == [
        (each.field, each.redis, each.journal) for each in drift
    ]
    assert (await restored()).drift == []


async def test_a_table_of_refunds_that_somebody_changed_is_written_again_before_it_is_loaded(
    products, database, database_url, redis, redis_url, restored
):
    await journal_all(database_url, redis_url)
    await database.execute("UPDATE refunds SET refunded = 1")
    await database.execute("UPDATE accounts SET overdraft_limit = 10000, status = 'closed'")
    await redis.flushall()
    assert (await admit(database, redis)).fences
    assert ANA in (await restored()).rewritten
    assert b"6" == await redis.get(keys.refunded(0, products.refunded))
    account = await products.account(ANA)
    assert (40, "active") == (account.overdraft_limit, account.status)


async def test_of_two_histories_only_the_journals_has_given_anything_back(
    products, caller, database, database_url, redis, redis_url, restored
):
    """The other one is salvaged, and what Redis remembers of it goes."""
    other = Original(transaction=products.not_refunded, left=[("default", 0, 30)])
    early = await snapshot(redis)
    await go_on(products, caller)
    await journal_all(database_url, redis_url)
    journal = await in_redis(redis, SHARDS)
    await put_back(redis, early)
    await products.refund(9)
    await caller.call([Refund(shard=0, account=ANA, originals=[other])])
    await replace_server(redis)
    assert "behind the journal" in (await admit(database, redis)).fences[0]
    assert (await restored()).drift == []
    assert journal.values == (await in_redis(redis, SHARDS)).values
    assert b"11" == await redis.get(keys.refunded(0, products.refunded))
    assert not await redis.exists(keys.refunded(0, products.not_refunded))


async def test_a_hold_that_runs_out_while_redis_is_away_may_still_be_confirmed_late(
    caller, database, database_url, redis, redis_url, restored
):
    products = await Products(caller, redis).happen()
    id_ = new_reservation_id(0, NOW_MS + 20)
    hold = Reserve(shard=0, account=ANA, reservation=id_, amount=4, ttl_ms=1, on_expired="charge")
    raised = Configure(shard=0, account=ANA, overdraft_limit=1000)
    await caller.call([Refund(shard=0, account=ANA, originals=[products.spent], bucket="gifts"), raised])
    await caller.call([hold])
    await journal_all(database_url, redis_url)
    await redis.flushall()
    assert (await admit(database, redis)).fences
    assert (await restored()).drift == []
    caller.terms = await admit(database, redis)
    (late,) = (await caller.call([Confirm(shard=0, reservation=id_)])).results
    assert (late.entry.late, late.entry.charged) == (True, 4)

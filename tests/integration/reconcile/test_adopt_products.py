"""What was lost of settings, parts, extensions, late confirms and refunds is what Redis has of it."""

import msgspec
import pytest

from app.ledger import keys
from app.ledger.entries import seal
from app.ledger.operations import Cancel, Configure, Deduct, Extend, Grant, Refund, Reserve
from app.ledger.replies import Declined, Reservation
from app.ledger.shards import new_reservation_id
from persistence.admission import admit
from persistence.reconcile.adopt import adopt
from persistence.restore import restore
from tests.integration.journal.workers import keep_journal
from tests.integration.reconcile.past import ANA, NOW_MS
from tests.integration.reconcile.products import Products
from tests.integration.restore.looking import Looking
from tests.integration.streams import replace_server


@pytest.fixture
def urls(database_url, redis_url):
    return database_url, redis_url


async def lose(redis, up_to: int) -> None:
    """The stream begins after a sequence that PostgreSQL has not come to."""
    await redis.xtrim(keys.journal(0), minid=f"{up_to + 1}-0", approximate=False)
    await replace_server(redis)


async def last(redis) -> int:
    return int(await redis.hget(keys.meta(0), "sequence"))


async def stored(products):
    return [
        await products.account(ANA),
        await products.reservation(products.part),
        await products.reservation(products.late),
    ]


async def test_all_of_it_lost_is_adopted_and_can_be_restored(
    caller, redis, database, worker, reconcile, urls, tmp_path
):
    await caller.grant(0)
    await keep_journal(worker)
    products = await Products(caller, redis).happen()
    await lose(redis, await last(redis))
    before = await stored(products)
    assert [None] == [each.still for each in await adopt(*urls, "ana")]
    await keep_journal(worker)
    run = await reconcile()
    assert ("equal", []) == (run.status, run.drift)
    await redis.flushall()
    assert await restore(*urls, salvage=tmp_path / "salvage", watch=Looking()) is not None
    assert before == await stored(products)


async def test_what_was_given_back_in_lost_entries_is_not_given_back_again(
    caller, redis, database, database_url, worker, reconcile, urls
):
    products = await Products(caller, redis).happen()
    await keep_journal(worker)
    await products.refund(5)
    lost = await last(redis)
    await products.refund(1)
    await lose(redis, lost)
    await adopt(*urls, "ana")
    await keep_journal(worker)
    sequence = int(products.refunded.split("-")[2])
    total = await database.fetchval("SELECT refunded FROM refunds WHERE shard = 0 AND seq = $1", sequence)
    assert 12 == total
    await redis.delete(keys.refunded(0, products.refunded))  # as a day does
    caller.terms = await admit(database, redis)
    products.spent.refunded = total
    refund = Refund(shard=0, account=ANA, originals=[products.spent], amount=9)
    (answer,) = (await caller.call([refund])).results
    assert isinstance(answer, Declined)
    assert 8 == answer.facts["left"]


async def test_what_was_changed_again_later_is_until_then_as_postgresql_has_it(
    caller, redis, worker, connection, urls
):
    products = await Products(caller, redis).happen()
    await keep_journal(worker)
    standing = """
    SELECT overdraft_limit, expires_at FROM accounts JOIN reservations USING (account) WHERE id::text = $1
    """
    before = await connection.fetchrow(standing, products.part)
    await products.ask(Deduct(shard=0, account=ANA, amount=1), products.capture(2, "second"))
    lost = await last(redis)
    await products.ask(
        Configure(shard=0, account=ANA, overdraft_limit=100),
        Extend(shard=0, reservation=products.part, ttl_ms=80_000_000),
    )
    await lose(redis, lost)
    await adopt(*urls, "ana")
    assert before == await connection.fetchrow(standing, products.part)
    await keep_journal(worker)
    assert 100 == (await connection.fetchrow(standing, products.part))["overdraft_limit"]


async def test_nothing_that_was_written_beside_a_job_comes_to_stand_beside_another(
    caller, redis, worker, urls, tmp_path
):
    """Which entry an extension was nobody remembers: it may take any place that no job had."""
    mine, others = new_reservation_id(0, NOW_MS), {}
    note = seal(None, "image-1", {"who": "somebody else"})
    about = {"resource": "image-1", "metadata": {"who": "somebody else"}}
    for name in ("aaa", "zzz"):
        others[name] = new_reservation_id(0, NOW_MS)
        reserve = Reserve(
            shard=0,
            account=name,
            reservation=others[name],
            amount=1,
            **about,
            notes=note.text,
            notes_hash=note.hash,
        )
        await caller.call([Grant(shard=0, account=name, amount=1, open=True), reserve])
    await caller.call([Grant(shard=0, account=ANA, amount=5, open=True)])
    await keep_journal(worker)
    why = seal(reason="the job has failed")
    cancel = Cancel(
        shard=0, reservation=mine, reason="the job has failed", notes=why.text, notes_hash=why.hash
    )
    await caller.call([
        Reserve(shard=0, account=ANA, reservation=mine, amount=5),
        *(Extend(shard=0, reservation=each, ttl_ms=80_000_000) for each in others.values()),
        cancel,
    ])  # fmt: skip
    await lose(redis, await last(redis))
    jobs = [keys.reservation(0, each) for each in (mine, *others.values())]
    before = await redis.mget(jobs)
    await adopt(*urls, "ana")
    await redis.flushall()
    assert await restore(*urls, salvage=tmp_path / "salvage", watch=Looking()) is not None
    decode = msgspec.json.Decoder(Reservation).decode
    assert list(map(decode, before)) == list(map(decode, await redis.mget(jobs)))


@pytest.mark.parametrize("kept", range(7))
async def test_wherever_the_stream_begins_again_the_rest_is_taken_back_right(
    caller, redis, worker, reconcile, urls, kept
):
    """Of an entry that goes on from a lost one nobody knows what was before it."""
    products = await Products(caller, redis).happen()
    await keep_journal(worker)
    calls = [
        [Configure(shard=0, account=ANA, overdraft_limit=100)],
        [Deduct(shard=0, account=ANA, amount=50), products.capture(2, "second")],
        [Extend(shard=0, reservation=products.part, ttl_ms=80_000_000)],
        [Refund(shard=0, account=ANA, originals=[products.spent], amount=3)],
        [Configure(shard=0, account=ANA, overdraft_limit=200, low_balance=0, status="frozen")],
        [products.capture(1, "third"), Configure(shard=0, account=ANA, status="active")],
        [
            Deduct(shard=0, account=ANA, amount=120),
            Extend(shard=0, reservation=products.part, ttl_ms=86_400_000),
        ],
    ]
    ends = []
    for operations in calls:
        await products.ask(*operations)
        ends.append(await last(redis))
    before = await stored(products)
    await lose(redis, ends[kept])
    assert [None] == [each.still for each in await adopt(*urls, "ana")]
    await keep_journal(worker)
    run = await reconcile()
    assert ("equal", []) == (run.status, run.drift)
    assert before == await stored(products)

"""PostgreSQL went back further than the stream goes: what Redis has is gone on with, entry by entry."""

from functools import partial

import msgspec
import pytest

from app.ledger import keys
from app.ledger.entries import Entry, chained, genesis
from app.ledger.operations import Cancel, Confirm, Grant, Reserve
from app.ledger.replies import Account
from app.ledger.shards import new_reservation_id
from persistence.admission import admit
from persistence.backing import PostgresBacking
from persistence.fences import unfence
from persistence.journal import Outcome
from persistence.reconcile.adopt import adopt, losses
from persistence.reconcile.lost import NotAdoptable
from persistence.restore import restore
from persistence.verify import verify
from tests.integration.books import Shop
from tests.integration.dying import Killed, dies_at
from tests.integration.journal.workers import SHARDS, keep_journal
from tests.integration.reconcile.past import ANA, BOB, NOW_MS
from tests.integration.restore.looking import Looking
from tests.integration.streams import replace_server


@pytest.fixture
def urls(database_url, redis_url):
    return database_url, redis_url


async def lose(redis, shop, worker, *, seed_calls=30, lost_calls=30, kept_calls=30, kept=40):
    """PostgreSQL has the first calls; the stream has the last `kept` entries. A failover in between."""
    await shop.trade(seed_calls)
    await keep_journal(worker)
    await shop.trade(lost_calls + kept_calls)
    for shard in range(SHARDS):
        last = int(await redis.hget(keys.meta(shard), "sequence"))
        await redis.xtrim(keys.journal(shard), minid=f"{last - kept + 1}-0", approximate=False)
    await replace_server(redis)


async def state(redis):
    found = {}
    async for key in redis.scan_iter(match="*"):
        if b":account:" in key or b":reservation:" in key:
            found[key] = await redis.get(key)
    return found


async def assert_whole(connection, ledger_id):
    """Sequences, versions, links and hashes without a gap, over what was adopted too."""
    for shard in range(SHARDS):
        rows = await connection.fetch("SELECT * FROM journal WHERE shard = $1 ORDER BY seq", shard)
        assert list(range(1, len(rows) + 1)) == [row["seq"] for row in rows]
        head, previous = genesis(ledger_id.bytes, shard), "genesis"
        for row in rows:
            entry = msgspec.json.decode(row["entry"], type=Entry)
            head = chained(head, shard, row["seq"], row["entry"].encode())
            assert head == row["hash"]
            assert previous == (entry.previous_nonce or entry.nonce)
            previous = entry.nonce
    each_one = "SELECT account, array_agg(version ORDER BY version) FROM journal GROUP BY 1"
    versions = await connection.fetch(each_one)
    assert all(each[1] == list(range(1, len(each[1]) + 1)) for each in versions)


@pytest.mark.parametrize(("seed", "kept"), [(1, 0), (2, 25)])
async def test_both_sides_are_equal_again_and_nothing_in_redis_has_moved(
    caller, redis, worker, connection, reconcile, urls, seed, kept
):
    await lose(redis, Shop(caller, SHARDS, seed=seed), worker, kept=kept)
    found = await losses(*urls)
    assert list(range(SHARDS)) == [each.shard for each in found]
    before = await state(redis)
    done = await adopt(*urls, "ana")
    assert [None] * SHARDS == [each.still for each in done]
    assert before == await state(redis)
    await keep_journal(worker)
    assert [] == (await verify(connection, since=1)).findings
    await assert_whole(connection, await connection.fetchval("SELECT id FROM ledger"))
    run = await reconcile()
    assert [] == [(each.account_id, each.field, each.redis, each.journal) for each in run.drift]
    assert "equal" == run.status
    lost = sum(each.loss.last - each.loss.first + 1 for each in done)
    adopted = "SELECT count(*) FROM journal WHERE kind = 'adjusted' AND entry::jsonb ? 'adopted'"
    assert lost == await connection.fetchval(adopted)
    assert [] == await losses(*urls)
    assert [] == await adopt(*urls, "ana")


async def test_an_entry_that_is_no_text_does_not_stop_it_and_is_kept(
    caller, redis, worker, connection, reconcile, urls
):
    """It is the first one of the stream, whose call is lost."""
    await lose(redis, Shop(caller, SHARDS, seed=2), worker, kept=25)
    name = keys.journal(0)
    rest = await redis.xrange(name)
    await redis.delete(name)
    await redis.xadd(name, {"entry": b'{"kind":"\xff\x00', "notes": b"\xfe"}, id=rest[0][0])
    for entry_id, fields in rest[1:]:
        await redis.xadd(name, fields, id=entry_id)
    done = await adopt(*urls, "ana")
    assert [None] * SHARDS == [each.still for each in done]
    first = int(rest[0][0].split(b"-")[0])
    kept = await connection.fetchrow("SELECT entry, notes FROM orphans WHERE shard = 0 AND seq = $1", first)
    assert tuple(kept) == ('{"kind":"\\xff\\x00', "\\xfe")
    await keep_journal(worker)
    assert "equal" == (await reconcile()).status


async def test_the_ledger_goes_on_after_it(caller, redis, database, worker, reconcile, urls):
    shop = Shop(caller, SHARDS, seed=5)
    await lose(redis, shop, worker)
    await adopt(*urls, "ana")
    caller.terms = await admit(database, redis)
    await shop.trade(30)
    await keep_journal(worker)
    run = await reconcile()
    assert [] == [(each.account_id, each.field, each.redis, each.journal) for each in run.drift]
    assert "equal" == run.status


@pytest.mark.parametrize("step", ["after look", "after commit", "after lifting"])
async def test_an_adoption_that_died_anywhere_is_begun_again(
    caller, redis, database, worker, reconcile, urls, step
):
    await lose(redis, Shop(caller, SHARDS, seed=6), worker)
    if step == "after lifting":
        await adopt(*urls, "ana")
    else:
        with pytest.raises(Killed):
            await adopt(*urls, "ana", barrier=dies_at(step))
        await adopt(*urls, "ana")
    await unfence(database, redis, None, "what was adopted is open")
    await keep_journal(worker)
    run = await reconcile()
    assert [] == [(each.account_id, each.field, each.redis, each.journal) for each in run.drift]
    assert "equal" == run.status


async def test_another_history_is_not_adopted(caller, redis, worker, connection, urls):
    await caller.call([Grant(shard=0, account="quiet", amount=5, open=True)])
    await lose(redis, Shop(caller, SHARDS, seed=7), worker)
    rows = await connection.fetchval("SELECT count(*) FROM journal")
    key = keys.account(0, "quiet")
    sound = msgspec.json.decode(await redis.get(key), type=Account)
    for changes, why in (
        ({"available": 6}, "quiet: another history"),
        ({"version": 2}, "versions ahead"),
        (None, "quiet: another history"),
    ):
        if changes is None:
            await redis.delete(key)
        else:
            await redis.set(key, msgspec.json.encode(msgspec.structs.replace(sound, **changes)))
        with pytest.raises(NotAdoptable, match=why):
            await adopt(*urls, "ana")
    assert rows == await connection.fetchval("SELECT count(*) FROM journal")


async def test_where_nothing_is_lost_there_is_nothing_to_adopt(shop, urls):
    assert [] == await losses(*urls)
    assert [] == await adopt(*urls, "ana")


async def test_a_repeated_request_is_not_answered_by_what_took_the_place_of_its_entry(
    caller, redis, database, worker, connection, urls
):
    await lose(redis, Shop(caller, SHARDS, seed=8), worker)
    await adopt(*urls, "ana")
    backing = PostgresBacking(database, partial(admit, database, redis))
    last = await connection.fetchval("SELECT max(seq) FROM journal WHERE shard = 0 AND kind = 'adjusted'")
    assert {(0, 1)} == (await backing.recorded([(0, last), (0, 1)])).keys()


async def test_reservations_of_which_redis_has_forgotten_the_ending_are_adopted_and_restored(
    past, caller, redis, worker, connection, reconcile, urls, tmp_path
):
    """A day after an ending Redis knows nothing of it; what PostgreSQL has open has ended all the same."""
    parted = new_reservation_id(0, NOW_MS + 9)
    await caller.call([
        Reserve(shard=0, account=ANA, reservation=parted, amount=9),
        Confirm(shard=0, reservation=parted, amount=2, final=False, key="first", fingerprint="f"),
    ])  # fmt: skip
    await keep_journal(worker)
    await caller.call([
        Confirm(shard=0, reservation=past.open, amount=3),
        Cancel(shard=0, reservation=past.other),
        Confirm(shard=0, reservation=parted, amount=1),
    ])  # fmt: skip
    await caller.call([Grant(shard=0, account=ANA, amount=1)])
    await redis.xtrim(keys.journal(0), maxlen=1, approximate=False)
    await replace_server(redis)
    forgotten = [past.open, past.other, parted]
    await redis.delete(*(keys.reservation(0, each) for each in forgotten))
    assert [None] == [each.still for each in await adopt(*urls, "ana")]
    await keep_journal(worker)
    run = await reconcile()
    assert ("equal", []) == (run.status, run.drift)
    rows = "SELECT status, held, captured FROM reservations WHERE id::text = ANY($1) ORDER BY id"
    ended = [("cancelled", 0, 0), ("cancelled", 0, 0), ("cancelled", 0, 2)]
    assert ended == [tuple(row) for row in await connection.fetch(rows, sorted(forgotten))]
    assert [] == (await verify(connection, since=1)).findings
    before = await past.account(ANA), await past.account(BOB)
    await redis.flushall()
    assert await restore(*urls, salvage=tmp_path / "salvage", watch=Looking()) is not None
    assert before == (await past.account(ANA), await past.account(BOB))
    assert "equal" == (await reconcile()).status


async def test_a_redis_that_is_alive_stands_still_while_it_is_adopted(caller, redis, worker, reconcile, urls):
    shop = Shop(caller, SHARDS, seed=4)
    await shop.trade(20)
    await keep_journal(worker)
    await shop.trade(30)
    for shard in range(SHARDS):
        await redis.xtrim(keys.journal(shard), maxlen=10, approximate=False)
    assert [Outcome.CONDEMNED] * SHARDS == await keep_journal(worker)
    grants = [Grant(shard=shard, account=f"new-{shard}", amount=1, open=True) for shard in range(SHARDS)]
    refused = []

    async def call(_step):
        reply = await caller.call(grants)
        words = {getattr(each, "word", "applied") for each in reply.results}
        refused.append(reply.status == "not_admitted" or words == {"ledger_fenced"})

    done = await adopt(*urls, "ana", barrier=call)
    assert [True] * 2 * SHARDS == refused
    assert [None] * SHARDS == [each.still for each in done]
    await keep_journal(worker)
    assert "equal" == (await reconcile()).status

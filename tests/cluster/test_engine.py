"""The engine on a real cluster: a line for each shard, and tasks on other servers than their reservations."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest

from app.ledger.asked import Asked
from app.ledger.errors import (
    QUEUE,
    BatchAcrossShards,
    InsufficientCredits,
    InternalError,
    LedgerUnavailable,
    Overloaded,
    ReservationNotFound,
    TaskConflict,
)
from app.ledger.ledger import Ledger
from app.ledger.operations import Bind, Cancel, Claim, Confirm, Deduct, Extend, Grant, Reserve
from app.ledger.receipts import Receipt
from app.ledger.shards import new_reservation_id, shard_of, shard_of_task
from app.ledger.tasks import Wanted
from tests.chaos.scenes import answered
from tests.cluster.calling import SHARDS
from tests.engine import Streams

F, G = "f" * 43, "g" * 43
ACCOUNTS = [
    next(f"a{shard}-{i}" for i in count() if shard_of(f"a{shard}-{i}", SHARDS) == shard)
    for shard in range(SHARDS)
]
"""One in each shard."""

ANA = ACCOUNTS[0]
ELSEWHERE = next(f"t{i}" for i in count() if shard_of_task("fal", f"t{i}", SHARDS) == 1)
"""A task that lives in another shard than ana."""


@pytest.fixture
async def streams(cluster, redis) -> Streams:
    streams = Streams(redis, SHARDS, servers=[cluster.replid_of(shard) for shard in range(SHARDS)])
    await streams.found()
    return streams


@pytest.fixture
async def ledger(redis, streams) -> AsyncIterator[Ledger]:
    """With 100 credits in each shard."""
    ledger = Ledger(redis, streams)
    await ledger.start()
    for account in ACCOUNTS:
        await ledger.grant(Grant(account=account, amount=100))
    yield ledger
    await ledger.stop()


async def a_reserve(ledger: Ledger, amount: int = 1, **more) -> Reserve:
    """Of ana, for a task that lives elsewhere."""
    id_ = await ledger.new_reservation_id(ANA)
    return Reserve(
        **{"account": ANA, "reservation": id_, "amount": amount, "task": ELSEWHERE, "provider": "fal", **more}
    )


async def available(ledger: Ledger, account: str = ANA) -> int:
    return (await ledger.balance(account)).account.available


async def test_what_many_ask_at_once_of_all_shards_is_each_done_once(ledger, streams):
    async def ask(number: int) -> None:
        account = ACCOUNTS[number % SHARDS]
        await ledger.deduct(Deduct(account=account, amount=1, key=f"k{number}", fingerprint=F))
        again = await ledger.deduct(Deduct(account=account, amount=1, key=f"k{number}", fingerprint=F))
        assert again.replayed

    await asyncio.gather(*(ask(number) for number in range(40 * SHARDS)))
    assert [60] * SHARDS == [await available(ledger, account) for account in ACCOUNTS]
    assert [41] * SHARDS == [len(await streams.entries(shard)) for shard in range(SHARDS)]


async def test_a_batch_is_cut_by_shard_and_keeps_the_order_in_each(ledger):
    asked = [Deduct(account=ACCOUNTS[i % SHARDS], amount=1 + i) for i in range(4 * SHARDS)]
    batched = await ledger.batch(asked)
    assert [each.amount for each in asked] == [each.entry.amount for each in batched.results]
    versions = [each.entry.version for each in batched.results]
    assert [2, 3, 4, 5] == versions[0::SHARDS] == versions[1::SHARDS]


async def test_an_atomic_batch_is_of_one_shard_wherever_its_tasks_live(ledger):
    with pytest.raises(BatchAcrossShards):
        await ledger.batch([Deduct(account=each, amount=1) for each in ACCOUNTS[:2]], atomic=True)
    made = await a_reserve(ledger)
    batched = await ledger.batch([Deduct(account=ANA, amount=1), made], atomic=True)
    assert 98 == await available(ledger)
    assert made.reservation == batched.results[1].reservation.id == await ledger.locate("fal", ELSEWHERE)
    failed = await ledger.batch(
        [await a_reserve(ledger, task="t"), Deduct(account=ANA, amount=1000)], atomic=True
    )
    assert 1 == failed.failed
    with pytest.raises(ReservationNotFound):
        await ledger.locate("fal", "t")


async def test_a_task_has_one_reservation_wherever_it_lives(ledger):
    first = await ledger.reserve(await a_reserve(ledger))
    assert first.reservation.id == await ledger.locate("fal", ELSEWHERE)
    with pytest.raises(TaskConflict) as refused:
        await ledger.reserve(await a_reserve(ledger))
    assert {"reservation": first.reservation.id} == refused.value.facts
    failed = await ledger.batch([Deduct(account=ANA, amount=1), await a_reserve(ledger)], atomic=True)
    assert (1, TaskConflict) == (failed.failed, type(failed.results[1]))
    assert 99 == await available(ledger)
    await ledger.confirm(Confirm(reservation=first.reservation.id))


async def test_of_many_that_want_a_task_at_once_one_gets_it(ledger):
    outcomes = await asyncio.gather(
        *[ledger.reserve(await a_reserve(ledger)) for _ in range(20)], return_exceptions=True
    )
    won = [each for each in outcomes if not isinstance(each, Exception)]
    assert 1 == len(won)
    assert won[0].reservation.id == await ledger.locate("fal", ELSEWHERE)
    assert {TaskConflict, LedgerUnavailable} >= {type(each) for each in outcomes if each is not won[0]}
    assert 99 == await available(ledger)


async def test_what_was_answered_to_a_key_is_answered_again_though_the_task_is_taken(ledger):
    first = await ledger.reserve(await a_reserve(ledger, key="k", fingerprint=F))
    again = await ledger.reserve(await a_reserve(ledger, key="k", fingerprint=F))
    assert (True, first.reservation.id) == (again.replayed, again.reservation.id)
    assert first.reservation.id == await ledger.locate("fal", ELSEWHERE)
    batched = await ledger.batch(
        [await a_reserve(ledger, key="k", fingerprint=F), Deduct(account=ANA, amount=1)]
    )
    assert [True, False] == [each.replayed for each in batched.results]
    assert 98 == await available(ledger)


async def test_a_reservation_that_is_refused_gives_its_task_up(ledger):
    with pytest.raises(InsufficientCredits):
        await ledger.reserve(await a_reserve(ledger, 101))
    with pytest.raises(ReservationNotFound):
        await ledger.locate("fal", ELSEWHERE)
    assert (await ledger.reserve(await a_reserve(ledger))).reservation.id == await ledger.locate(
        "fal", ELSEWHERE
    )


@pytest.mark.parametrize("atomic", [None, False, True])
async def test_what_is_not_taken_on_while_memory_is_short_leaves_no_claim(ledger, redis, atomic):
    ledger.heed_memory(is_short=True)
    reserve = await a_reserve(ledger)
    if atomic is None:
        with pytest.raises(Overloaded):
            await ledger.reserve(reserve)
    elif atomic:
        with pytest.raises(Overloaded):
            await ledger.batch([reserve], atomic=True)
    else:
        (outcome,) = (await ledger.batch([reserve])).results
        assert isinstance(outcome, Overloaded)
    with pytest.raises(ReservationNotFound):
        await ledger.locate("fal", ELSEWHERE)
    assert not [name async for name in redis.scan_iter("lastro:*:claim:*", target_nodes="primaries")]


async def test_what_finds_the_queue_full_leaves_no_claim(ledger, monkeypatch):
    send = ledger._batcher.submit_all

    def full(operations, *, atomic=False):
        if any(isinstance(each, Reserve) for each in operations):
            raise Overloaded(cause=QUEUE)
        return send(operations, atomic=atomic)

    monkeypatch.setattr(ledger._batcher, "submit_all", full)
    for asked in (
        ledger.reserve(await a_reserve(ledger)),
        ledger.batch([await a_reserve(ledger)], atomic=True),
    ):
        with pytest.raises(Overloaded):
            await asked
        with pytest.raises(ReservationNotFound):
            await ledger.locate("fal", ELSEWHERE)


async def test_a_claim_whose_process_died_gives_way_once_its_reservation_can_no_longer_come(ledger):
    claim = Claim(
        shard=1,
        task=ELSEWHERE,
        provider="fal",
        reservation=new_reservation_id(0, ledger.now_ms()),
        keep_ms=60_000,
        young_ms=400,
    )
    await ledger._batcher.submit(claim)

    async def a_second_time() -> Receipt:
        return await ledger.reserve(await a_reserve(ledger, key="k", fingerprint=F))

    for operation in (await a_reserve(ledger), await a_reserve(ledger, key="k", fingerprint=F)):
        with pytest.raises(LedgerUnavailable, match="just claimed"):
            await ledger.reserve(operation)
    assert 100 == await available(ledger)
    made = await answered(a_second_time)
    assert (False, made.reservation.id) == (made.replayed, await ledger.locate("fal", ELSEWHERE))


@pytest.mark.parametrize("error", [LedgerUnavailable, InternalError])
async def test_a_claim_of_which_nobody_can_tell_whether_it_was_used_gives_way_to_nobody(
    ledger, monkeypatch, error
):
    first = await ledger.reserve(await a_reserve(ledger))

    async def silent(wanted):
        return dict.fromkeys(wanted, error())

    with monkeypatch.context() as patch:
        patch.setattr(ledger._present, "all_reservations", silent)
        with pytest.raises(error):
            await ledger.reserve(await a_reserve(ledger))
    assert first.reservation.id == await ledger.locate("fal", ELSEWHERE)
    assert 99 == await available(ledger)


async def test_a_request_that_is_repeated_goes_on_with_its_claim_and_both_make_one_reservation(ledger):
    first = await a_reserve(ledger, key="k", fingerprint=F)
    await ledger._batches._tasks.claim([Wanted(Asked(first), "fal", ELSEWHERE)], SHARDS)
    first.shard = 0  # it is on its way
    with pytest.raises(LedgerUnavailable, match="just claimed"):
        await ledger.reserve(await a_reserve(ledger, key="another", fingerprint=F))
    again = await ledger.reserve(await a_reserve(ledger, key="k", fingerprint=F))
    assert (False, first.reservation) == (again.replayed, again.reservation.id)
    late, _ = await ledger._batcher.submit(first)
    assert (True, again.sequence) == (late.replayed, late.sequence)
    assert 99 == await available(ledger)
    assert first.reservation == await ledger.locate("fal", ELSEWHERE)


async def test_a_reservation_whose_claim_is_too_old_is_not_made(ledger):
    late = await a_reserve(ledger)
    late.shard, late.claimed_until_ms = 0, ledger.now_ms() - 60_000
    result, _ = await ledger._batcher.submit(late)
    assert "ledger_unavailable" == result.word
    assert 100 == await available(ledger)


async def test_a_task_is_bound_later_and_kept_for_as_long_as_its_reservation(ledger, redis):
    made = await ledger.reserve(await a_reserve(ledger, task=None, provider=None, ttl_ms=60_000))
    bound = Bind(reservation=made.reservation.id, task=ELSEWHERE, provider="fal")
    assert ELSEWHERE == (await ledger.bind(bound)).reservation.task
    assert (await ledger.bind(Bind(reservation=made.reservation.id, task=ELSEWHERE, provider="fal"))).replayed
    other = await ledger.reserve(await a_reserve(ledger, task=None, provider=None))
    with pytest.raises(TaskConflict):
        await ledger.bind(Bind(reservation=other.reservation.id, task=ELSEWHERE, provider="fal"))
    (name,) = [f"lastro:{{1}}:task:fal:{ELSEWHERE}"]
    await redis.pexpire(name, 90_000_000)
    extended = await ledger.extend(Extend(reservation=made.reservation.id, ttl_ms=86_400_000))
    assert 1 == extended.reservation.extensions
    assert await redis.pttl(name) > 170_000_000
    assert made.reservation.id == await ledger.locate("fal", ELSEWHERE)
    two = await ledger.batch(
        [Extend(reservation=made.reservation.id, ttl_ms=86_400_000), Cancel(reservation=made.reservation.id)]
    )
    assert ["extended", "cancelled"] == [each.entry.kind for each in two.results]


async def test_a_server_is_taught_the_script_while_another_is_away(cluster, ledger):
    cluster.server_of(1).kill()
    cluster.ask(cluster.server_of(0), "SCRIPT", "FLUSH")
    assert 99 == (await ledger.deduct(Deduct(account=ANA, amount=1))).account.available

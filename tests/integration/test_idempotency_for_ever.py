"""I4 with both stores: what Redis has forgotten, PostgreSQL answers; refunds included."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import asyncpg
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from app.embedded import Postgres
from app.ledger import keys
from app.ledger.backing import Extent, Keyed, Recorded
from app.ledger.connection import connect
from app.ledger.entries import seal
from app.ledger.errors import (
    KEY,
    ExceedsTransaction,
    IdempotencyMismatch,
    JournalBacklogged,
    LedgerUnavailable,
)
from app.ledger.ledger import Ledger
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Reserve,
    Write,
)
from app.ledger.receipts import Receipt
from app.ledger.replies import Reservation
from app.ledger.shards import new_reservation_id, shard_of
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from tests.engine import Clock, script_with_clock
from tests.integration.ledgers import journal_all, process

SHARDS = 2


DAY_MS = 86_400_000
F, G = "f" * 16, "g" * 16


@pytest.fixture
async def born(database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)


@pytest.fixture
async def ledger(born, database, redis_url):
    """With 100 credits for ana."""
    async with process(database, redis_url) as ledger:
        await ledger.grant(Grant(account="ana", amount=100))
        yield ledger


async def a_day_passes(database_url: str, redis_url: str, redis: Redis) -> None:
    """The journal has everything; Redis forgets what it remembers for a day."""
    await journal_all(database_url, redis_url)
    for shard in range(SHARDS):
        await redis.xtrim(keys.journal(shard), maxlen=0, approximate=False)
    for kind in ("operation", "refunded", "reservation", "task"):
        for name in await redis.keys(f"lastro:*:{kind}:*"):
            if kind != "reservation" or b'"pending"' not in await redis.get(name):
                await redis.delete(name)


async def operations(ledger: Ledger, prefix: str, at_ms: int) -> list[Write]:
    """One of each verb, in an order in which they are possible, with keys that hold for ever."""
    first, second, third = [await ledger.new_reservation_id("ana") for _ in range(3)]
    for id_ in (first, second):
        await ledger.reserve(Reserve(account="ana", reservation=id_, amount=9))
    spent = await ledger.deduct(Deduct(account="ana", amount=8))
    notes = seal("a bonus")
    assert notes is not None
    asked: list[Write] = [
        Grant(account="ana", amount=5, key=f"{prefix}-g", notes=notes.text, notes_hash=notes.hash),
        Adjust(account="ana", amount=-2, key=f"{prefix}-a"),
        replace(await ledger.refunding(spent.transaction), amount=3, key=f"{prefix}-r"),
        Deduct(account="ana", amount=4),
        Reserve(account="ana", reservation=third, amount=3),
        Bind(reservation=first, task=f"{prefix}-t", provider="fal"),
        Extend(reservation=first, ttl_ms=3_600_000),
        Confirm(reservation=first, amount=2, final=False),
        Confirm(reservation=first, amount=1),
        Cancel(reservation=second),
    ]
    return [
        replace(each, key=each.key or new_reservation_id(0, at_ms + i), fingerprint=F)
        for i, each in enumerate(asked)
    ]


def show(receipt: Receipt) -> tuple:
    return receipt.transaction, receipt.entry, receipt.notes


async def ask(ledger: Ledger, operation: Write) -> Receipt:
    return await getattr(ledger, type(operation).__name__.lower())(replace(operation))


async def test_each_verb_is_answered_for_ever_as_the_first_time_alone_and_in_batches(
    ledger, database_url, redis_url, redis
):
    asked = await operations(ledger, "one", time.time_ns() // 1_000_000 - DAY_MS)
    firsts = [await ask(ledger, each) for each in asked]
    await a_day_passes(database_url, redis_url, redis)
    before = (await ledger.balance("ana")).account
    for first, operation in zip(firsts, asked, strict=True):
        again = await ask(ledger, operation)
        assert (show(first), True) == (show(again), again.replayed)
        with pytest.raises(IdempotencyMismatch):
            await ask(ledger, replace(operation, fingerprint=G))
    for atomic in (False, True):
        batched = await ledger.batch([replace(each) for each in asked], atomic=atomic)
        assert list(map(show, firsts)) == list(map(show, batched.results))
        assert [(before, True)] * len(asked) == [(each.account, each.replayed) for each in batched.results]
    assert before == (await ledger.balance("ana")).account


async def test_a_refund_finds_what_was_spent_in_redis_or_in_the_journal_and_what_went_back_before(
    ledger, database_url, redis_url, redis
):
    spent = await ledger.deduct(Deduct(account="ana", amount=40))
    await ledger.refund(replace(await ledger.refunding(spent.transaction), amount=10))
    await journal_all(database_url, redis_url)
    await ledger.refund(replace(await ledger.refunding(spent.transaction), amount=10))
    await a_day_passes(database_url, redis_url, redis)
    assert 20 == (await ledger.refunding(spent.transaction)).originals[0].refunded
    each = [ledger.refund(replace(await ledger.refunding(spent.transaction), amount=7)) for _ in range(5)]
    answers = await asyncio.gather(*each, return_exceptions=True)
    assert [Receipt, Receipt] == [type(each) for each in answers if not isinstance(each, ExceedsTransaction)]
    assert 94 == (await ledger.balance("ana")).account.available


async def test_all_that_a_forgotten_reservation_has_spent_goes_back(ledger, database_url, redis_url, redis):
    id_ = await ledger.new_reservation_id("ana")
    await ledger.reserve(Reserve(account="ana", reservation=id_, amount=50))
    part = Confirm(reservation=id_, amount=10, final=False, key="part", fingerprint=F)
    first = await ledger.confirm(replace(part))
    await ledger.confirm(Confirm(reservation=id_, amount=5))
    await a_day_passes(database_url, redis_url, redis)
    assert isinstance(await ledger.find(id_), Reservation)
    assert show(first) == show(await ledger.confirm(part))
    refund = await ledger.refund(await ledger.refunding(reservation=id_))
    assert (5, 100) == (refund.entry.amount, refund.account.available)


class Overtaken(PostgresBacking):
    """Whose worker wakes up just after it was asked for a key, and commits what it had not."""

    commit: Callable[[], Awaitable[object]]

    async def answered(self, keys: Sequence[Keyed]) -> dict[Keyed, Recorded | Extent]:
        found = await super().answered(keys)
        await self.commit()
        return found


async def test_after_a_weekend_that_all_stood_still_a_key_is_not_used_a_second_time(
    born, database, database_url, redis_url, redis
):
    """The first entry is committed between the question for its key and the call."""
    backing = Overtaken(database, partial(admission.admit, database, redis))
    backing.commit = partial(journal_all, database_url, redis_url)
    async with connect(redis_url) as own:
        ledger = Ledger(own, backing, script=script_with_clock())
        await ledger.start()
        try:
            await ledger.grant(Grant(account="ana", amount=100))
            grant = Grant(account="ana", amount=5, key="k", fingerprint=F)
            grant.shard = shard_of("ana", SHARDS)
            first, _ = await ledger._batcher.submit(replace(grant))  # the worker stands still already
            await Clock(redis).advance(2 * DAY_MS)
            await redis.delete(*await redis.keys("lastro:*:operation:*"))
            with pytest.raises(JournalBacklogged):
                await ledger.grant(replace(grant))
            again = await ledger.grant(replace(grant))
            assert (first.sequence, True, 105) == (again.sequence, again.replayed, again.account.available)
        finally:
            await ledger.stop()


TASK = {"task": "order-17", "provider": "fal"}


@pytest.mark.parametrize("verb", [Confirm, Cancel, Extend])
@pytest.mark.parametrize(("later", "told"), [("ana", True), ("bia", False)], ids=["the same", "another"])
async def test_a_repeated_request_by_task_means_the_reservation_that_the_task_had_then(
    ledger, database_url, redis_url, redis, verb, later, told
):
    """Though it belongs to a later one by now: to a second rendering of the order, or to a stranger's."""
    await ledger.grant(Grant(account="bia", amount=100))
    more = {"ttl_ms": 3_600_000} if verb is Extend else {}
    key = {"key": new_reservation_id(0, time.time_ns() // 1_000_000 - DAY_MS), "fingerprint": F}

    async def by_task(**key: str) -> Receipt:
        return await ask(ledger, verb(reservation=await ledger.locate("fal", "order-17"), **more, **key))

    async def reserve(account: str) -> str:
        made = await ledger.new_reservation_id(account)
        await ledger.reserve(Reserve(account=account, reservation=made, amount=9, **TASK))
        return made

    earlier = await reserve("ana")
    first = await by_task(**key)
    if verb is Extend:
        await ledger.confirm(Confirm(reservation=earlier))
    await a_day_passes(database_url, redis_url, redis)
    latest = await reserve(later)
    await journal_all(database_url, redis_url)
    assert latest == await ledger.locate("fal", "order-17")
    if told:
        again = await by_task(**key)
        assert (show(first), True) == (show(again), again.replayed)
        assert await ledger.find(earlier) == again.reservation
    else:
        with pytest.raises(IdempotencyMismatch):
            await by_task(**key)
    assert ("pending", 0) == ((found := await ledger.find(latest)).status, found.extensions)
    new = await by_task(**key | {"fingerprint": G})
    assert (latest, False) == (new.entry.reservation, new.replayed)


async def test_while_postgresql_is_away_keys_that_hold_for_ever_are_unavailable_and_the_rest_goes_on(
    own_postgres: Postgres, redis_url
):
    await give_birth(own_postgres.url, redis_url, SHARDS)
    now_ms = time.time_ns() // 1_000_000
    async with (
        asyncpg.create_pool(own_postgres.url, min_size=0, max_size=4) as pool,
        process(pool, redis_url) as ledger,
        connect(redis_url) as redis,
    ):
        await ledger.grant(Grant(account="ana", amount=100))
        old = await operations(ledger, "one", now_ms - DAY_MS)
        just_granted = Grant(account="ana", amount=1, key="just now", fingerprint=F)
        first = await ledger.grant(replace(just_granted))
        spent = await ledger.deduct(Deduct(account="ana", amount=8))
        own_postgres.kill()
        sequences = [await redis.hget(keys.meta(shard), "sequence") for shard in range(SHARDS)]
        for operation in old:
            with pytest.raises(LedgerUnavailable) as away:
                await ask(ledger, operation)
            assert KEY == away.value.facts["cause"]
        with pytest.raises(LedgerUnavailable):
            await ledger.batch([Deduct(account="ana", amount=1), old[0]], atomic=True)
        assert sequences == [await redis.hget(keys.meta(shard), "sequence") for shard in range(SHARDS)]
        again = await ledger.grant(just_granted)
        assert (show(first), True) == (show(again), again.replayed)
        young = new_reservation_id(0, now_ms)
        await ledger.deduct(Deduct(account="ana", amount=1, key=young, fingerprint=F))
        refund = await ledger.refund(await ledger.refunding(spent.transaction))
        assert 8 == refund.entry.amount
        own_postgres.restart()

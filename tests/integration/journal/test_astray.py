"""A Redis that went astray is not journaled, and fences its shard alone (I8, I9)."""

import pytest

from app.ledger import keys
from app.ledger.operations import Grant
from persistence.admission import admit
from persistence.journal import Outcome
from tests.integration.books import assert_conserved, assert_equal
from tests.integration.journal.workers import fence_of, keep_journal, rows, to_the_end
from tests.integration.streams import Caller, append, forge, put_back, replace_server, roll_back, snapshot


async def test_a_batch_read_before_a_rollback_is_not_committed_after_the_next_admission(
    database, redis, caller, worker
):
    """The first trace of the model: read 2..4, go back to 1, admit, apply other entries 2..3, commit."""
    await caller.grant(0)
    await keep_journal(worker)
    early = await snapshot(redis)
    await caller.grant(0, calls=3)

    async def barrier(name: str) -> None:
        if name == "after read":
            await roll_back(redis, early)
            terms = await admit(database, redis)
            assert terms.fences == {}
            await Caller(redis, terms).grant(0, calls=2)

    async with worker(barrier=barrier) as journal:
        assert await journal.one_batch(0) == (Outcome.MOVED, 0, 1)
    assert await rows(database) == 1
    await keep_journal(worker)
    assert await assert_equal(database, redis) == 3


async def test_a_redis_that_was_not_admitted_again_is_not_read(database, redis, caller, worker, caplog):
    caplog.set_level("INFO")
    await caller.grant(0, calls=2)
    await replace_server(redis)
    async with worker() as journal:
        assert (await journal.one_batch(0)).outcome is Outcome.REFUSED
        assert [] == [each for each in caplog.messages if "is not read" in each]
        await admit(database, redis)
        assert (await journal.one_batch(0)).rows == 2


async def test_a_second_history_fences_its_shard_and_no_other(database, redis, caller, worker):
    await caller.grant(0, calls=2)
    await caller.grant(1)
    early = await snapshot(redis)
    await caller.grant(0)
    await keep_journal(worker)
    await put_back(redis, early)
    await caller.grant(0, calls=4)
    await caller.grant(1)
    async with worker() as journal:
        assert await to_the_end(journal, 0) is Outcome.CONDEMNED
        assert (await journal.one_batch(0)).outcome is Outcome.FENCED
        assert (await journal.one_batch(1)).outcome is Outcome.DONE
    assert "Entry 4 follows call" in await fence_of(database)
    assert (await redis.hget(keys.meta(0), "fence")).decode() == await fence_of(database)
    assert (await rows(database), await rows(database, 1)) == (3, 2)
    assert await redis.xlen(keys.journal(0)) == 6
    reply = await caller.call(
        [Grant(shard=0, account="ana0", amount=1), Grant(shard=1, account="ana1", amount=1)]
    )
    assert [type(each).__name__ for each in reply.results] == ["Declined", "Applied"]


async def test_a_redis_that_fell_behind_unnoticed_fences_its_shard(database, redis, caller, worker):
    await caller.grant(0, calls=2)
    early = await snapshot(redis)
    await caller.grant(0)
    await keep_journal(worker)
    await put_back(redis, early)
    async with worker() as journal:
        assert await to_the_end(journal, 0) is Outcome.CONDEMNED
    assert "Entry 3 is in the journal, but Redis ends at 2" in await fence_of(database)


async def _append_text(redis, text: str | bytes, **more) -> None:
    await append(redis, 0, text, "nonce", **more)


async def _other_fields(redis) -> None:
    await redis.xadd(keys.journal(0), {"something": "else"}, id="3-0")
    await redis.hset(keys.meta(0), mapping={"sequence": 3, "link": "x"})


async def _grant(redis, amount: int) -> None:
    await forge(redis, 0, amount=amount, legs=[["default", 0, amount, 0]], available=amount + 2)


POISON = {
    "not json": (lambda redis: _append_text(redis, "{"), "Entry 3 cannot be read", 1),
    "not utf-8": (lambda redis: _append_text(redis, b'{"v":1,"kind":"\xff"}'), "Entry 3 cannot be read", 1),
    "unknown kind": (lambda redis: forge(redis, 0, kind="gifted"), "Entry 3 cannot be read", 2),
    "another format": (lambda redis: forge(redis, 0, v=2), "Entry 3 has format 2", 2),
    "begins no call": (lambda redis: forge(redis, 0, previous_nonce=None), "Entry 3 neither belongs to", 2),
    "unlinked": (lambda redis: forge(redis, 0, previous_nonce="0" * 16), "Entry 3 follows call 00000000", 2),
    "version": (lambda redis: forge(redis, 0, version=9), "Entry 3 is version 9 of ana0, which is at", 2),
    "balance": (lambda redis: forge(redis, 0, available=9), "Entry 3 says 9 available and 0 held in ana0", 2),
    "below zero": (
        lambda redis: forge(redis, 0, legs=[["default", 0, -5, 0]], available=-3),
        "Entry 3 takes more out of bucket default of ana0 than there is", 2,
    ),
    "holds": (
        lambda redis: forge(redis, 0, amount=0, legs=[["default", 0, -1, 1]], available=1, held=1),
        "Entry 3 is granted and changes what is held by 1", 2,
    ),
    "strange reservation": (
        lambda redis: forge(
            redis, 0, kind="cancelled", reservation="01890a5d-ac96-7000-8000-000000000000", released=0,
            legs=[], available=2,
        ),
        "Entry 3 is about reservation 01890a5d-ac96-7000-8000-000000000000, which nobody made", 2,
    ),
    "too large": (lambda redis: _grant(redis, 2**53), "Entry 3 is not what PostgreSQL takes", 2),
    "far too large": (lambda redis: _grant(redis, 2**64), "Entry 3 is not what PostgreSQL takes", 2),
    "no number": (lambda redis: _grant(redis, 2**63), "Entry 3 is not what PostgreSQL takes", 2),
    "another amount": (
        lambda redis: forge(redis, 0, amount=5), "Entry 3 is of 5 granted, and its legs move 1", 2,
    ),
    "a debt that nobody allowed": (
        lambda redis: forge(
            redis, 0, kind="deducted", amount=9, available=-7,
            legs=[["default", 0, -2, 0], ["overdraft", 0, -7, 0]],
        ),
        "Entry 3 leaves -7 available in ana0, which may owe 0", 2,
    ),
    "a refund of nothing": (
        lambda redis: forge(redis, 0, kind="refunded", refund_of="0-1-9"),
        "Entry 3 gives back 0-1-9, which is nothing before it", 2,
    ),
    "a refund of what was not spent": (
        lambda redis: forge(redis, 0, kind="refunded", refund_of="0-1-2"),
        "Entry 3 gives back 0-1-2, where ana0 has spent nothing", 2,
    ),
    "no time": (lambda redis: forge(redis, 0, at_ms=10**18), "Entry 3 is not what PostgreSQL takes", 2),
    "a null": (lambda redis: forge(redis, 0, by="a\0b"), "Entry 3 is not what PostgreSQL takes", 2),
    "notes nobody wrote": (lambda redis: forge(redis, 0, beside="{}"), "Entry 3 does not have", 2),
    "notes that are gone": (lambda redis: forge(redis, 0, notes="0" * 64), "Entry 3 does not have", 2),
    "a gap": (lambda redis: redis.xdel(keys.journal(0), "1-0"), "Entry 1 is missing: the stream goes", 0),
    "an empty stream": (lambda redis: redis.xtrim(keys.journal(0), 0), "Entry 1 is missing: the stream", 0),
    "other fields": (
        _other_fields, "Entry 3 has other fields than an entry and its notes", 1,
    ),
}  # fmt: skip


# The call before one that does not even tell its call is not known to be whole, and is not journaled either.
@pytest.mark.parametrize("poison", POISON)
async def test_a_poisonous_entry_fences_its_shard_alone_and_is_not_dropped(
    database, redis, caller, worker, poison
):
    spoil, reason, journaled = POISON[poison]
    await caller.grant(0, calls=2)
    await caller.grant(1, calls=2)
    await spoil(redis)
    stream = await redis.xrange(keys.journal(0))
    await keep_journal(worker)
    assert reason in await fence_of(database)
    assert "Nothing was dropped" in await fence_of(database)
    assert (await redis.hget(keys.meta(0), "fence")).decode() == await fence_of(database)
    assert await redis.xrange(keys.journal(0)) == stream
    assert (await rows(database), await rows(database, 1), await fence_of(database, 1)) == (
        journaled,
        2,
        None,
    )
    await assert_conserved(database)


async def test_a_row_that_is_there_already_is_a_fork_not_a_duplicate_to_be_skipped(
    database, redis, caller, worker
):
    await caller.grant(0, calls=2)
    await keep_journal(worker)
    await database.execute(
        """
        UPDATE shards SET cursor = 1, link = (SELECT entry::json ->> 'nonce' FROM journal WHERE seq = 1)
        WHERE shard = 0
        """
    )
    await database.execute("UPDATE accounts SET version = 1, available = 1 WHERE account = 'ana0'")
    await database.execute("UPDATE lots SET available = 1 WHERE account = 'ana0'")
    await keep_journal(worker)
    assert "duplicate key" in await fence_of(database)
    assert await rows(database) == 2


async def test_a_suspicion_that_is_over_when_the_lock_is_held_does_not_fence(database, redis, caller, worker):
    await caller.grant(0)
    await caller.grant(0)
    good = await snapshot(redis)
    await forge(redis, 0, version=9)

    looks = []

    async def barrier(name: str) -> None:
        looks.append(name)
        if looks.count("after read") == 4:
            await redis.restore(keys.journal(0), 0, good[keys.journal(0).encode()], replace=True)
            await redis.restore(keys.meta(0), 0, good[keys.meta(0).encode()], replace=True)

    async with worker(barrier=barrier) as journal:
        assert await to_the_end(journal, 0) is Outcome.MOVED
        assert await to_the_end(journal, 0) is Outcome.DONE
    assert await assert_equal(database, redis) == 2


async def test_a_fence_put_up_while_a_batch_was_read_refuses_its_commit(database, redis, caller, worker):
    await caller.grant(0)

    async def barrier(name: str) -> None:
        if name == "after read":
            await database.execute("UPDATE shards SET fence = 'by hand', fenced_at = now() WHERE shard = 0")

    async with worker(barrier=barrier) as journal:
        assert (await journal.one_batch(0)).outcome is Outcome.MOVED
    assert await rows(database) == 0

"""Entries reach PostgreSQL exactly once, whoever dies (I7, I8), never from a Redis that went astray (I9)."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from app.ledger import keys
from app.ledger.connection import connect as connect_redis
from app.ledger.entries import seal
from app.ledger.operations import Deduct, Grant
from app.ledger.stream import Keep
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.journal import Journal, Outcome
from persistence.session import connect
from tests.integration.books import Shop, assert_conserved, assert_equal
from tests.integration.streams import Caller, append, forge, replace_server, roll_back, snapshot

SHARDS = 3
BARRIERS = ["after cursor", "after read", "after commit"]


class Killed(Exception):
    """The worker died here."""


def dies_at(step: str):
    async def barrier(name: str) -> None:
        if name == step:
            raise Killed

    return barrier


@pytest.fixture
async def ledger(database_url, redis_url) -> str:
    return str(await give_birth(database_url, redis_url, SHARDS))


@pytest.fixture
async def caller(database, redis, ledger) -> Caller:
    return Caller(redis, await admit(database, redis))


@pytest.fixture
def worker(database_url, redis, ledger):
    """Makes workers, each with a connection of its own that goes with it."""

    @asynccontextmanager
    async def made(shards=range(SHARDS), keep=None, **options):
        connection = await connect(database_url)
        try:
            journal = Journal(connection, redis, ledger, keep=keep, **options)
            assert await journal.lock(shards) == list(shards)
            yield journal
        finally:
            await connection.close()

    return made


async def to_the_end(journal, shard: int) -> Outcome:
    """Journal one shard until there is no more to do, and return why."""
    while (outcome := (await journal.one_batch(shard)).outcome) is Outcome.MORE:
        pass
    return outcome


async def keep_journal(worker, **options) -> list[Outcome]:
    """Journal every shard until there is no more to do."""
    async with worker(**options) as journal:
        return [await to_the_end(journal, shard) for shard in range(SHARDS)]


async def rows(database, shard: int = 0) -> int:
    return await database.fetchval("SELECT count(*) FROM journal WHERE shard = $1", shard)


async def fence_of(database, shard: int = 0) -> str | None:
    return await database.fetchval("SELECT fence FROM shards WHERE shard = $1", shard)


# What is journaled


async def test_everything_that_the_script_can_do_is_journaled_and_adds_up(database, redis, caller, worker):
    shop = Shop(caller, SHARDS, seed=7)
    for _ in range(12):
        await shop.trade(calls=8)
        await keep_journal(worker)
    assert await assert_equal(database, redis) > 300


@pytest.mark.parametrize("entries_max", [1, 7, 64])
async def test_batches_end_where_calls_end(database, redis, caller, worker, entries_max):
    await Shop(caller, SHARDS, seed=11).trade(calls=40)
    await keep_journal(worker, entries_max=entries_max)
    await assert_equal(database, redis)


async def test_a_call_larger_than_a_batch_is_read_whole(database, redis, caller, worker):
    await caller.grant(0, calls=2, entries=20)
    async with worker(entries_max=4) as journal:
        assert (await journal.one_batch(0)).rows == 20
        assert (await journal.one_batch(0)).rows == 20
    await assert_equal(database, redis)


async def test_notes_stand_beside_the_entry_that_carries_their_hash(database, redis, caller, worker):
    sealed = seal(reason="birthday ☺", metadata={"campaign": "11/21"})
    await caller.call(
        [Grant(shard=0, account="ana", amount=5, open=True, notes=sealed.text, notes_hash=sealed.hash)]
    )
    await keep_journal(worker)
    assert await database.fetchval("SELECT text FROM notes WHERE shard = 0 AND seq = 1") == sealed.text
    assert "birthday" not in await database.fetchval("SELECT entry FROM journal")
    await assert_equal(database, redis)


async def test_the_largest_amounts_arrive_digit_by_digit(database, redis, caller, worker):
    largest = 2**53 - 1
    await caller.call([Grant(shard=0, account="ana", amount=largest, open=True)])
    await caller.call([Deduct(shard=0, account="ana", amount=largest - 1)])
    await keep_journal(worker)
    assert [row[0] for row in await database.fetch("SELECT amount FROM journal ORDER BY seq")] == [
        largest,
        largest - 1,
    ]
    await assert_equal(database, redis)


async def test_an_account_that_ran_out_of_rows_for_lots_is_folded_as_the_script_does_it(
    database, redis, caller, worker
):
    def grant(number: int, priority: int | None = None) -> Grant:
        return Grant(
            shard=0, account="ana", amount=1, bucket=f"pot-{number:02}", priority=priority, open=True
        )

    await caller.call([grant(number, priority=64 - number) for number in range(64)])
    await caller.call([Deduct(shard=0, account="ana", amount=40)])
    await keep_journal(worker)
    await caller.call([grant(number) for number in range(70, 80)])
    await caller.call([grant(number) for number in (63, 30, 0)])
    await keep_journal(worker)
    assert await database.fetchval("SELECT count(*) FROM lots") == 64
    assert await assert_equal(database, redis) == 78


async def test_an_empty_stream_is_nothing_to_do(database, redis, caller, worker):
    async with worker() as journal:
        assert await journal.one_batch(0) == (Outcome.DONE, 0, 0)
    assert await assert_equal(database, redis) == 0


# Whoever dies


@pytest.mark.parametrize("step", BARRIERS)
async def test_a_worker_that_dies_anywhere_is_made_good_by_the_next(database, redis, caller, worker, step):
    shop = Shop(caller, SHARDS, seed=3)
    await shop.trade(calls=10)
    async with worker(barrier=dies_at(step)) as journal:
        for shard in range(SHARDS):
            with pytest.raises(Killed):
                await journal.one_batch(shard)
    await shop.trade(calls=10)
    await keep_journal(worker)
    await assert_equal(database, redis)


async def test_what_a_dead_worker_had_committed_is_told_to_redis_by_the_next(database, redis, caller, worker):
    await caller.grant(0, calls=3)
    async with worker(barrier=dies_at("after commit")) as journal:
        with pytest.raises(Killed):
            await journal.one_batch(0)
    assert await redis.hget(keys.meta(0), "journaled") == b"0"
    async with worker() as journal:
        assert await journal.one_batch(0) == (Outcome.DONE, 0, 3)
    await assert_equal(database, redis)


async def test_a_shard_has_one_worker_and_the_next_takes_over_when_it_is_gone(
    database_url, caller, worker, redis
):
    async with worker():
        connection = await connect(database_url)
        spare = Journal(connection, redis, "", keep=None)
        assert await spare.lock([0, 1, 2]) == []
    assert await spare.lock([0, 1, 2]) == [0, 1, 2]
    await connection.close()


async def test_two_workers_on_one_shard_journal_it_once(
    database, database_url, redis, redis_url, ledger, caller, worker
):
    """The lock is for economy: here nobody has it, and nothing is doubled."""
    await caller.grant(0, calls=30, entries=3)

    async def without_lock() -> list[Outcome]:
        connection, client = await connect(database_url), connect_redis(redis_url)
        journal = Journal(connection, client, ledger, keep=None, entries_max=9)
        outcomes = [(await journal.one_batch(0)).outcome]
        while outcomes[-1] in (Outcome.MORE, Outcome.MOVED):
            outcomes.append((await journal.one_batch(0)).outcome)
        await connection.close()
        await client.aclose()
        return outcomes

    outcomes = await asyncio.gather(*(without_lock() for _ in range(3)))
    assert any(Outcome.MOVED in each for each in outcomes)
    assert {each[-1] for each in outcomes} == {Outcome.DONE}
    assert await assert_equal(database, redis) == 90


async def test_a_batch_read_twice_is_committed_once(
    database, redis, caller, worker, database_url, ledger, redis_url
):
    await caller.grant(0, calls=3)

    async def barrier(name: str) -> None:
        if name == "after read":
            connection, client = await connect(database_url), connect_redis(redis_url)
            await Journal(connection, client, ledger, keep=None).one_batch(0)
            await connection.close()
            await client.aclose()

    async with worker(barrier=barrier) as journal:
        assert (await journal.one_batch(0)).outcome is Outcome.MOVED
    assert await assert_equal(database, redis) == 3


# A Redis that went astray


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


async def test_a_redis_that_was_not_admitted_again_is_not_read(database, redis, caller, worker):
    await caller.grant(0, calls=2)
    await replace_server(redis)
    async with worker() as journal:
        assert (await journal.one_batch(0)).outcome is Outcome.REFUSED
        await admit(database, redis)
        assert (await journal.one_batch(0)).rows == 2


async def test_a_second_history_fences_its_shard_and_no_other(database, redis, caller, worker):
    await caller.grant(0, calls=2)
    await caller.grant(1)
    early = await snapshot(redis)
    await caller.grant(0)
    await keep_journal(worker)
    for key, value in early.items():
        await redis.restore(key, 0, value, replace=True)
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
    for key, value in early.items():
        await redis.restore(key, 0, value, replace=True)
    async with worker() as journal:
        assert await to_the_end(journal, 0) is Outcome.CONDEMNED
    assert "Entry 3 is in the journal, but Redis ends at 2" in await fence_of(database)


async def _append_text(redis, text: str | bytes, **more) -> None:
    await append(redis, 0, text, "nonce", **more)


async def _other_fields(redis) -> None:
    await redis.xadd(keys.journal(0), {"something": "else"}, id="3-0")
    await redis.hset(keys.meta(0), mapping={"sequence": 3, "link": "x"})


POISON = {
    "not json": (lambda redis: _append_text(redis, "{"), "Entry 3 cannot be read", 1),
    "not utf-8": (lambda redis: _append_text(redis, b'{"v":1,"kind":"\xff"}'), "Entry 3 cannot be read", 1),
    "unknown kind": (lambda redis: forge(redis, 0, kind="gifted"), "Entry 3 cannot be read", 1),
    "another format": (lambda redis: forge(redis, 0, v=2), "Entry 3 has format 2", 1),
    "begins no call": (lambda redis: forge(redis, 0, previous_nonce=None), "Entry 3 neither belongs to", 1),
    "unlinked": (lambda redis: forge(redis, 0, previous_nonce="0" * 16), "Entry 3 follows call 00000000", 1),
    "version": (lambda redis: forge(redis, 0, version=9), "Entry 3 is version 9 of ana0, which is at", 2),
    "balance": (lambda redis: forge(redis, 0, available=9), "Entry 3 says 9 available and 0 held in ana0", 2),
    "below zero": (
        lambda redis: forge(redis, 0, legs=[["default", 0, -5, 0]], available=-3),
        "Entry 3 takes more out of bucket default of ana0 than there is", 2,
    ),
    "holds": (
        lambda redis: forge(redis, 0, legs=[["default", 0, -1, 1]], available=1, held=1),
        "Entry 3 is granted and changes what is held by 1", 2,
    ),
    "strange reservation": (
        lambda redis: forge(
            redis, 0, kind="cancelled", reservation="01890a5d-ac96-7000-8000-000000000000", released=0,
            legs=[], available=2,
        ),
        "Entry 3 is about reservation 01890a5d-ac96-7000-8000-000000000000, which nobody made", 2,
    ),
    "too large": (
        lambda redis: forge(redis, 0, legs=[["default", 0, 2**53, 0]], available=2**53 + 2),
        "Entry 3 is not what PostgreSQL takes", 2,
    ),
    "far too large": (lambda redis: forge(redis, 0, amount=2**64), "Entry 3 is not what PostgreSQL takes", 2),
    "no number": (lambda redis: forge(redis, 0, amount=2**63), "Entry 3 is not what PostgreSQL takes", 2),
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


# The call before one that cannot be read is not known to be whole, and is not journaled either.
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


# Trimming


async def test_a_stream_is_trimmed_behind_the_cursor_and_never_past_it(database, redis, caller, worker):
    await caller.grant(0, calls=5)
    await caller.grant(1, calls=5)

    async def barrier(name: str) -> None:
        if name == "after commit":
            await caller.grant(0, calls=2)

    async with worker(keep=Keep(ms=0, bytes=0), barrier=barrier) as journal:
        await journal.one_batch(0)
    assert [entry_id for entry_id, _ in await redis.xrange(keys.journal(0))] == [b"6-0", b"7-0"]
    meta = await redis.hgetall(keys.meta(0))
    oldest = json.loads((await redis.xrange(keys.journal(0), count=1))[0][1][b"entry"])["at_ms"]
    assert (meta[b"journaled"], int(meta[b"oldest_ms"])) == (b"5", oldest)
    assert await redis.xlen(keys.journal(1)) == 5


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(ms=3_600_000, bytes=1 << 30), 10),
        (None, 10),
        (Keep(ms=3_600_000, bytes=0), 0),
        (Keep(ms=0, bytes=1 << 30), 0),
        (Keep(ms=0, bytes=1 << 30, trim_max=4), 6),
        (Keep(ms=3_600_000, bytes=1_000), 4),
    ],
)
async def test_what_is_young_and_fits_stays_in_the_stream(database, redis, caller, worker, keep, left):
    await caller.grant(0, calls=10)
    size = int(await redis.hget(keys.meta(0), "bytes"))
    assert 220 <= size / 10 < 240
    now_ms = int((await redis.xrange(keys.journal(0)))[-1][1][b"entry"].split(b'"at_ms":')[1].split(b",")[0])
    while (await redis.time())[0] * 1000 + (await redis.time())[1] // 1000 <= now_ms + 1:
        pass
    await keep_journal(worker, keep=keep)
    assert await redis.xlen(keys.journal(0)) == left
    assert await rows(database) == 10


async def test_old_entries_go_and_young_ones_stay(database, redis, caller, worker):
    await caller.grant(0)
    for number in range(2, 40):
        age_ms = 10_000 if number < 23 else 0
        await forge(redis, 0, at_ms=(await redis.time())[0] * 1000 - age_ms)
    await keep_journal(worker)
    await redis.xtrim(keys.journal(0), minid="2-0", approximate=False)
    await keep_journal(worker, keep=Keep(ms=5_000, bytes=1 << 30))
    assert (await redis.xrange(keys.journal(0), count=1))[0][0] == b"23-0"
    assert await redis.xlen(keys.journal(0)) == 17


async def test_nothing_is_trimmed_in_a_redis_that_was_admitted_under_another_number(
    database, redis, caller, worker
):
    await caller.grant(0, calls=3)

    async def barrier(name: str) -> None:
        if name == "after commit":
            await replace_server(redis)
            await admit(database, redis)

    async with worker(keep=Keep(ms=0, bytes=0), barrier=barrier) as journal:
        await journal.one_batch(0)
    assert await redis.xlen(keys.journal(0)) == 3
    assert await redis.hget(keys.meta(0), "journaled") == b"0"

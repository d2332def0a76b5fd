"""I13: how far the journal may be behind, in entries, bytes, age. New work stops first, then everything."""

import pytest

from app.ledger import keys
from app.ledger.operations import (
    Adjust,
    Balance,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Find,
    Grant,
    Operation,
    Original,
    Refund,
    Reserve,
    Sweep,
    Trace,
)
from tests.lua.direct import ANA, SHARD, Direct
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys

HOURS_6 = 6 * 3_600_000


class Backlogged:
    """ana with open reservations, in a shard whose journal is a hundred entries behind."""

    def __init__(self, direct: Direct, ids: list[str]) -> None:
        self.direct = direct
        self.ids = iter(ids)

    @classmethod
    async def of(cls, direct: Direct) -> "Backlogged":
        await direct.do(Grant(account=ANA, amount=1000, open=True))
        ids = [direct.new_id() for _ in range(49)]
        await direct.send(
            *(Reserve(account=ANA, reservation=id_, amount=1, ttl_ms=80_000_000) for id_ in ids)
        )
        await direct.send(*(Deduct(account=ANA, amount=1) for _ in range(50)))
        return cls(direct, ids)

    async def be(self, fullness: float, measure: str) -> None:
        """Let the journal be behind by so much of what is allowed."""
        direct = self.direct
        match measure:
            case "entries":
                direct.backlog_max = round((int(await direct.meta("sequence"))) / fullness)
            case "bytes":
                direct.backlog_bytes_max = int(int(await direct.meta("bytes")) / fullness)
            case "age":
                await direct.clock.set(int(await direct.meta("oldest_ms")) + int(HOURS_6 * fullness))

    def spending(self) -> list[Operation]:
        direct = self.direct
        return [
            Grant(account=ANA, amount=1),
            Deduct(account=ANA, amount=1),
            Reserve(account=ANA, reservation=direct.new_id(), amount=1),
        ]

    def ending(self) -> list[Operation]:
        return [
            Confirm(reservation=next(self.ids)),
            Cancel(reservation=next(self.ids)),
            Bind(reservation=next(self.ids), task="t"),
            Extend(reservation=next(self.ids), ttl_ms=80_000_000),
            Refund(account=ANA, originals=[Original(transaction=f"{SHARD}-1-51", left=[("default", 0, 1)])]),
            Adjust(account=ANA, amount=-1),
            Configure(account=ANA, low_balance=5),
        ]

    def reading(self) -> list[Operation]:
        return [
            Balance(account=ANA),
            Find(reservation=next(self.ids)),
            Trace(shard=SHARD, sequence=1),
            Sweep(shard=SHARD),
        ]


@pytest.mark.parametrize("measure", ["entries", "bytes", "age"])
async def test_below_the_bound_everything_goes_on(direct, measure):
    ledger = await Backlogged.of(direct)
    await ledger.be(0.85, measure)
    for operation in (*ledger.spending(), *ledger.ending(), *ledger.reading()):
        await direct.do(operation)


@pytest.mark.parametrize("measure", ["entries", "bytes", "age"])
async def test_at_the_soft_bound_new_work_is_refused_and_what_was_begun_ends(direct, measure):
    ledger = await Backlogged.of(direct)
    await ledger.be(1.0, measure)
    before = without_traces(await dump(direct.redis))
    for operation in ledger.spending():
        refused = await direct.refused(operation)
        assert ("journal_backlogged", {"shard": SHARD}) == (refused.word, refused.facts)
    assert before == without_traces(await dump(direct.redis))
    for operation in (*ledger.ending(), *ledger.reading()):
        await direct.do(operation)
    await check_keys(direct.redis)


@pytest.mark.parametrize("measure", ["entries", "bytes", "age"])
async def test_at_the_hard_bound_everything_is_refused_and_time_stands_still(direct, measure):
    ledger = await Backlogged.of(direct)
    await ledger.be(1.11, measure)
    before = without_traces(await dump(direct.redis))
    for operation in (*ledger.spending(), *ledger.ending(), *ledger.reading()):
        assert "journal_backlogged" == (await direct.refused(operation)).word
    assert before == without_traces(await dump(direct.redis))


async def test_time_passes_up_to_the_hard_bound(direct):
    ledger = await Backlogged.of(direct)
    await direct.clock.advance(80_000_000)
    await direct.redis.hset(keys.meta(SHARD), "oldest_ms", direct.now_ms)
    await ledger.be(1.05, "entries")
    await direct.do(Sweep(shard=SHARD))
    assert (950, 0) == ((account := await direct.account()).available, account.held)
    await check_keys(direct.redis)


async def test_a_backlogged_shard_does_not_keep_another_from_working(direct):
    ledger = await Backlogged.of(direct)
    await ledger.be(1.11, "entries")
    other = next(
        each for each in (f"o{i}" for i in range(99)) if direct.shard_of(Balance(account=each)) != SHARD
    )
    reply = await direct.send(Grant(account=other, amount=1, open=True), Balance(account=ANA))
    assert ["Applied", "Declined"] == [type(each).__name__ for each in reply.results]


async def test_a_journal_that_has_caught_up_opens_the_shard_again(direct):
    ledger = await Backlogged.of(direct)
    await ledger.be(1.11, "age")
    assert "journal_backlogged" == (await direct.refused(Balance(account=ANA))).word
    meta = await direct.redis.hgetall(keys.meta(SHARD))
    caught_up = {"journaled": meta[b"sequence"], "journaled_bytes": meta[b"bytes"], "oldest_ms": ""}
    await direct.redis.hset(keys.meta(SHARD), mapping=caught_up)
    await direct.do(Deduct(account=ANA, amount=1))
    assert str(direct.now_ms) == await direct.meta("oldest_ms")
    await check_keys(direct.redis)


async def test_a_fence_comes_before_the_backlog(direct):
    ledger = await Backlogged.of(direct)
    await ledger.be(1.11, "entries")
    await direct.redis.hset(keys.meta(SHARD), "fence", "for a test")
    assert "ledger_fenced" == (await direct.refused(Balance(account=ANA))).word

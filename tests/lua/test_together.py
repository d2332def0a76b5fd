"""I1 for several operations: all of them or none, and of none nothing remains but why."""

import pytest

from app.ledger import keys
from app.ledger.operations import (
    Balance,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Grant,
    Refund,
    Reserve,
)
from app.ledger.shards import shard_of
from tests.lua.direct import ANA, BIA, SHARD, SHARDS
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import (
    MINUTE_MS,
    G,
    balance,
    deduct,
    entries,
    grant,
    keyed,
    original,
    part,
    reserve,
    words,
)

REFUSED = Deduct(account=ANA, amount=1_000_000)


async def test_all_are_carried_out_in_their_order(direct):
    await grant(direct, 100)
    id_ = direct.new_id()
    results = await direct.together(
        Deduct(account=ANA, amount=40, **keyed("a")),
        Grant(account=BIA, amount=40, open=True),
        Reserve(account=ANA, reservation=id_, amount=60, task="t"),
        Confirm(reservation=id_, amount=10, final=False, **keyed("p")),
        Cancel(reservation=id_),
        Balance(account=BIA),
    )
    assert ["ok"] * 6 == words(results)
    assert ((50, 0), 40) == (await balance(direct), (await direct.account(BIA)).available)
    await check_keys(direct.redis)


async def test_all_of_one_call_may_be_repeated_each_by_its_key(direct):
    await grant(direct, 100)
    asked = [Deduct(account=ANA, amount=i, **keyed(f"k#{i}")) for i in (1, 2, 3)]
    first = await direct.together(*asked)
    before = await dump(direct.redis)
    again = await direct.together(*asked)
    assert [(each.entry, True) for each in first] == [(each.entry, each.replayed) for each in again]
    assert not difference(without_traces(before), without_traces(await dump(direct.redis)))


async def test_a_key_that_stands_twice_in_one_call_acts_once_or_fails_it(direct):
    await grant(direct, 100)
    same = [Deduct(account=ANA, amount=5, **keyed()) for _ in range(2)]
    first, again = await direct.together(*same)
    assert (first.entry, True, (95, 0)) == (again.entry, again.replayed, await balance(direct))
    other = [Deduct(account=ANA, amount=5, **keyed("n")), Deduct(account=ANA, amount=6, **keyed("n", G))]
    assert ["batch_failed", "idempotency_mismatch"] == words(await direct.together(*other))
    assert 0 == await direct.redis.exists(keys.operation(SHARD, "a", ANA, "n"))
    await direct.do(Deduct(account=ANA, amount=6, **keyed("n", G)))
    assert (89, 0) == await balance(direct)


async def test_what_time_did_before_a_refusal_waits_for_the_next_call(direct):
    await grant(direct, 10, "plan", MINUTE_MS)
    await grant(direct, 40)
    id_ = await reserve(direct, 20, ttl_ms=MINUTE_MS)
    await direct.clock.advance(MINUTE_MS)
    before = without_traces(await dump(direct.redis))
    [failed] = await direct.together(Deduct(account=ANA, amount=41))
    assert ("insufficient_credits", {"required": 41, "available": 40, "held": 0}) == (
        failed.word, failed.facts,
    )  # fmt: skip
    assert before == without_traces(await dump(direct.redis))
    assert str(direct.now_ms) == await direct.meta("now_ms")
    results = await direct.together(Cancel(reservation=id_))
    assert ["reservation_expired"] == words(results)
    assert ["ok"] == words(await direct.together(Deduct(account=ANA, amount=40)))
    assert ["expired", "lapsed", "deducted"] == [each.kind for each in await entries(direct, 3)]
    await check_keys(direct.redis)


async def test_more_due_than_a_call_may_let_happen_is_done_first(direct):
    other = next(each for each in (f"o{i}" for i in range(99)) if shard_of(each, SHARDS) != SHARD)
    await grant(direct, 200)
    await direct.do(Grant(account=other, amount=10, open=True))
    await direct.send(
        *(Reserve(account=ANA, reservation=direct.new_id(), amount=1, ttl_ms=1000) for _ in range(150))
    )
    await direct.clock.advance(2000)
    asked = [Deduct(account=other, amount=1), Deduct(account=ANA, amount=200)]
    assert ["later", "later"] == words(await direct.together(*asked))
    assert (150, 50) == await balance(direct)
    assert ["ok", "ok"] == words(await direct.together(*asked))
    assert (0, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_a_call_that_is_repeated_under_its_number_gets_its_first_reply(direct):
    await grant(direct, 100)
    for asked in ([REFUSED], [Deduct(account=ANA, amount=2)]):
        number = next(direct.numbers)
        both = [Deduct(account=ANA, amount=1), *asked]
        first = await direct.send(*both, number=number, atomic=True)
        assert first == await direct.send(*both, number=number, atomic=True)
    assert (97, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_a_thousand_operations_are_all_or_none(direct_valkey):
    direct = direct_valkey
    accounts = [f"u{i}" for i in range(1000)]
    await direct.send(*(Grant(account=each, amount=5, open=True) for each in accounts))
    before = without_traces(await dump(direct.redis))
    asked = [Deduct(account=each, amount=5) for each in accounts]
    asked[-1].amount = 6
    assert ["batch_failed"] * 999 + ["insufficient_credits"] == words(await direct.together(*asked))
    assert before == without_traces(await dump(direct.redis))
    asked[-1].amount = 5
    assert ["ok"] * 1000 == words(await direct.together(*asked))
    await check_keys(direct.redis)


@pytest.mark.parametrize("amount", [89, 90])
async def test_a_refund_a_late_confirm_and_a_closing_stand_or_fall_together(direct, amount):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS, on_expired="charge")
    spent = await deduct(direct, 10)
    await part(direct, id_, 10, "p")
    await direct.clock.advance(MINUTE_MS)
    results = await direct.together(
        Refund(account=ANA, originals=[original(spent)]),
        Confirm(reservation=id_, amount=amount, over_capture="charge"),
        Configure(account=ANA, status="closed"),
    )
    if amount == 89:
        assert ["batch_failed", "batch_failed", "account_not_empty"] == words(results)
        assert {"available": 1, "held": 0} == results[2].facts
        assert "reservation_expired" == (await direct.refused(Cancel(reservation=id_))).word
    else:
        assert ["ok", "ok", "ok"] == words(results)
    assert ((80 if amount == 89 else 0), 0) == await balance(direct)
    await check_keys(direct.redis)

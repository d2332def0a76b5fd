"""configure: what an account may owe, and whether it is served. A state refuses what it says, and no more."""

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
    Grant,
    Refund,
    Reserve,
    Sweep,
)
from tests.lua.direct import ANA, SHARD
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import (
    DAY_MS,
    MINUTE_MS,
    balance,
    configure,
    deduct,
    entries,
    grant,
    keyed,
    original,
    part,
    reserve,
)


async def test_an_unknown_account_is_made_only_when_the_ledger_says_so(direct):
    asked = {"overdraft_limit": 500, "status": "frozen", "low_balance": 20}
    assert "account_unknown" == (await direct.refused(Configure(account=ANA, **asked))).word
    applied, account, _ = await direct.do(Configure(account=ANA, open=True, **asked, **keyed()))
    entry = applied.entry
    assert ("configured", 1, 0, [], 500, "frozen", 20) == (
        entry.kind, entry.version, entry.amount, entry.legs, entry.overdraft_limit, entry.status,
        entry.low_balance,
    )  # fmt: skip
    assert (1, 0, [], 500, "frozen", 20) == (
        account.version, account.available, account.lots, account.overdraft_limit, account.status,
        account.low_balance,
    )  # fmt: skip
    assert account == (await direct.do(Balance(account=ANA)))[1]
    await check_keys(direct.redis)


async def test_only_what_changes_is_written_down(direct):
    await grant(direct, 10)
    applied, _, _ = await direct.do(Configure(account=ANA, overdraft_limit=5, low_balance=3, status="active"))
    assert (5, 3, None) == (
        applied.entry.overdraft_limit, applied.entry.low_balance, applied.entry.status,
    )  # fmt: skip
    before = await dump(direct.redis)
    for asked in ({}, {"overdraft_limit": 5}, {"status": "active", "low_balance": 3, **keyed()}):
        same, account, _ = await direct.do(Configure(account=ANA, **asked))
        assert (0, None, False, 5) == (same.sequence, same.entry, same.replayed, account.overdraft_limit)
    assert not difference(without_traces(before), without_traces(await dump(direct.redis)))
    applied, account, _ = await direct.do(Configure(account=ANA, overdraft_limit=0, low_balance=3))
    assert (0, None, 0) == (
        applied.entry.overdraft_limit, applied.entry.low_balance, account.overdraft_limit,
    )  # fmt: skip
    await check_keys(direct.redis)


async def test_settings_that_are_put_back_leave_the_account_as_it_was_written(direct):
    await grant(direct, 10)
    plain = await direct.redis.get(keys.account(SHARD, ANA))
    await configure(direct, overdraft_limit=5, low_balance=3, status="frozen")
    await configure(direct, overdraft_limit=0, low_balance=0, status="active")
    text = await direct.redis.get(keys.account(SHARD, ANA))
    assert plain.replace(b'"version":1', b'"version":3') == text
    await check_keys(direct.redis)


async def test_the_limit_does_not_fall_below_what_is_owed(direct):
    await grant(direct, 10)
    await configure(direct, overdraft_limit=50)
    await deduct(direct, 40)
    refused = await direct.refused(Configure(account=ANA, overdraft_limit=29, low_balance=9))
    assert ("overdraft_in_use", {"debt": 30}) == (refused.word, refused.facts)
    applied, account, _ = await direct.do(Configure(account=ANA, overdraft_limit=30))
    assert (30, 0) == (applied.entry.overdraft_limit, account.low_balance)
    assert "insufficient_credits" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    await check_keys(direct.redis)


@pytest.mark.parametrize(
    ("granted", "held", "owed", "facts"),
    [
        (10, 0, 0, {"available": 10, "held": 0}),
        (10, 10, 0, {"available": 0, "held": 10}),
        (10, 10, 4, {"available": -4, "held": 10}),
        (10, 0, 14, {"available": -4, "held": 0}),
        (10, 4, 10, {"available": -4, "held": 4}),
        (10, 0, 10, None),
    ],
)
async def test_only_an_empty_account_is_closed(direct, granted, held, owed, facts):
    await grant(direct, granted)
    if held:
        await reserve(direct, held)
    await configure(direct, overdraft_limit=100)
    if owed:
        await deduct(direct, owed)
    asked = Configure(account=ANA, status="closed")
    if facts is None:
        assert "closed" == (await direct.do(asked))[1].status
    else:
        refused = await direct.refused(asked)
        assert ("account_not_empty", facts) == (refused.word, refused.facts)
    await check_keys(direct.redis)


async def test_a_closed_account_refuses_whatever_writes_until_it_is_set_to_another_state(direct):
    await grant(direct, 100)
    ended, late = [await reserve(direct, 10, ttl_ms=MINUTE_MS, on_expired="charge") for _ in range(2)]
    await direct.do(Cancel(reservation=ended))
    await direct.clock.advance(MINUTE_MS)
    spent = (await direct.do(Deduct(account=ANA, amount=100, **keyed("spent"))))[0]
    closed, _, _ = await direct.do(Configure(account=ANA, status="closed", **keyed("closed")))
    before = without_traces(await dump(direct.redis))
    for operation in (
        Grant(account=ANA, amount=1),
        Deduct(account=ANA, amount=1),
        Reserve(account=ANA, reservation=direct.new_id(), amount=1),
        Confirm(reservation=late),
        Refund(account=ANA, originals=[original(spent)]),
        Adjust(account=ANA, amount=1),
        Adjust(account=ANA, amount=-1, short="take"),
        Configure(account=ANA, low_balance=5),
        Configure(account=ANA, overdraft_limit=5, status="closed"),
        Bind(reservation=ended, task="t"),
    ):
        assert "account_closed" == (await direct.refused(operation)).word, operation
    for replay in (
        Deduct(account=ANA, amount=100, **keyed("spent")),
        Cancel(reservation=ended),
        Configure(account=ANA, status="closed", **keyed("closed")),
    ):
        assert (await direct.do(replay))[0].replayed
    same, account, _ = await direct.do(Configure(account=ANA, status="closed"))
    assert (None, "closed", closed.entry.version) == (same.entry, account.status, account.version)
    assert before == without_traces(await dump(direct.redis))
    await direct.do(Configure(account=ANA, status="frozen", low_balance=5))
    await grant(direct, 1)
    await check_keys(direct.redis)


async def test_a_frozen_account_takes_no_charge_and_everything_else(direct):
    await grant(direct, 100)
    spent = await deduct(direct, 10)
    ids = [await reserve(direct, 10, ttl_ms=MINUTE_MS, over_capture="charge") for _ in range(4)]
    await configure(direct, status="frozen")
    before = without_traces(await dump(direct.redis))
    for operation in (
        Deduct(account=ANA, amount=1),
        Deduct(account=ANA, amount=1000),
        Reserve(account=ANA, reservation=direct.new_id(), amount=1),
        Extend(reservation=ids[0], ttl_ms=DAY_MS),
        Extend(reservation=ids[0], ttl_ms=1000),
        Confirm(reservation=ids[0], amount=11),
    ):
        assert "account_frozen" == (await direct.refused(operation)).word, operation
    assert before == without_traces(await dump(direct.redis))
    await grant(direct, 5)
    await direct.do(Refund(account=ANA, originals=[original(spent)]))
    await direct.do(Adjust(account=ANA, amount=-5))
    await direct.do(Bind(reservation=ids[0], task="t"))
    await part(direct, ids[0], 1, "p")
    await direct.do(Confirm(reservation=ids[1]))
    await direct.do(Cancel(reservation=ids[2]))
    await direct.clock.advance(MINUTE_MS)
    await direct.do(Sweep(shard=SHARD))
    assert (89, 0) == await balance(direct)
    await check_keys(direct.redis)
    await configure(direct, status="active")
    await deduct(direct, 89)


async def test_settings_count_for_what_follows_in_the_same_call(direct):
    await grant(direct, 10)
    reply = await direct.send(
        Deduct(account=ANA, amount=15),
        Configure(account=ANA, overdraft_limit=10),
        Deduct(account=ANA, amount=15),
        Configure(account=ANA, overdraft_limit=4),
        Configure(account=ANA, status="frozen"),
        Deduct(account=ANA, amount=1),
        Configure(account=ANA, status="closed"),
        Grant(account=ANA, amount=5),
        Configure(account=ANA, status="closed", overdraft_limit=0),
        Grant(account=ANA, amount=5),
        Configure(account=ANA, status="active"),
        Grant(account=ANA, amount=5),
    )
    assert [
        "insufficient_credits", "ok", "ok", "overdraft_in_use", "ok", "account_frozen", "account_not_empty",
        "ok", "ok", "account_closed", "ok", "ok",
    ] == [getattr(each, "word", "ok") for each in reply.results]  # fmt: skip
    assert (5, 0) == await balance(direct)
    kinds = [each.kind for each in await entries(direct)]
    assert ["granted", "configured", "deducted", "configured", "granted"] + ["configured"] * 2 + [
        "granted"
    ] == kinds
    await check_keys(direct.redis)


@pytest.mark.parametrize("amount", [-1, 0.5, 2**53, 1e300, "5", True], ids=repr)
@pytest.mark.parametrize("setting", ["overdraft_limit", "low_balance"])
async def test_a_setting_that_is_no_amount_is_a_bug_that_changes_nothing(direct_valkey, setting, amount):
    direct = direct_valkey
    await grant(direct, 10)
    before = without_traces(await dump(direct.redis))
    asked = Configure(account=ANA, **{setting: amount})
    assert "internal_error" == (await direct.refused(asked)).word
    assert before == without_traces(await dump(direct.redis))

"""I1: every operation happens whole or not at all, whichever write of the script would fail.

Redis keeps what a script wrote before its error. So each operation is let run once, to learn which keys it writes;
then each of those keys in turn is something else than the script expects.
"""

from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.operations import Balance, Bind, Cancel, Confirm, Deduct, Grant, Operation, Reserve, Sweep
from app.ledger.replies import Declined
from tests.lua.conftest import founded
from tests.lua.direct import ANA, BIA, SHARD, Direct
from tests.lua.dump import difference, dump
from tests.lua.invariants import check_keys

OPEN = f"00000000-0000-7{SHARD:03x}-8000-000000000001"
ENDED = f"00000000-0000-7{SHARD:03x}-8000-000000000002"
NEW = f"00000000-0000-7{SHARD:03x}-8000-000000000003"
KEYED = {"key": "k", "fingerprint": "f" * 16}

OPERATIONS: dict[str, Callable[[int], Operation]] = {
    "grant": lambda now: Grant(account=ANA, amount=5, bucket="plan", expires_at_ms=now + 90_000),
    "grant that opens": lambda now: Grant(account="new1", amount=5, open=True, expires_at_ms=now + 90_000),
    "grant with a key": lambda _: Grant(account=ANA, amount=5, **KEYED),
    "deduct": lambda _: Deduct(account=ANA, amount=60),
    "deduct with a key": lambda _: Deduct(account=ANA, amount=60, **KEYED),
    "deduct refused with a key": lambda _: Deduct(account=ANA, amount=6000, **KEYED),
    "reserve": lambda _: Reserve(account=ANA, reservation=NEW, amount=60),
    "reserve with task and key": lambda _: Reserve(
        account=ANA, reservation=NEW, amount=60, task="t", provider="fal", **KEYED
    ),
    "reserve refused for what is held": lambda _: Reserve(account=ANA, reservation=NEW, amount=101, **KEYED),
    "confirm": lambda _: Confirm(reservation=OPEN, amount=10),
    "confirm with a key": lambda _: Confirm(reservation=OPEN, **KEYED),
    "confirm of what was cancelled": lambda _: Confirm(reservation=ENDED, **KEYED),
    "cancel": lambda _: Cancel(reservation=OPEN, reason="no", notes='{"salt":"00"}', notes_hash="ab" * 32),
    "cancel with a key": lambda _: Cancel(reservation=OPEN, **KEYED),
    "bind": lambda _: Bind(reservation=OPEN, task="t", provider="fal"),
    "bind with a key": lambda _: Bind(reservation=OPEN, task="t", resource="img", **KEYED),
    "bind what has ended": lambda _: Bind(reservation=ENDED, task="t"),
    "balance": lambda _: Balance(account=ANA, open=True),
}


async def ledger_of(redis) -> Direct:
    """ana: a plan of 50 that lapses, 50 that do not, 20 of them held; a reservation that was cancelled."""
    direct = await founded(redis)
    await direct.do(
        Grant(account=ANA, amount=50, bucket="plan", priority=10, expires_at_ms=direct.now_ms + 90_000, open=True)
    )
    await direct.do(Grant(account=ANA, amount=50))
    await direct.do(Grant(account=BIA, amount=50, open=True))
    await direct.do(Reserve(account=ANA, reservation=ENDED, amount=10, ttl_ms=20_000))
    await direct.do(Cancel(reservation=ENDED))
    await direct.do(Reserve(account=ANA, reservation=OPEN, amount=20, ttl_ms=20_000))
    return direct


async def plant(redis, key: str) -> None:
    """Make a key something that the script cannot have written."""
    kind = await redis.type(key)
    await redis.delete(key)
    if kind == b"string" or (kind == b"none" and not key.endswith((":due", ":aside"))):
        await redis.hset(key, "planted", "1")
    else:
        await redis.set(key, "planted")


async def each_write_fails(redis, prepare: Callable[[Direct], Awaitable[None]], act) -> list[str]:
    """Let `act` run once; then, from the same beginning, with each key that there was or that it wrote spoilt. What
    it wrote is returned.

    When the answer is an error or a refusal nothing may have changed, but for a fence of the shard or the account
    that says why.
    """
    direct = await ledger_of(redis)
    await prepare(direct)
    before = await dump(redis, whole=True)
    await act(direct)
    written = sorted(difference(before, await dump(redis, whole=True)))
    for key in sorted({*before, *written}):
        await redis.flushall()
        direct = await ledger_of(redis)
        await prepare(direct)
        await plant(redis, key)
        before, whole_before = await dump(redis), await dump(redis, whole=True)
        try:
            reply = await act(direct)
        except ResponseError:
            assert whole_before == await dump(redis, whole=True), key
            continue
        after = await dump(redis)
        if not isinstance(reply.results[0], Declined):
            assert key not in written, f"{key} was overwritten"
            assert before[key] == after[key], f"{key} was written and not read"
            continue
        for name in difference(before, after):
            assert name.endswith(":meta"), f"{name} changed while {key} was spoilt"
            fields = {k for k in before[name][0] if before[name][0][k] != after[name][0].get(k)}
            assert fields == {b"fence"}, f"{name}: {fields} changed while {key} was spoilt"
    return written


async def nothing(_: Direct) -> None:
    """Nothing is to be prepared."""


@pytest.mark.parametrize("name", OPERATIONS)
async def test_when_a_write_fails_nothing_has_been_written(any_redis, name):
    async def act(direct: Direct):
        return await direct.send(OPERATIONS[name](direct.now_ms))

    written = await each_write_fails(any_redis, nothing, act)
    assert keys.lane(0, "direct") in written


async def test_when_a_write_of_passing_time_fails_nothing_has_been_written(any_redis):
    async def prepare(direct: Direct) -> None:
        await direct.clock.advance(30_000)

    async def act(direct: Direct):
        return await direct.send(Sweep(shard=SHARD))

    direct = await ledger_of(any_redis)
    await prepare(direct)
    before = await dump(any_redis, whole=True)
    await act(direct)
    written = sorted(difference(before, await dump(any_redis, whole=True)))
    assert {f"lastro:{{{SHARD}}}:{kind}" for kind in ("due", "journal", "meta")} < set(written)
    for key in written:
        await any_redis.flushall()
        direct = await ledger_of(any_redis)
        await prepare(direct)
        await plant(any_redis, key)
        before = await dump(any_redis)
        try:
            await act(direct)
        except ResponseError:
            assert before == await dump(any_redis), key
            continue
        after = await dump(any_redis)
        journal = keys.journal(SHARD)
        assert before.get(journal) == after.get(journal), f"an entry was written while {key} was spoilt"
        account = keys.account(SHARD, ANA)
        if account in difference(before, after):
            assert (await direct.account()).fence is not None, f"{key}: ana changed and is not fenced"
            assert 80 == (await direct.account()).available, key


async def test_one_bad_account_costs_one_internal_error_and_not_the_batch(direct):
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.do(Grant(account=BIA, amount=10, open=True))
    await direct.redis.delete(keys.account(SHARD, ANA))
    await direct.redis.hset(keys.account(SHARD, ANA), "planted", "1")
    reply = await direct.send(
        Deduct(account=BIA, amount=1), Deduct(account=ANA, amount=1), Deduct(account=BIA, amount=2)
    )
    assert [True, False, True] == [not isinstance(each, Declined) for each in reply.results]
    assert "internal_error" == reply.results[1].word
    assert 7 == (await direct.account(BIA)).available


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"v":2}', "null"])
async def test_an_account_that_cannot_be_read_refuses_alone(direct, text):
    await direct.do(Grant(account=BIA, amount=10, open=True))
    await direct.redis.set(keys.account(SHARD, ANA), text)
    before = await dump(direct.redis)
    for operation in (Deduct(account=ANA, amount=1), Grant(account=ANA, amount=1, open=True), Balance(account=ANA)):
        assert "internal_error" == (await direct.refused(operation)).word
    assert before == await dump(direct.redis)
    assert 9 == (await direct.do(Deduct(account=BIA, amount=1)))[1].available


async def test_a_call_over_several_shards_is_whole_or_not_at_all(direct):
    accounts = [f"a{i}" for i in range(12)]
    await direct.send(*(Grant(account=each, amount=10, open=True) for each in accounts))
    await check_keys(direct.redis)
    await direct.redis.set(keys.due(SHARD), "planted") if not await direct.redis.exists(keys.due(SHARD)) else None
    before = await dump(direct.redis, whole=True)
    with pytest.raises(ResponseError):
        await direct.send(*(Deduct(account=each, amount=1) for each in accounts))
    assert before == await dump(direct.redis, whole=True)


async def test_a_stream_with_a_higher_last_id_fences_its_shard_and_moves_nothing(direct):
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.redis.xadd(keys.journal(SHARD), {"garbage": "1"}, id="7-0")
    before = await dump(direct.redis)
    refused = await direct.refused(Deduct(account=ANA, amount=1))
    assert ("ledger_fenced", SHARD) == (refused.word, refused.facts["shard"])
    after = await dump(direct.redis)
    assert {keys.meta(SHARD)} == difference(before, after)
    assert "ends at 7-0" in await direct.meta("fence")
    assert "ledger_fenced" == (await direct.refused(Balance(account=ANA))).word


async def test_a_stream_whose_last_id_was_set_fences_its_shard(direct_valkey):
    direct = direct_valkey
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.redis.execute_command("XSETID", keys.journal(SHARD), "99-0")
    assert "ledger_fenced" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    assert 10 == (await direct.account()).available


async def test_a_stream_that_is_gone_fences_its_shard(direct):
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.redis.delete(keys.journal(SHARD))
    assert "ledger_fenced" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    assert 10 == (await direct.account()).available


async def test_a_fenced_shard_refuses_and_the_others_go_on(direct):
    other = next(each for each in (f"b{i}" for i in range(99)) if direct.shard_of(Balance(account=each)) != SHARD)
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.do(Grant(account=other, amount=10, open=True))
    await direct.redis.hset(keys.meta(SHARD), "fence", "for a test")
    reply = await direct.send(Deduct(account=ANA, amount=1), Deduct(account=other, amount=1))
    assert ("ledger_fenced", "for a test") == (reply.results[0].word, reply.results[0].facts["why"])
    assert 9 == (await direct.account(other)).available
    assert 10 == (await direct.account()).available

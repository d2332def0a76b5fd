"""Who watches the tests: each promise is broken on purpose in the script, and somebody notices."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.operations import Balance, Bind, Cancel, Confirm, Deduct, Grant, Reserve, Sweep
from app.ledger.replies import Applied
from tests.lua.direct import ANA, BIA, SHARD, Direct
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.mutants import mutated

KEYED = {"key": "k", "fingerprint": "f" * 16}


async def a_day(direct: Direct) -> None:
    """A bit of everything, with what must come of it."""
    redis, ids = direct.redis, [direct.new_id() for _ in range(5)]
    now = direct.now_ms
    await direct.do(
        Grant(
            account=ANA,
            amount=123_456_789_012_345,
            bucket="plan",
            priority=1,
            expires_at_ms=now + 5000,
            open=True,
        )
    )
    await direct.do(Grant(account=ANA, amount=100))
    await direct.do(Grant(account=BIA, amount=100, open=True))
    await direct.do(Reserve(account=BIA, reservation=direct.new_id(BIA), amount=50))
    await check_keys(redis)
    await direct.send(
        *(Reserve(account=ANA, reservation=id_, amount=10, ttl_ms=1000 + i) for i, id_ in enumerate(ids)),
        Deduct(account=ANA, amount=5, **KEYED),
        Deduct(account=ANA, amount=5, **KEYED),
    )
    shards = await check_keys(redis)
    assert 123_456_789_012_390 == shards[SHARD].accounts[ANA].available
    await direct.do(Confirm(reservation=ids[0], amount=4))
    await check_keys(redis)
    assert (await direct.do(Confirm(reservation=ids[0], amount=4)))[0].replayed
    await direct.do(Cancel(reservation=ids[1]))
    await direct.do(Bind(reservation=ids[2], task="t"))
    await check_keys(redis)
    before = without_traces(await dump(redis))
    assert "insufficient_credits" == (await direct.refused(Deduct(account=BIA, amount=101))).word
    assert "credits_held" == (await direct.refused(Deduct(account=BIA, amount=60))).word
    assert "reservation_confirmed" == (await direct.refused(Cancel(reservation=ids[0]))).word
    assert before == without_traces(await dump(redis))
    await direct.clock.advance(1003)
    assert "reservation_expired" == (await direct.refused(Confirm(reservation=ids[3]))).word
    assert isinstance(await direct.ask(Confirm(reservation=ids[4])), Applied)
    shards = await check_keys(redis)
    await direct.clock.advance(-1002)
    assert "reservation_expired" == (await direct.refused(Confirm(reservation=ids[3]))).word
    await check_keys(redis)
    await direct.clock.advance(6000)
    await direct.do(Sweep(shard=SHARD))
    shards = await check_keys(redis)
    assert 100 == shards[SHARD].accounts[ANA].available
    number = next(direct.numbers)
    first = await direct.send(Deduct(account=ANA, amount=1), number=number)
    assert first == await direct.send(Deduct(account=ANA, amount=1), number=number)
    assert "stale" == (await direct.send(Deduct(account=ANA, amount=1), number=number - 1)).status
    assert "too_late" == (await direct.send(Deduct(account=ANA, amount=1), deadline_ms=5)).status
    direct.backlog_max = int(await direct.meta("sequence"))
    assert "journal_backlogged" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    direct.backlog_max = 1_000_000
    await direct.redis.xadd(keys.journal(SHARD), {"garbage": "1"})
    assert "ledger_fenced" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    await direct.redis.hset(keys.meta(SHARD), "incarnation", 2)
    assert "not_admitted" == (await direct.send(Balance(account=ANA))).status


MUTANTS = {
    "I1 a refused deduct is written": (
        "funds.shortage(account, operation.amount, account.settings.overdraft_limit)",
        "nil",
    ),
    "I2 what is held is spent as well": (
        "if account.available >= needed then return nil end",
        "if account.available + account.held >= needed then return nil end",
    ),
    "I3 a release forgets what is held": (
        "local available, held = account.available + by_available, account.held + by_held",
        "local available, held = account.available + by_available, account.held",
    ),
    "I3 a confirm gives back what it captures": (
        "legs[#legs + 1] = { lot, part[3] - taken, -part[3] }",
        "legs[#legs + 1] = { lot, part[3], -part[3] }",
    ),
    "I4 a key is not remembered": ("if operation.key then memory.remember(operation, shard, result) end", ""),
    "I4 the lane does not answer again": (
        "if number == call.number then return redis.call('HGET', KEYS[1], 'reply') end",
        "",
    ),
    "I4 the lane lets an old call in": ("if number > call.number then", "if false then"),
    "I5 a confirm comes after an ending": (
        "if reservation.status == 'confirmed' then return memory.replay(",
        "if false then return memory.replay(",
    ),
    "I6 a hold ends a millisecond late": (
        "'-inf', string.format('%d', shard.now_ms)",
        "'-inf', string.format('(%d', shard.now_ms)",
    ),
    "I6 holds never leave what is due": ("gather(plan.not_due, number, member)", ""),
    "I6 a lapse is not due": (
        "gather(plan.due, account.shard.number, digits[lapses_at_ms], 'account:' .. account.id)",
        "",
    ),
    "I6 a call past its deadline runs": ("if now_ms > call.deadline_ms then", "if false then"),
    "I7 an entry is left out": (
        "appended[#appended + 1] = entry",
        "if version ~= 3 then appended[#appended + 1] = entry end",
    ),
    "I7 calls are not linked": ("'link', nonce", "'link', 'x'"),
    "I9 another incarnation is served": ("if tonumber(meta[2]) ~= incarnation then", "if false then"),
    "I9 a longer stream is served": (
        "shard.fence = shard.fence or admission.stream_fault(shard)",
        "shard.fence = shard.fence",
    ),
    "I12 digits are lost": ("return format('%d', value)", "return '' .. value"),
    "I13 the soft bound is not kept": ("if fullness >= 1 then return 'spending' end", ""),
    "I14 holds are not counted": ("account.open_holds = account.open_holds + 1", ""),
    "I15 what is pending expires": (
        "send('MSET', nil, plan.texts)",
        (
            "send('MSET', nil, plan.texts)\n"
            "for i = 1, #plan.texts, 2 do redis.call('PEXPIRE', plan.texts[i], 99999999) end"
        ),
    ),
    "I15 what has ended stays for ever": (
        "{ 'SET', reservation.key, reservation.stored, 'PXAT', forgotten_ms }",
        "{ 'SET', reservation.key, reservation.stored }",
    ),
}  # fmt: skip


async def test_the_sound_script_lives_through_a_day(direct_valkey):
    await a_day(direct_valkey)


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_script_that_breaks_a_promise_is_noticed(direct_valkey, name):
    sound, broken = MUTANTS[name]
    direct_valkey.script = mutated(direct_valkey.script, sound, broken)
    with pytest.raises((AssertionError, ResponseError, msgspec.ValidationError)):
        await a_day(direct_valkey)


async def broken_by(direct: Direct, act: Callable[[Direct], Awaitable[object]]) -> None:
    await direct.do(Grant(account=ANA, amount=100, expires_at_ms=direct.now_ms + 90_000, open=True))
    await direct.do(Reserve(account=ANA, reservation=direct.new_id(), amount=60))
    await check_keys(direct.redis)
    await act(direct)


@pytest.mark.parametrize(
    "act",
    [
        lambda d: d.redis.zrem(keys.due(SHARD), f"account:{ANA}"),
        lambda d: d.redis.zadd(keys.due(SHARD), {"account:nobody": 5}),
        lambda d: d.redis.delete(keys.holds(SHARD, ANA)),
        lambda d: d.redis.pexpire(keys.account(SHARD, ANA), 99_999),
        lambda d: d.redis.hincrby(keys.meta(SHARD), "sequence", 1),
        lambda d: d.redis.hincrby(keys.meta(SHARD), "bytes", 1),
        lambda d: d.redis.hset(keys.meta(SHARD), "link", "x"),
        lambda d: d.redis.xdel(keys.journal(SHARD), "1-0"),
        lambda d: d.redis.delete(keys.account(SHARD, ANA)),
        lambda d: d.redis.set("lastro:{0}:unheard", "of"),
        lambda d: d.redis.persist(d.lane),
    ],
)
async def test_the_checker_notices_a_key_that_somebody_else_has_touched(direct_valkey, act):
    await broken_by(direct_valkey, act)
    with pytest.raises(AssertionError):
        await check_keys(direct_valkey.redis)

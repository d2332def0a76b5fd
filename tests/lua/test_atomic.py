"""I1: every operation happens whole or not at all, whichever write of the script would fail.

Redis keeps what a script wrote before its error. So each operation is let run once, to learn which keys it
writes; then each key in turn is something else than the script expects.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.operations import Balance, Bind, Cancel, Confirm, Deduct, Grant, Operation, Reserve, Sweep
from app.ledger.replies import Declined, Reply
from app.ledger.shards import shard_of
from tests.lua.conftest import founded
from tests.lua.direct import ANA, BIA, SHARD, SHARDS, Direct
from tests.lua.dump import Beginning, Dump, difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.mutants import mutated

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


class Spoilt(NamedTuple):
    """What came of a call while one key was not what it should be; no `reply` when there was an error."""

    key: str
    is_written: bool
    reply: Reply | None
    before: Dump
    after: Dump


async def ledger_of(redis) -> Direct:
    """ana: a plan of 50 that lapses, 50 that do not, 20 of them held; a reservation that was cancelled."""
    direct = await founded(redis)
    await direct.do(
        Grant(
            account=ANA,
            amount=50,
            bucket="plan",
            priority=10,
            expires_at_ms=direct.now_ms + 90_000,
            open=True,
        )
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


async def each_key_spoilt(direct: Direct, act: Callable[[], Awaitable[Reply]]) -> AsyncIterator[Spoilt]:
    """Let `act` run once to see what it writes; then from the same beginning with each key spoilt in turn."""
    redis = direct.redis
    beginning, before = await Beginning.here(redis), await dump(redis)
    await act()
    written = difference(before, await dump(redis))
    assert direct.lane in written
    for key in sorted({*before, *written}):
        await beginning.again(redis)
        await plant(redis, key)
        before = await dump(redis)
        try:
            reply = await act()
        except ResponseError:
            reply = None
        yield Spoilt(key, key in written, reply, before, await dump(redis))


async def whole_or_not_at_all(direct: Direct, act: Callable[[], Awaitable[Reply]]) -> None:
    """Whichever key is spoilt: an error or a refusal has written nothing but the reason why, where the shard
    is fenced.
    """
    async for spoilt in each_key_spoilt(direct, act):
        key, before, after = spoilt.key, spoilt.before, spoilt.after
        if spoilt.reply is None:
            assert before == after, f"an error, and a change while {key} was spoilt"
        elif isinstance(spoilt.reply.results[0], Declined):
            changed = difference(without_traces(before), without_traces(after))
            assert all(each.endswith(":meta") for each in changed), (
                f"a refusal, and a change while {key} was spoilt"
            )
            for name_ in changed:
                (was, *_), (now, *_) = before[name_], after[name_]
                assert {b"fence"} == {k for k in now if now[k] != was[k]} - {b"now_ms"}, key
        else:
            assert not spoilt.is_written, f"{key} was overwritten"
            assert before[key] == after[key], f"{key} was written and not read"


@pytest.mark.parametrize("name", OPERATIONS)
async def test_when_a_write_fails_nothing_has_been_written(any_redis, name):
    direct = await ledger_of(any_redis)
    await whole_or_not_at_all(direct, lambda: direct.send(OPERATIONS[name](direct.now_ms)))


async def test_when_a_write_of_passing_time_fails_nothing_has_been_written(any_redis):
    """Or what could not happen is kept aside, and the account refuses."""
    direct = await ledger_of(any_redis)
    await direct.clock.advance(30_000)
    async for spoilt in each_key_spoilt(direct, lambda: direct.send(Sweep(shard=SHARD))):
        key, before, after = spoilt.key, spoilt.before, spoilt.after
        if spoilt.reply is None:
            assert before == after, f"an error, and a change while {key} was spoilt"
            continue
        ana, journal = keys.account(SHARD, ANA), keys.journal(SHARD)
        if spoilt.is_written:
            assert before.get(journal) == after.get(journal), f"an entry was written while {key} was spoilt"
            if before[ana] != after[ana]:
                account = await direct.account()
                assert (80, 20) == (account.available, account.held), key
                assert account.fence is not None, f"{key}: ana changed and is not fenced"


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
    before = without_traces(await dump(direct.redis))
    for operation in (
        Deduct(account=ANA, amount=1),
        Grant(account=ANA, amount=1, open=True),
        Balance(account=ANA),
    ):
        assert "internal_error" == (await direct.refused(operation)).word
    assert before == without_traces(await dump(direct.redis))
    assert 9 == (await direct.do(Deduct(account=BIA, amount=1)))[1].available


async def test_a_call_over_several_shards_is_whole_or_not_at_all(direct):
    accounts = [f"a{i}" for i in range(12)]
    await direct.send(*(Grant(account=each, amount=10, open=True) for each in accounts))
    await check_keys(direct.redis)
    await direct.redis.set(keys.due(SHARD), "planted")
    before = await dump(direct.redis)
    with pytest.raises(ResponseError):
        await direct.send(*(Deduct(account=each, amount=1) for each in accounts))
    assert before == await dump(direct.redis)


async def test_a_stream_with_a_higher_last_id_fences_its_shard_and_moves_nothing(direct):
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.redis.xadd(keys.journal(SHARD), {"garbage": "1"}, id="7-0")
    before = without_traces(await dump(direct.redis))
    refused = await direct.refused(Deduct(account=ANA, amount=1))
    assert ("ledger_fenced", SHARD) == (refused.word, refused.facts["shard"])
    assert {keys.meta(SHARD)} == difference(before, without_traces(await dump(direct.redis)))
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
    other = next(each for each in (f"b{i}" for i in range(99)) if shard_of(each, SHARDS) != SHARD)
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.do(Grant(account=other, amount=10, open=True))
    await direct.redis.hset(keys.meta(SHARD), "fence", "for a test")
    reply = await direct.send(Deduct(account=ANA, amount=1), Deduct(account=other, amount=1))
    assert ("ledger_fenced", "for a test") == (reply.results[0].word, reply.results[0].facts["why"])
    assert 9 == (await direct.account(other)).available
    assert 10 == (await direct.account()).available


@pytest.mark.parametrize("setting", ["maxmemory", "min-replicas-to-write"])
async def test_a_server_that_refuses_writes_has_written_nothing(own_valkey, setting):
    """Full memory, and too few replicas: Redis says so at the first write of the script."""
    async with connect(own_valkey.url) as redis:
        direct = await ledger_of(redis)
        beginning = await dump(redis)
        await redis.config_set(setting, "1")
        for name, operation in OPERATIONS.items():
            with pytest.raises(ResponseError, match=r"maxmemory|NOREPLICAS|enough good replicas"):
                await direct.send(operation(direct.now_ms))
            assert beginning == await dump(redis), name
        await redis.config_set(setting, "0")
        await direct.do(Deduct(account=ANA, amount=1))
        await check_keys(redis)


async def test_a_server_that_cannot_save_has_written_nothing(own_valkey):
    """MISCONF: the last snapshot failed, here because a folder has its name."""
    async with connect(own_valkey.url) as redis:
        direct = await ledger_of(redis)
        beginning = await dump(redis)
        (own_valkey.folder() / "dump.rdb").mkdir()
        await redis.config_set("save", "3600 1")
        await redis.bgsave()
        while (await redis.info("persistence"))["rdb_bgsave_in_progress"]:
            continue
        with pytest.raises(ResponseError, match="MISCONF"):
            await direct.send(Deduct(account=ANA, amount=1))
        assert beginning == await dump(redis)
        await redis.config_set("stop-writes-on-bgsave-error", "no")
        await direct.do(Deduct(account=ANA, amount=1))


async def test_what_fails_after_it_has_posted_is_not_written(direct):
    """Should a decision ever fail half-way, the call as a whole fails: nothing takes an entry back alone."""
    await direct.do(Grant(account=ANA, amount=100, open=True))
    await direct.do(Grant(account=BIA, amount=100, open=True))
    await direct.do(Reserve(account=ANA, reservation=NEW, amount=60))
    sound = direct.script
    direct.script = mutated(sound, "reservation.status = 'confirmed'", "error('bug')")
    before = await dump(direct.redis)
    with pytest.raises(ResponseError):
        await direct.send(Deduct(account=BIA, amount=1), Confirm(reservation=NEW))
    assert before == await dump(direct.redis)
    direct.script = sound
    await direct.do(Confirm(reservation=NEW))
    await check_keys(direct.redis)


async def test_a_script_that_is_cut_off_between_its_writes_fences_its_shard(direct):
    """Redis never does that to a script. Should it, the stream stands where meta does not."""
    await direct.do(Grant(account=ANA, amount=100, open=True))
    sound = direct.script
    direct.script = mutated(sound, "  send('MSET', nil, plan.texts)", "  error('cut off')")
    with pytest.raises(ResponseError):
        await direct.send(Deduct(account=ANA, amount=1))
    direct.script = sound
    assert "ledger_fenced" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    assert 100 == (await direct.account()).available

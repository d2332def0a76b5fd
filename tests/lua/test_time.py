"""I6: what is due has happened before anything is decided, by a clock that never goes back in a shard."""

import pytest

from app.ledger import keys
from app.ledger.operations import Balance, Cancel, Confirm, Deduct, Find, Grant, Reserve, Sweep
from app.ledger.replies import Applied, Declined
from app.ledger.shards import shard_of
from tests.lua.direct import ANA, SHARD, SHARDS, Direct
from tests.lua.invariants import check_keys

EVE = next(each for each in (f"eve{i}" for i in range(99)) if shard_of(each, SHARDS) == SHARD)
EVENTS_MAX = 100


@pytest.fixture
async def ana(direct: Direct) -> Direct:
    """100 credits for ana."""
    await direct.do(Grant(account=ANA, amount=100, open=True))
    return direct


async def reserve(direct: Direct, amount: int = 60, ttl_ms: int = 1000, account: str = ANA) -> str:
    id_ = direct.new_id(account)
    await direct.do(Reserve(account=account, reservation=id_, amount=amount, ttl_ms=ttl_ms))
    return id_


async def kinds(direct: Direct) -> list[str]:
    return [each.entry.kind for each in await direct.journal.entries(SHARD)]


async def test_a_hold_ends_at_its_deadline_and_not_a_millisecond_before(ana):
    id_ = await reserve(ana)
    await ana.clock.advance(999)
    assert 60 == (await ana.do(Balance(account=ANA)))[1].held
    await ana.clock.advance(1)
    _, account, _ = await ana.do(Balance(account=ANA))
    assert (100, 0, 0) == (account.available, account.held, account.open_holds)
    _, _, shown = await ana.do(Find(reservation=id_))
    assert ("cancelled", "expired", ana.now_ms) == (shown.status, shown.cancel_cause, shown.settled_at_ms)
    await check_keys(ana.redis)


@pytest.mark.parametrize("touch", ["find", "balance", "deduct of another", "confirm", "cancel", "sweep"])
async def test_an_expired_reservation_is_released_by_whatever_touches_its_shard(ana, touch):
    """No sweeper runs here."""
    await ana.do(Grant(account=EVE, amount=1, open=True))
    id_ = await reserve(ana)
    await ana.clock.advance(5000)
    operation = {
        "find": Find(reservation=id_),
        "balance": Balance(account=ANA),
        "deduct of another": Deduct(account=EVE, amount=1),
        "confirm": Confirm(reservation=id_),
        "cancel": Cancel(reservation=id_),
        "sweep": Sweep(shard=SHARD),
    }[touch]
    result = await ana.ask(operation)
    if touch in {"confirm", "cancel"}:
        assert isinstance(result, Declined)
        assert "reservation_expired" == result.word
    assert 100 == (await ana.account()).available
    assert 1 == (await kinds(ana)).count("expired")
    await check_keys(ana.redis)


async def test_a_confirm_in_time_wins_and_one_at_the_deadline_is_late(ana):
    in_time, late = await reserve(ana, 10, 1000), await reserve(ana, 20, 1000)
    await ana.clock.advance(999)
    await ana.do(Confirm(reservation=in_time))
    await ana.clock.advance(1)
    assert "reservation_expired" == (await ana.refused(Confirm(reservation=late))).word
    assert (90, 0) == ((account := await ana.account()).available, account.held)
    await check_keys(ana.redis)


async def test_sweeping_never_ends_a_reservation_that_is_in_time(ana):
    ids = [await reserve(ana, 1, 1000 + i) for i in range(20)]
    await ana.clock.advance(999)
    for id_ in ids:
        reply = await ana.send(Sweep(shard=SHARD), Confirm(reservation=id_), Sweep(shard=SHARD))
        assert isinstance(reply.results[1], Applied)
    assert 80 == (await ana.account()).available
    assert "expired" not in await kinds(ana)
    await check_keys(ana.redis)


async def test_a_thousand_holds_that_are_due_at_once_end_in_bounded_calls_before_anything_is_decided(
    direct_valkey,
):
    direct = direct_valkey
    await direct.do(Grant(account=ANA, amount=1000, open=True))
    for _ in range(4):
        await direct.send(
            *(Reserve(account=ANA, reservation=direct.new_id(), amount=1, ttl_ms=1000) for _ in range(250))
        )
    await direct.clock.advance(2000)
    calls, written = 0, int(await direct.meta("sequence"))
    while True:
        calls += 1
        result = await direct.ask(Deduct(account=ANA, amount=1000))
        sequence = int(await direct.meta("sequence"))
        assert sequence - written <= EVENTS_MAX + 1
        written = sequence
        if isinstance(result, Applied):
            break
        assert "later" == result.word
    assert 10 == calls
    assert 0 == (await direct.account()).available
    await check_keys(direct.redis)


async def test_a_shard_with_much_to_do_does_not_delay_the_others(direct):
    other = next(each for each in (f"o{i}" for i in range(99)) if shard_of(each, SHARDS) != SHARD)
    await direct.do(Grant(account=ANA, amount=1000, open=True))
    await direct.do(Grant(account=other, amount=10, open=True))
    await direct.send(
        *(Reserve(account=ANA, reservation=direct.new_id(), amount=1, ttl_ms=1000) for _ in range(150))
    )
    await direct.clock.advance(2000)
    reply = await direct.send(Deduct(account=ANA, amount=1), Deduct(account=other, amount=1))
    assert ["later", "Applied"] == [reply.results[0].word, type(reply.results[1]).__name__]


async def test_what_is_due_happens_oldest_first_and_ties_in_the_order_of_their_names(ana):
    ids = [await reserve(ana, 1, ttl) for ttl in (3000, 1000, 2000, 1000)]
    await ana.do(Grant(account=EVE, amount=5, expires_at_ms=ana.now_ms + 1500, open=True))
    await ana.clock.advance(5000)
    await ana.do(Balance(account=ANA))
    ended = [each.entry for each in await ana.journal.entries(SHARD)][-5:]
    assert [*sorted([ids[1], ids[3]]), None, ids[2], ids[0]] == [each.reservation for each in ended]
    assert ["expired", "expired", "lapsed", "expired", "expired"] == [each.kind for each in ended]
    assert [ana.now_ms] * 5 == [each.at_ms for each in ended]
    await check_keys(ana.redis)


async def test_time_never_goes_back_in_a_shard(ana):
    """What has ended stays ended, and what begins is counted from the time that the shard has seen."""
    seen = ana.now_ms
    id_ = await reserve(ana)
    await ana.clock.set(seen - 500_000)
    assert str(seen) == await ana.meta("now_ms")
    _, _, shown = await ana.do(Reserve(account=ANA, reservation=ana.new_id(), amount=1, ttl_ms=1000))
    assert seen + 1000 == shown.expires_at_ms
    await ana.clock.set(seen + 999)
    await ana.do(Confirm(reservation=id_))
    await ana.clock.set(seen + 1000)
    await ana.do(Balance(account=ANA))
    await ana.clock.set(seen - 500_000)
    assert "reservation_expired" == (await ana.refused(Confirm(reservation=shown.id))).word
    assert str(seen + 1000) == await ana.meta("now_ms")
    await check_keys(ana.redis)


async def test_an_expiry_is_judged_by_the_time_that_the_shard_has_seen(ana):
    seen = ana.now_ms
    await ana.clock.set(seen - 10_000)
    refused = await ana.refused(Grant(account=ANA, amount=1, expires_at_ms=seen))
    assert ("already_expired", {"expires_at_ms": seen, "now_ms": seen}) == (refused.word, refused.facts)
    await ana.do(Grant(account=ANA, amount=1, expires_at_ms=seen + 1))


async def test_a_due_hold_without_its_reservation_is_set_aside_and_fences_its_account_alone(ana):
    await ana.do(Grant(account=EVE, amount=10, open=True))
    id_, later = await reserve(ana), await reserve(ana, 10, 2000)
    eves = await reserve(ana, 5, 1000, EVE)
    await ana.redis.delete(keys.reservation(SHARD, id_))
    member = f"reservation:{id_}:{ANA}"
    deadline = await ana.redis.zscore(keys.due(SHARD), member)
    await ana.clock.advance(1000)
    reply = await ana.send(Balance(account=EVE), Balance(account=ANA), Deduct(account=ANA, amount=1))
    assert 10 == reply.accounts[reply.results[0].account].available
    assert ["ledger_fenced"] * 2 == [each.word for each in reply.results[1:]]
    assert [(member.encode(), deadline)] == await ana.redis.zrange(keys.aside(SHARD), 0, -1, withscores=True)
    assert await ana.redis.zscore(keys.due(SHARD), member) is None
    account = await ana.account()
    assert (30, 70, f"something due is missing or wrong: {member}") == (
        account.available, account.held, account.fence,
    )  # fmt: skip
    assert ("", "cancelled") == (await ana.meta("fence"), (await ana.do(Find(reservation=eves)))[2].status)
    for operation in (
        Grant(account=ANA, amount=1),
        Confirm(reservation=later),
        Cancel(reservation=later),
        Reserve(account=ANA, reservation=ana.new_id(), amount=1),
    ):
        assert "ledger_fenced" == (await ana.refused(operation)).word
    await ana.do(Deduct(account=EVE, amount=1))


@pytest.mark.parametrize(
    "member", ["account:nobody", "account:", "reservation:", "garbage", "", f"reservation:{'x' * 36}:{ANA}"]
)
async def test_a_due_member_that_names_nothing_is_set_aside_and_the_shard_goes_on(ana, member):
    await ana.redis.zadd(keys.due(SHARD), {member: 5})
    await ana.do(Grant(account=EVE, amount=1, open=True))
    assert [member.encode()] == await ana.redis.zrange(keys.aside(SHARD), 0, -1)
    assert 0 == await ana.redis.zcard(keys.due(SHARD))
    await ana.do(Deduct(account=EVE, amount=1))


async def test_a_due_member_of_a_reservation_that_has_ended_is_set_aside_and_moves_nothing(ana):
    id_ = await reserve(ana)
    await ana.do(Confirm(reservation=id_, amount=1))
    await ana.redis.zadd(keys.due(SHARD), {f"reservation:{id_}:{ANA}": 5})
    before = await kinds(ana)
    assert "ledger_fenced" == (await ana.refused(Deduct(account=ANA, amount=1))).word
    assert before == await kinds(ana)
    assert 99 == (await ana.account()).available


async def test_a_lapse_that_no_lot_asks_for_does_not_stay_due_for_ever(ana):
    """A hundred of them would keep the shard from ever deciding anything."""
    await ana.redis.zadd(keys.due(SHARD), {f"account:{ANA}": 5})
    assert "ledger_fenced" == (await ana.refused(Deduct(account=ANA, amount=1))).word
    assert [f"account:{ANA}".encode()] == await ana.redis.zrange(keys.aside(SHARD), 0, -1)
    assert 0 == await ana.redis.zcard(keys.due(SHARD))


async def test_a_hold_that_is_due_at_another_time_than_it_says_is_set_aside(ana):
    """Time must not end early what is in time because an index says so."""
    id_ = await reserve(ana)
    await ana.redis.zadd(keys.due(SHARD), {f"reservation:{id_}:{ANA}": 5})
    assert "ledger_fenced" == (await ana.refused(Deduct(account=ANA, amount=1))).word
    assert "expired" not in await kinds(ana)


async def test_a_call_past_its_deadline_does_nothing_and_says_so(ana):
    await ana.redis.zadd(keys.due(SHARD), {"garbage": 5})
    sequence = await ana.meta("sequence")
    reply = await ana.send(Deduct(account=ANA, amount=1), deadline_ms=ana.now_ms - 1)
    assert ("too_late", ana.now_ms, []) == (reply.status, reply.now_ms, reply.results)
    assert (sequence, 100) == (await ana.meta("sequence"), (await ana.account()).available)
    assert "ok" == (await ana.send(Deduct(account=ANA, amount=1), deadline_ms=ana.now_ms)).status


async def test_a_late_copy_of_a_call_that_ran_is_refused_and_an_early_one_is_answered_again(ana):
    asked = {"number": 7, "deadline_ms": ana.now_ms + 30_000, "lane": "lastro:{0}:lane:x"}
    first = await ana.send(Deduct(account=ANA, amount=1), **asked)
    again = await ana.send(Deduct(account=ANA, amount=1), **asked)
    assert first == again
    await ana.clock.advance(30_001)
    await ana.redis.delete("lastro:{0}:lane:x")  # it lives for 10 minutes
    assert "too_late" == (await ana.send(Deduct(account=ANA, amount=1), **asked)).status
    assert 99 == (await ana.account()).available


async def test_a_lane_answers_its_last_call_again_and_refuses_those_before(ana):
    replies = [await ana.send(Deduct(account=ANA, amount=1), number=number) for number in (1001, 1002, 1003)]
    assert replies[2] == await ana.send(Deduct(account=ANA, amount=50), number=1003)
    for number in (1, 1001, 1002):
        assert "stale" == (await ana.send(Deduct(account=ANA, amount=50), number=number)).status
    assert 97 == (await ana.account()).available
    assert 590_000 < await ana.redis.pttl(ana.lane) <= 600_000
    other = await ana.send(Deduct(account=ANA, amount=1), number=1, lane="lastro:{0}:lane:another")
    assert "ok" == other.status

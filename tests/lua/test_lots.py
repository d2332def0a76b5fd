"""Buckets and lots: what is spent first, what comes back where, what lapses when, how many there may be."""

import pytest

from app.ledger import keys
from app.ledger.operations import Balance, Cancel, Confirm, Deduct, Grant, Reserve, Sweep
from app.ledger.replies import Lot
from tests.lua.direct import ANA, SHARD, Direct
from tests.lua.invariants import check_keys
from tests.lua.scenes import refund

MINUTE = 60_000


async def grant(
    direct: Direct, bucket: str, amount: int, *, priority: int | None = None, in_ms: int = 0
) -> None:
    expires_at_ms = direct.now_ms + in_ms if in_ms else 0
    await direct.do(
        Grant(
            account=ANA,
            amount=amount,
            bucket=bucket,
            priority=priority,
            expires_at_ms=expires_at_ms,
            open=True,
        )
    )


async def rows(direct: Direct) -> list[tuple[str, int, int]]:
    """Bucket, available, held of each lot, in spending order."""
    return [(lot.bucket, lot.available, lot.held) for lot in (await direct.account()).lots]


def legs(applied) -> list[tuple[str, int, int]]:
    return [(leg.bucket, leg.available, leg.held) for leg in applied.entry.legs]


async def test_the_lower_priority_number_is_spent_first_then_the_sooner_expiry_then_the_older_lot(direct):
    await grant(direct, "never", 1, priority=10)
    await grant(direct, "late", 2, priority=10, in_ms=9 * MINUTE)
    await grant(direct, "soon", 4, priority=10, in_ms=MINUTE)
    await grant(direct, "soon2", 8, priority=10, in_ms=MINUTE)
    await grant(direct, "last", 16, priority=11, in_ms=MINUTE)
    await grant(direct, "first", 32, priority=0)
    expected = ["first", "soon", "soon2", "late", "never", "last"]
    assert expected == [bucket for bucket, _, _ in await rows(direct)]
    applied, _, _ = await direct.do(Deduct(account=ANA, amount=50))
    taken = [("first", -32), ("soon", -4), ("soon2", -8), ("late", -2), ("never", -1), ("last", -3)]
    assert [(bucket, amount, 0) for bucket, amount in taken] == legs(applied)
    await check_keys(direct.redis)


async def test_of_equal_lots_the_one_that_has_held_something_for_longer_is_spent_first(direct):
    """Age begins anew when a lot was empty in between."""
    await grant(direct, "a", 5)
    await grant(direct, "b", 5)
    await direct.do(Deduct(account=ANA, amount=5))
    await grant(direct, "a", 5)
    applied, _, _ = await direct.do(Deduct(account=ANA, amount=6))
    assert [("b", -5, 0), ("a", -1, 0)] == legs(applied)


async def test_a_grant_to_a_lot_that_is_not_empty_keeps_its_age(direct):
    await grant(direct, "a", 5)
    await grant(direct, "b", 5)
    await grant(direct, "a", 5)
    applied, _, _ = await direct.do(Deduct(account=ANA, amount=11))
    assert [("a", -10, 0), ("b", -1, 0)] == legs(applied)


async def test_a_grant_with_a_priority_sets_it_for_all_lots_of_the_bucket(direct):
    await grant(direct, "a", 1, in_ms=MINUTE)
    await grant(direct, "a", 1, in_ms=2 * MINUTE)
    await grant(direct, "b", 1, priority=50)
    assert ["b", "a", "a"] == [bucket for bucket, _, _ in await rows(direct)]
    await grant(direct, "a", 1, priority=5)
    assert ["a", "a", "a", "b"] == [bucket for bucket, _, _ in await rows(direct)]
    await grant(direct, "a", 1, in_ms=3 * MINUTE)
    assert [5, 5, 5, 5, 50] == [lot.priority for lot in (await direct.account()).lots]
    await check_keys(direct.redis)


async def test_a_bucket_keeps_its_priority_while_it_is_empty(direct):
    await grant(direct, "plan", 5, priority=7, in_ms=MINUTE)
    await direct.do(Deduct(account=ANA, amount=5))
    assert [Lot("plan", 7, 0, 0, 0, 1)] == (await direct.account()).lots
    await grant(direct, "plan", 5, in_ms=2 * MINUTE)
    [lot] = (await direct.account()).lots
    assert ("plan", 7, direct.now_ms + 2 * MINUTE, 5) == (
        lot.bucket,
        lot.priority,
        lot.expires_at_ms,
        lot.available,
    )
    await check_keys(direct.redis)


async def test_what_is_released_goes_back_in_reverse_to_the_lots_it_came_from(direct):
    await grant(direct, "a", 10, priority=1)
    await grant(direct, "b", 10, priority=2, in_ms=MINUTE)
    await grant(direct, "c", 10, priority=3)
    id_ = direct.new_id()
    reserved, _, held = await direct.do(Reserve(account=ANA, reservation=id_, amount=25))
    assert [("a", -10, 10), ("b", -10, 10), ("c", -5, 5)] == legs(reserved)
    assert [("a", 10), ("b", 10), ("c", 5)] == [(leg.bucket, leg.held) for leg in held.legs]
    confirmed, _, shown = await direct.do(Confirm(reservation=id_, amount=12))
    assert [("a", 0, -10), ("b", 8, -10), ("c", 5, -5)] == legs(confirmed)
    assert (12, 13, 0, []) == (shown.captured, shown.released, shown.held, shown.legs)
    assert [("a", 0, 0), ("b", 8, 0), ("c", 10, 0)] == await rows(direct)
    await check_keys(direct.redis)


@pytest.mark.parametrize("ending", ["cancel", "expire"])
async def test_what_is_given_back_whole_goes_back_in_reverse(direct, ending):
    await grant(direct, "a", 10, priority=1)
    await grant(direct, "b", 10, priority=2)
    await grant(direct, "c", 10, priority=3)
    id_ = direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=id_, amount=25, ttl_ms=1000))
    if ending == "cancel":
        await direct.do(Cancel(reservation=id_))
    else:
        await direct.clock.advance(1000)
        await direct.send(Sweep(shard=SHARD))
    last = (await direct.journal.entries(SHARD))[-1]
    assert [("c", 5, -5), ("b", 10, -10), ("a", 10, -10)] == legs(last)
    assert [("a", 10, 0), ("b", 10, 0), ("c", 10, 0)] == await rows(direct)
    await check_keys(direct.redis)


async def test_a_lot_lapses_at_its_expiry_and_not_a_millisecond_before(direct):
    await grant(direct, "plan", 5, in_ms=1000)
    await grant(direct, "plan", 3)
    await direct.clock.advance(999)
    assert 8 == (await direct.do(Balance(account=ANA)))[1].available
    await direct.clock.advance(1)
    assert "insufficient_credits" == (await direct.refused(Deduct(account=ANA, amount=4))).word
    last = (await direct.journal.entries(SHARD))[-1].entry
    assert ("lapsed", 5, 3, "system") == (last.kind, last.amount, last.available, last.by)
    assert [("plan", 3, 0)] == await rows(direct)
    await check_keys(direct.redis)


async def test_what_is_held_does_not_lapse_and_what_comes_back_too_late_lapses_at_once_as_its_own_entry(
    direct,
):
    await grant(direct, "plan", 10, in_ms=1000)
    await grant(direct, "extra", 10)
    ids = [direct.new_id() for _ in range(3)]
    for id_ in ids:
        await direct.do(Reserve(account=ANA, reservation=id_, amount=3, ttl_ms=2000))
    await direct.clock.advance(1500)
    await direct.do(Balance(account=ANA))
    assert [("plan", 0, 9), ("extra", 10, 0)] == await rows(direct)
    await check_keys(direct.redis)
    await direct.do(Confirm(reservation=ids[0], amount=1))
    await direct.do(Cancel(reservation=ids[1]))
    await direct.clock.advance(500)
    await direct.do(Balance(account=ANA))
    entries = [each.entry for each in await direct.journal.entries(SHARD)][5:]
    assert [
        ("lapsed", 1, 10, 9),
        ("confirmed", 1, 12, 6), ("lapsed", 2, 10, 6),
        ("cancelled", 3, 13, 3), ("lapsed", 3, 10, 3),
        ("expired", 3, 13, 0), ("lapsed", 3, 10, 0),
    ] == [(each.kind, each.amount, each.available, each.held) for each in entries]  # fmt: skip
    await check_keys(direct.redis)


async def test_what_comes_back_too_late_has_lapsed_before_the_answer(direct):
    """And not with the next call only: nobody is shown credits that are gone."""
    await grant(direct, "plan", 20, priority=1, in_ms=MINUTE)
    await grant(direct, "extra", 10)
    spent = (await direct.do(Deduct(account=ANA, amount=5)))[0]
    confirmed, cancelled = direct.new_id(), direct.new_id()
    for id_ in (confirmed, cancelled):
        await direct.do(Reserve(account=ANA, reservation=id_, amount=6, ttl_ms=2 * MINUTE))
    await direct.clock.advance(MINUTE)
    for operation in (Confirm(reservation=confirmed, amount=1), Cancel(reservation=cancelled), refund(spent)):
        _, account, _ = await direct.do(operation)
        assert account is not None
        assert 10 == account.available
    assert 0 == (await direct.account()).held
    await check_keys(direct.redis)


async def test_a_lapsed_lot_that_holds_something_is_never_spent(direct):
    await grant(direct, "plan", 10, in_ms=1000)
    await direct.do(Reserve(account=ANA, reservation=direct.new_id(), amount=4))
    await direct.clock.advance(1000)
    assert "insufficient_credits" == (await direct.refused(Deduct(account=ANA, amount=5))).word
    assert "credits_held" == (await direct.refused(Deduct(account=ANA, amount=4))).word
    assert [("plan", 0, 4)] == await rows(direct)


async def test_all_lots_that_are_due_lapse_in_one_entry_and_the_next_one_is_due(direct):
    for i in (3, 1, 2):
        await grant(direct, f"b{i}", i, in_ms=1000 * i)
    await direct.clock.advance(2000)
    await direct.do(Balance(account=ANA))
    last = (await direct.journal.entries(SHARD))[-1]
    assert ("lapsed", 3, [("b1", -1, 0), ("b2", -2, 0)]) == (last.entry.kind, last.entry.amount, legs(last))
    assert direct.now_ms + 1000 == (await direct.account()).lapses_at_ms
    await check_keys(direct.redis)


async def test_what_comes_back_into_a_lot_is_due_again(direct):
    await grant(direct, "plan", 10, in_ms=MINUTE)
    id_ = direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=id_, amount=10))
    assert (0, 1) == ((await direct.account()).lapses_at_ms, await direct.redis.zcard(keys.due(SHARD)))
    await direct.do(Cancel(reservation=id_))
    assert direct.now_ms + MINUTE == (await direct.account()).lapses_at_ms
    await check_keys(direct.redis)


async def test_an_account_has_at_most_64_lots(direct):
    for i in range(64):
        await grant(direct, f"b{i}", 1)
    refused = await direct.refused(Grant(account=ANA, amount=1, bucket="b64"))
    assert ("limit_reached", {"what": "lots", "limit": 64}) == (refused.word, refused.facts)
    await grant(direct, "b63", 1)
    await check_keys(direct.redis)


async def test_empty_rows_make_room_oldest_first(direct):
    for i in range(64):
        await grant(direct, f"b{i:02}", 1, priority=i)
    await direct.do(Deduct(account=ANA, amount=3))
    await grant(direct, "b00", 1)
    await direct.do(Deduct(account=ANA, amount=1))
    assert 64 == len(await rows(direct))
    await grant(direct, "new1", 1)
    buckets = [bucket for bucket, _, _ in await rows(direct)]
    assert ("b01" not in buckets, "b02" in buckets, "b00" in buckets, 64) == (True, True, True, len(buckets))
    await grant(direct, "new2", 1)
    await grant(direct, "new3", 1)
    buckets = [bucket for bucket, _, _ in await rows(direct)]
    assert not {"b00", "b01", "b02"} & set(buckets)
    assert "limit_reached" == (await direct.refused(Grant(account=ANA, amount=1, bucket="new4"))).word
    await check_keys(direct.redis)


async def test_the_64th_lot_that_is_held_is_no_room(direct):
    for i in range(64):
        await grant(direct, f"b{i:02}", 1, priority=i)
    id_ = direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=id_, amount=1))
    assert "limit_reached" == (await direct.refused(Grant(account=ANA, amount=1, bucket="new"))).word
    await direct.do(Confirm(reservation=id_))
    await grant(direct, "new", 1)
    await check_keys(direct.redis)


async def test_a_bucket_of_64_expiries_makes_room_by_itself(direct):
    for i in range(64):
        await grant(direct, "plan", 1, in_ms=1000 + i)
    assert (
        "limit_reached"
        == (
            await direct.refused(
                Grant(account=ANA, amount=1, bucket="plan", expires_at_ms=direct.now_ms + MINUTE)
            )
        ).word
    )
    await direct.clock.advance(1001)
    await grant(direct, "plan", 1, in_ms=MINUTE)
    assert 63 == len(await rows(direct))
    await check_keys(direct.redis)


async def test_everything_in_one_call_is_as_in_many(direct):
    """A reservation made, confirmed in part, another cancelled, lots emptied and filled: in one call."""
    await grant(direct, "plan", 10, priority=1, in_ms=MINUTE)
    await grant(direct, "extra", 10)
    first, second = direct.new_id(), direct.new_id()
    reply = await direct.send(
        Reserve(account=ANA, reservation=first, amount=15),
        Reserve(account=ANA, reservation=second, amount=5),
        Deduct(account=ANA, amount=1),
        Confirm(reservation=first, amount=12),
        Cancel(reservation=second),
        Deduct(account=ANA, amount=8),
        Grant(account=ANA, amount=4, bucket="plan", expires_at_ms=direct.now_ms + MINUTE),
        Confirm(reservation=first),
        Balance(account=ANA, open=True),
    )
    assert "credits_held" == reply.results[2].word
    assert reply.results[7].replayed
    assert [] == reply.results[8].open
    account = await direct.account()
    assert (4, 0, 0) == (account.available, account.held, account.open_holds)
    await check_keys(direct.redis)

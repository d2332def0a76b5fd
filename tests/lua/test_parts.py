"""A confirm that is not final: a part is captured, the rest stays held, and its key is never forgotten."""

import pytest

from app.ledger import keys
from app.ledger.operations import Cancel, Confirm, Deduct, Extend, Find, Grant, Reserve, Sweep
from tests.lua.direct import ANA, SHARD
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import DAY_MS, MINUTE_MS, G, balance, entries, grant, keyed, legs, part, reserve, rows


async def test_a_part_is_spent_and_the_rest_stays_held(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    applied = await part(direct, id_, 25, "p1")
    assert [("default", 0, -25)] == legs(applied)
    entry = applied.entry
    assert ("confirmed", 25, 25, 0, 0) == (
        entry.kind, entry.amount, entry.captured, entry.charged, entry.released,
    )  # fmt: skip
    _, _, shown = await direct.do(Find(reservation=id_))
    assert ("pending", 60, 25, 0, 35) == (
        shown.status, shown.reserved, shown.captured, shown.released, shown.held,
    )  # fmt: skip
    assert [(applied.sequence, "p1", "f" * 16)] == [tuple_of(each) for each in shown.parts]
    assert (40, 35) == await balance(direct)
    await check_keys(direct.redis)


def tuple_of(each) -> tuple[int, str, str]:
    return each.sequence, each.key, each.fingerprint


async def test_parts_are_taken_in_the_order_in_which_the_lots_were_held(direct):
    await grant(direct, 10, "a", priority=1)
    await grant(direct, 10, "b", priority=2, in_ms=MINUTE_MS)
    await grant(direct, 10, "c", priority=3)
    id_ = await reserve(direct, 25)
    assert [("a", 0, -4)] == legs(await part(direct, id_, 4, "p1"))
    assert [("a", 0, -6), ("b", 0, -10), ("c", 0, -1)] == legs(await part(direct, id_, 17, "p2"))
    await check_keys(direct.redis)
    applied, _, shown = await direct.do(Confirm(reservation=id_, amount=1))
    assert [("c", 3, -4)] == legs(applied)
    assert ("confirmed", 22, 3, 0) == (shown.status, shown.captured, shown.released, shown.held)
    assert [("a", 0, 0), ("b", 0, 0), ("c", 8, 0)] == await rows(direct)
    await check_keys(direct.redis)


@pytest.mark.parametrize("amount", [35, None, 60])
async def test_a_part_that_takes_all_that_is_held_ends_the_reservation_as_confirmed(direct, amount):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    await part(direct, id_, 25, "p1")
    asked = {"reservation": id_, "amount": amount, "final": False, **keyed("p2")}
    applied, account, shown = await direct.do(Confirm(**asked, over_capture="cap"))
    assert ("confirmed", 60, 0, 35) == (shown.status, shown.captured, shown.released, applied.entry.captured)
    assert (40, 0, 0) == (account.available, account.held, account.open_holds)
    assert (await direct.do(Confirm(**asked, over_capture="cap")))[0].sequence == applied.sequence
    await check_keys(direct.redis)


@pytest.mark.parametrize("ending", ["cancel", "expire"])
async def test_what_was_captured_in_parts_stays_captured_whatever_ends_the_rest(direct, ending):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS)
    await part(direct, id_, 25, "p1")
    if ending == "cancel":
        await direct.do(Cancel(reservation=id_))
    else:
        await direct.clock.advance(MINUTE_MS)
        await direct.do(Sweep(shard=SHARD))
    [last] = await entries(direct, 1)
    _, _, shown = await direct.do(Find(reservation=id_))
    assert (35, 35, "cancelled", 25, 35, 0) == (
        last.amount, last.released, shown.status, shown.captured, shown.released, shown.held,
    )  # fmt: skip
    assert ((75, 0), 1) == (await balance(direct), len(shown.parts))
    await check_keys(direct.redis)


async def test_a_part_under_the_same_key_is_captured_once(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    first = await part(direct, id_, 25, "p1")
    before = await dump(direct.redis)
    again, account, shown = await direct.do(Confirm(reservation=id_, amount=25, final=False, **keyed("p1")))
    assert (first.entry, True, 35, 35) == (again.entry, again.replayed, account.held, shown.held)
    assert not difference(without_traces(before), without_traces(await dump(direct.redis)))
    refused = await direct.refused(Confirm(reservation=id_, amount=26, final=False, **keyed("p1", G)))
    assert "idempotency_mismatch" == refused.word
    await check_keys(direct.redis)


@pytest.mark.parametrize("ended", [False, True])
async def test_the_key_of_a_part_is_known_after_its_record_is_gone(direct, ended):
    """25 hours later: Redis has forgotten the record, the reservation has not forgotten its part."""
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=DAY_MS)
    first = await part(direct, id_, 25, "p1")
    await direct.journaled()
    await direct.clock.advance(DAY_MS - 1)
    await direct.do(Extend(reservation=id_, ttl_ms=DAY_MS))
    await direct.clock.advance(MINUTE_MS)
    if ended:
        await direct.do(Confirm(reservation=id_, amount=1))
    await direct.redis.delete(keys.operation(SHARD, "r", id_, "p1"))
    again, _, shown = await direct.do(Confirm(reservation=id_, amount=25, final=False, **keyed("p1")))
    assert (first.sequence, first.entry, True) == (again.sequence, again.entry, again.replayed)
    assert (26 if ended else 25) == shown.captured
    refused = await direct.refused(Confirm(reservation=id_, amount=26, final=False, **keyed("p1", G)))
    assert "idempotency_mismatch" == refused.word
    await check_keys(direct.redis)


async def test_the_key_of_a_part_is_no_other_verbs(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    await part(direct, id_, 25, "p1")
    await direct.redis.delete(keys.operation(SHARD, "r", id_, "p1"))
    applied, _, _ = await direct.do(Cancel(reservation=id_, **keyed("p1", G)))
    assert ("cancelled", False) == (applied.entry.kind, applied.replayed)
    await check_keys(direct.redis)


async def test_a_hundred_parts_are_captured_and_the_next_one_must_be_the_last(direct_valkey):
    direct = direct_valkey
    await grant(direct, 1000)
    id_ = await reserve(direct, 500)
    await direct.send(
        *(Confirm(reservation=id_, amount=1, final=False, **keyed(f"p{i}")) for i in range(100))
    )
    refused = await direct.refused(Confirm(reservation=id_, amount=1, final=False, **keyed("p100")))
    assert ("limit_reached", {"what": "parts", "limit": 100}) == (refused.word, refused.facts)
    assert (await direct.do(Confirm(reservation=id_, amount=1, final=False, **keyed("p7"))))[0].replayed
    _, account, shown = await direct.do(Confirm(reservation=id_, amount=1))
    assert (899, "confirmed", 101, 399) == (account.available, shown.status, shown.captured, shown.released)
    await check_keys(direct.redis)


async def test_the_last_part_may_be_the_hundred_and_first(direct_valkey):
    direct = direct_valkey
    await grant(direct, 1000)
    id_ = await reserve(direct, 101)
    await direct.send(
        *(Confirm(reservation=id_, amount=1, final=False, **keyed(f"p{i}")) for i in range(100))
    )
    applied, _, shown = await direct.do(Confirm(reservation=id_, final=False, **keyed("p100")))
    assert (1, "confirmed", 101) == (applied.entry.amount, shown.status, shown.captured)
    await check_keys(direct.redis)


async def test_a_part_without_a_key_or_of_nothing_is_a_bug_that_moves_nothing(direct):
    """HTTP lets neither in; the script must not believe that."""
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    before = without_traces(await dump(direct.redis))
    for more in ({"amount": 20}, {"amount": 0, **keyed()}):
        assert "internal_error" == (await direct.refused(Confirm(reservation=id_, final=False, **more))).word
    assert before == without_traces(await dump(direct.redis))


async def test_a_reservation_of_this_call_is_captured_in_parts_extended_and_ended_in_it(direct):
    await grant(direct, 100)
    id_ = direct.new_id()
    reply = await direct.send(
        Reserve(account=ANA, reservation=id_, amount=60, ttl_ms=MINUTE_MS),
        Confirm(reservation=id_, amount=10, final=False, **keyed("p1")),
        Extend(reservation=id_, ttl_ms=2 * MINUTE_MS),
        Confirm(reservation=id_, amount=20, final=False, **keyed("p2")),
        Deduct(account=ANA, amount=40),
        Confirm(reservation=id_, amount=5),
        Grant(account=ANA, amount=1),
    )
    assert ["reserved", "confirmed", "extended", "confirmed", "deducted", "confirmed", "granted"] == [
        each.entry.kind for each in reply.results
    ]
    [shown] = reply.reservations
    assert ("confirmed", 35, 25, 1, 2) == (
        shown.status, shown.captured, shown.released, shown.extensions, len(shown.parts),
    )  # fmt: skip
    assert (26, 0) == await balance(direct)
    await check_keys(direct.redis)


@pytest.mark.parametrize("key", ['"', "\\", 'a,"id":"b', ',"parts":[', "x" * 255, "%d%s"])
async def test_the_key_of_a_part_may_be_any_text(direct_valkey, key):
    direct = direct_valkey
    await grant(direct, 100)
    id_ = await reserve(direct, 60, model="m", metadata={"a": '","id":"'})
    first = await part(direct, id_, 25, key)
    await direct.redis.delete(keys.operation(SHARD, "r", id_, key))
    assert first.entry == (await part(direct, id_, 25, key)).entry
    _, _, shown = await direct.do(Confirm(reservation=id_))
    assert (key, {"a": '","id":"'}, "m") == (shown.parts[0].key, shown.metadata, shown.model)
    await check_keys(direct.redis)

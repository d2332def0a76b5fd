"""extend: the deadline of a reservation that is still open moves on, everywhere it is kept."""

import pytest

from app.ledger import keys
from app.ledger.operations import (
    Balance,
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Extend,
    Find,
    Locate,
    Reserve,
    Sweep,
)
from app.ledger.replies import Located
from app.ledger.shards import shard_of_task
from tests.lua.direct import ANA, SHARD, SHARDS
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import DAY_MS, MINUTE_MS, balance, configure, entries, grant, keyed, legs, reserve

TASK_SHARD = shard_of_task("fal", "t", SHARDS)


async def test_the_deadline_is_counted_from_now(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS, model="m")
    await direct.clock.advance(MINUTE_MS - 1)
    applied, account, shown = await direct.do(Extend(reservation=id_, ttl_ms=MINUTE_MS, **keyed()))
    deadline_ms = direct.now_ms + MINUTE_MS
    entry = applied.entry
    assert ("extended", 0, [], deadline_ms, id_, "m") == (
        entry.kind, entry.amount, legs(applied), entry.deadline_ms, entry.reservation, entry.model,
    )  # fmt: skip
    assert ("pending", deadline_ms, 1, 60) == (
        shown.status, shown.expires_at_ms, shown.extensions, shown.held,
    )  # fmt: skip
    assert (40, 60, 1) == (account.available, account.held, account.open_holds)
    await check_keys(direct.redis)
    before = await dump(direct.redis)
    again, _, _ = await direct.do(Extend(reservation=id_, ttl_ms=MINUTE_MS, **keyed()))
    assert (applied.entry, True) == (again.entry, again.replayed)
    assert not difference(without_traces(before), without_traces(await dump(direct.redis)))


async def test_what_was_extended_ends_at_its_new_deadline_and_not_a_millisecond_before(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS)
    await direct.do(Extend(reservation=id_, ttl_ms=2 * MINUTE_MS))
    await direct.clock.advance(2 * MINUTE_MS - 1)
    assert 60 == (await direct.do(Balance(account=ANA)))[1].held
    await direct.clock.advance(1)
    await direct.do(Sweep(shard=SHARD))
    [last] = await entries(direct, 1)
    assert ("expired", direct.now_ms) == (last.kind, last.deadline_ms)
    assert (100, 0) == await balance(direct)
    await check_keys(direct.redis)


async def test_the_deadline_never_moves_back(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=2 * MINUTE_MS)
    deadline_ms = direct.now_ms + 2 * MINUTE_MS
    before = without_traces(await dump(direct.redis))
    refused = await direct.refused(Extend(reservation=id_, ttl_ms=2 * MINUTE_MS - 1))
    assert ("invalid_extension", {"expires_at_ms": deadline_ms, "latest_ms": deadline_ms - 1}) == (
        refused.word, refused.facts,
    )  # fmt: skip
    assert before == without_traces(await dump(direct.redis))
    _, _, shown = await direct.do(Extend(reservation=id_, ttl_ms=2 * MINUTE_MS))
    assert (deadline_ms, 1) == (shown.expires_at_ms, shown.extensions)
    await check_keys(direct.redis)


async def test_a_hundred_times_and_no_more(direct_valkey):
    direct = direct_valkey
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    await direct.send(*(Extend(reservation=id_, ttl_ms=DAY_MS) for _ in range(100)))
    refused = await direct.refused(Extend(reservation=id_, ttl_ms=DAY_MS))
    assert ("limit_reached", {"what": "extensions", "limit": 100}) == (refused.word, refused.facts)
    assert "invalid_extension" == (await direct.refused(Extend(reservation=id_, ttl_ms=1000))).word
    await check_keys(direct.redis)


@pytest.mark.parametrize("ending", ["confirm", "cancel", "expire"])
async def test_what_has_ended_is_not_extended(direct, ending):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS)
    word, facts = {
        "confirm": ("reservation_confirmed", {}),
        "cancel": ("reservation_cancelled", {"cause": "requested"}),
        "expire": ("reservation_expired", {}),
    }[ending]
    if ending == "expire":
        await direct.clock.advance(MINUTE_MS)
    else:
        await direct.do((Confirm if ending == "confirm" else Cancel)(reservation=id_))
    refused = await direct.refused(Extend(reservation=id_, ttl_ms=2 * MINUTE_MS))
    assert (word, facts | {"at_ms": direct.now_ms}) == (refused.word, refused.facts)
    await check_keys(direct.redis)


async def test_a_frozen_account_has_nothing_extended(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    await configure(direct, status="frozen")
    assert "account_frozen" == (await direct.refused(Extend(reservation=id_, ttl_ms=DAY_MS))).word


async def test_one_that_has_a_task_is_extended_where_its_task_is_kept_too(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60, ttl_ms=MINUTE_MS, task="t", provider="fal")
    before = without_traces(await dump(direct.redis))
    for _ in range(2):  # this refusal is not remembered
        refused = await direct.refused(Extend(reservation=id_, ttl_ms=DAY_MS, **keyed()))
        assert ("task_elsewhere", {"task": "t", "provider": "fal"}, False) == (
            refused.word, refused.facts, refused.replayed,
        )  # fmt: skip
    assert before == without_traces(await dump(direct.redis))
    applied, _, shown = await direct.do(
        Extend(reservation=id_, ttl_ms=DAY_MS, task_shard=TASK_SHARD, **keyed())
    )
    assert ("t", "fal") == (applied.entry.task, applied.entry.provider)
    name = keys.task(TASK_SHARD, "fal", "t")
    assert shown.expires_at_ms + DAY_MS == await direct.redis.pexpiretime(name)
    assert Located(id_) == await direct.ask(Locate(shard=TASK_SHARD, task="t", provider="fal"))
    await check_keys(direct.redis)


async def test_a_task_that_has_become_anothers_stays_the_others(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 10, task="t", provider="fal")
    name = keys.task(TASK_SHARD, "fal", "t")
    await direct.redis.delete(name)
    other = await reserve(direct, 10, task="t", provider="fal")
    kept_until_ms = await direct.redis.pexpiretime(name)
    _, _, shown = await direct.do(Extend(reservation=id_, ttl_ms=DAY_MS, task_shard=TASK_SHARD))
    assert (1, "t") == (shown.extensions, shown.task)
    assert (other, kept_until_ms) == (
        (await direct.redis.get(name)).decode(),
        await direct.redis.pexpiretime(name),
    )
    await check_keys(direct.redis)


async def test_a_task_that_was_forgotten_is_known_again(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 10, task="t", provider="fal")
    await direct.redis.delete(keys.task(TASK_SHARD, "fal", "t"))
    await direct.do(Extend(reservation=id_, ttl_ms=DAY_MS, task_shard=TASK_SHARD))
    assert Located(id_) == await direct.ask(Locate(shard=TASK_SHARD, task="t", provider="fal"))


async def test_one_without_a_task_does_not_mind_a_shard_for_it(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 10)
    await direct.do(Extend(reservation=id_, ttl_ms=DAY_MS, task_shard=TASK_SHARD))
    await check_keys(direct.redis)


async def test_a_reservation_of_this_call_is_extended_bound_and_ended_in_it(direct):
    await grant(direct, 100)
    kept, ended = direct.new_id(), direct.new_id()
    reply = await direct.send(
        Reserve(account=ANA, reservation=kept, amount=10, ttl_ms=MINUTE_MS, metadata={"a": "b"}),
        Reserve(account=ANA, reservation=ended, amount=10, ttl_ms=MINUTE_MS),
        Extend(reservation=kept, ttl_ms=2 * MINUTE_MS),
        Extend(reservation=ended, ttl_ms=2 * MINUTE_MS),
        Bind(reservation=kept, task="t", provider="fal"),
        Extend(reservation=kept, ttl_ms=3 * MINUTE_MS, task_shard=TASK_SHARD),
        Confirm(reservation=ended),
        Balance(account=ANA, open=True),
    )
    [open_] = reply.results[-1].open
    shown = reply.reservations[open_]
    assert (kept, direct.now_ms + 3 * MINUTE_MS, 2, "t", {"a": "b"}) == (
        shown.id, shown.expires_at_ms, shown.extensions, shown.task, shown.metadata,
    )  # fmt: skip
    await check_keys(direct.redis)
    await direct.clock.advance(3 * MINUTE_MS)
    assert 90 == (await direct.do(Balance(account=ANA)))[1].available
    await check_keys(direct.redis)


async def test_what_is_extended_and_ended_in_one_call_is_open_no_more_in_it(direct):
    await grant(direct, 100)
    ids = [await reserve(direct, 10, ttl_ms=MINUTE_MS + i) for i in range(3)]
    reply = await direct.send(
        Extend(reservation=ids[0], ttl_ms=2 * MINUTE_MS),
        Confirm(reservation=ids[0]),
        Balance(account=ANA, open=True),
        Deduct(account=ANA, amount=90),
        Deduct(account=ANA, amount=91),
    )
    assert ids[1:] == [reply.reservations[place].id for place in reply.results[2].open]
    facts = {"required": 90, "available": 70, "held": 20, "open_reservations": 2}
    assert facts | {"next_release_at_ms": direct.now_ms + MINUTE_MS + 1} == reply.results[3].facts
    assert "insufficient_credits" == reply.results[4].word
    await check_keys(direct.redis)


async def test_the_next_release_is_told_past_those_that_this_call_has_moved_on(direct):
    await grant(direct, 100)
    ids = [await reserve(direct, 10, ttl_ms=(i + 1) * MINUTE_MS) for i in range(5)]
    reply = await direct.send(
        *(Extend(reservation=id_, ttl_ms=9 * MINUTE_MS) for id_ in ids[:4]),
        Deduct(account=ANA, amount=100),
        Balance(account=ANA, open=True),
    )
    assert direct.now_ms + 5 * MINUTE_MS == reply.results[4].facts["next_release_at_ms"]
    assert [ids[4], *sorted(ids[:4])] == [reply.reservations[place].id for place in reply.results[5].open]
    await check_keys(direct.redis)


async def test_somebody_elses_reservation_is_not_found(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 10)
    refused = await direct.refused(Extend(reservation=id_, ttl_ms=DAY_MS, account="somebody"))
    assert ("reservation_not_found", {"foreign": 1}) == (refused.word, refused.facts)
    shown = (await direct.do(Find(reservation=id_)))[2]
    assert 0 == shown.extensions

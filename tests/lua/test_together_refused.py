"""I1 for several operations of which one is refused: what remains of the others, whatever it was."""

import pytest
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Fence,
    Grant,
    Original,
    Refund,
    Reserve,
    Sweep,
)
from app.ledger.shards import shard_of
from tests.lua.direct import ANA, BIA, SHARD, SHARDS
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.mutants import mutated
from tests.lua.scenes import (
    EVE,
    MINUTE_MS,
    balance,
    configure,
    grant,
    keyed,
    reserve,
    words,
)

REFUSED = Deduct(account=ANA, amount=1_000_000)


EVERYTHING = {
    "an account that is opened": lambda _d, _: Grant(account="new", amount=5, open=True, shard=SHARD),
    "an account that is configured": lambda _d, _: Configure(account=ANA, overdraft_limit=7, low_balance=1),
    "an account that is closed": lambda _d, _: Configure(account=EVE, status="closed", open=True),
    "debt": lambda _d, _: Adjust(account=ANA, amount=-90),
    "a lot": lambda d, _: Grant(account=ANA, amount=5, bucket="n", priority=1, expires_at_ms=d.now_ms + 9000),
    "a rollover": lambda _d, _: Grant(account=ANA, amount=5, bucket="plan", rollover=5),
    "a task": lambda d, _: Reserve(
        account=ANA, reservation=d.new_id(), amount=5, task="t", provider="fal", **keyed("r")
    ),
    "a task that is bound": lambda _d, id_: Bind(reservation=id_, task="t", resource="img"),
    "an extension": lambda _d, id_: Extend(reservation=id_, ttl_ms=60 * MINUTE_MS),
    "a part": lambda _d, id_: Confirm(reservation=id_, amount=1, final=False, **keyed("p")),
    "an ending": lambda _d, id_: Confirm(reservation=id_, model="m", notes="{}", notes_hash="a"),
    "a refund": lambda _d, _: Refund(account=ANA, originals=[Original(transaction="x", left=[("g", 0, 5)])]),
    "a record": lambda _d, _: Deduct(account=ANA, amount=1, **keyed("k")),
    "a fence": lambda _d, _: Fence(account=ANA, reason="odd"),
    "another shard": lambda _d, _: Grant(account=BIA, amount=5, open=True, **keyed("b")),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
async def test_of_what_came_before_the_refusal_nothing_remains(direct, name):
    await grant(direct, 10, "plan", MINUTE_MS)
    await grant(direct, 40)
    id_ = await reserve(direct, 20)
    await configure(direct, overdraft_limit=100)
    before = await dump(direct.redis)
    reply = await direct.send(
        EVERYTHING[name](direct, id_), REFUSED, Grant(account=ANA, amount=1), atomic=True
    )
    after = await dump(direct.redis)
    assert ["batch_failed", "batch_failed"] == words(reply.results)[::2]
    assert reply.results[1].word in {"insufficient_credits", "ledger_fenced"}
    assert ([], []) == (reply.accounts, reply.reservations)
    assert difference(before, after) <= {direct.lane, *(each for each in after if each.endswith(":meta"))}
    assert not difference(without_traces(before), without_traces(after))
    await direct.do(Deduct(account=ANA, amount=1))
    await check_keys(direct.redis)


async def test_the_refusal_is_remembered_under_its_key_and_the_others_are_not(direct):
    await grant(direct, 100)
    asked = [
        Deduct(account=ANA, amount=50, **keyed("a")),
        Deduct(account=ANA, amount=60, **keyed("b")),
        Deduct(account=ANA, amount=1, **keyed("c")),
    ]
    for replayed in (False, True):
        results = await direct.together(*asked)
        assert ["batch_failed", "insufficient_credits", "batch_failed"] == words(results)
        assert ([False, replayed, False], {"required": 60, "available": 50, "held": 0}) == (
            [each.replayed for each in results], results[1].facts,
        )  # fmt: skip
        records = await direct.redis.keys("lastro:*:operation:*")
        assert [keys.operation(SHARD, "a", ANA, "b").encode()] == records
        ttl_ms = await direct.redis.pttl(records[0])
        assert replayed == (ttl_ms <= MINUTE_MS), "it is remembered for longer"
        await direct.redis.pexpire(records[0], MINUTE_MS)
    await grant(direct, 500)
    assert "insufficient_credits" == (await direct.together(*asked))[1].word
    assert (await direct.refused(Deduct(account=ANA, amount=60, **keyed("b")))).replayed
    await direct.do(Deduct(account=ANA, amount=50, **keyed("a")))
    await check_keys(direct.redis)


async def test_a_key_of_another_request_keeps_its_answer(direct):
    await grant(direct, 100)
    asked = Deduct(account=ANA, amount=50, **keyed())
    first, _, _ = await direct.do(asked)
    mismatch = await direct.together(Deduct(account=ANA, amount=1, **keyed(fingerprint="g" * 16)))
    assert ["idempotency_mismatch"] == words(mismatch)
    again, _, _ = await direct.do(asked)
    assert (first.entry, True) == (again.entry, again.replayed)


async def test_a_fenced_account_fails_all(direct):
    await grant(direct, 100)
    await direct.do(Grant(account=EVE, amount=100, open=True))
    await direct.do(Fence(account=EVE, reason="odd"))
    results = await direct.together(Deduct(account=ANA, amount=1), Deduct(account=EVE, amount=1))
    assert ["batch_failed", "ledger_fenced"] == words(results)
    assert (100, 0) == await balance(direct)
    await check_keys(direct.redis)


@pytest.mark.parametrize("amount", [1, 1000])
async def test_what_is_due_and_cannot_happen_fences_its_account_whether_all_or_none_happen(direct, amount):
    """What failed is not written, the fence neither: the next call finds the same again."""
    await grant(direct, 100)
    await direct.do(Grant(account=EVE, amount=100, open=True))
    member = f"reservation:{direct.new_id()}:{EVE}"
    await direct.redis.zadd(keys.due(SHARD), {member: 5})
    ok = amount == 1
    results = await direct.together(Deduct(account=ANA, amount=amount))
    assert ["ok" if ok else "insufficient_credits"] == words(results)
    assert (5.0 if ok else None) == await direct.redis.zscore(keys.aside(SHARD), member)
    assert "ledger_fenced" == (await direct.together(Deduct(account=EVE, amount=1)))[0].word
    assert "ledger_fenced" == (await direct.refused(Deduct(account=EVE, amount=1))).word
    assert 5.0 == await direct.redis.zscore(keys.aside(SHARD), member)


@pytest.mark.parametrize("where", ["shard", "task shard"])
async def test_a_fenced_shard_fails_all_and_is_told_of(direct, where):
    await grant(direct, 100)
    task = next(
        f"t{i}" for i in range(99) if shard_of(f":t{i}", SHARDS) not in {SHARD, shard_of(BIA, SHARDS)}
    )
    number = shard_of(f":{task}", SHARDS) if where == "task shard" else shard_of(BIA, SHARDS)
    await direct.redis.xadd(keys.journal(number), {"garbage": "1"})
    failing = Grant(account=BIA, amount=1, open=True)
    if where == "task shard":
        failing = Reserve(account=ANA, reservation=direct.new_id(), amount=1, task=task)
    results = await direct.together(Deduct(account=ANA, amount=1), failing)
    assert (["batch_failed", "ledger_fenced"], number) == (words(results), results[1].facts["shard"])
    assert "the journal stream ends at" in await direct.meta("fence", number)
    assert (100, 0) == await balance(direct)


async def test_new_work_behind_the_soft_bound_fails_all_and_what_was_begun_ends(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    direct.backlog_max = 2
    results = await direct.together(Cancel(reservation=id_), Deduct(account=ANA, amount=1))
    assert ["batch_failed", "journal_backlogged"] == words(results)
    assert ["ok", "ok"] == words(
        await direct.together(Confirm(reservation=id_, amount=5), Sweep(shard=SHARD))
    )
    await check_keys(direct.redis)


async def test_one_that_fails_on_a_bug_before_it_posts_costs_all_and_nothing_remains(direct):
    await grant(direct, 100)
    before = without_traces(await dump(direct.redis))
    bug = Deduct(account=ANA, amount=0.5, **keyed())
    results = await direct.together(Deduct(account=ANA, amount=1), bug, Deduct(account=ANA, amount=1))
    assert ["batch_failed", "internal_error", "batch_failed"] == words(results)
    assert before == without_traces(await dump(direct.redis))
    assert not await direct.redis.keys("lastro:*:operation:*")


async def test_one_that_fails_on_a_bug_half_way_costs_all_and_nothing_remains(direct):
    await grant(direct, 100)
    id_ = await reserve(direct, 60)
    sound = direct.script
    direct.script = mutated(sound, "reservation.status = 'confirmed'", "error('bug')")
    before = without_traces(await dump(direct.redis))
    results = await direct.together(Deduct(account=ANA, amount=1), Confirm(reservation=id_))
    assert ["batch_failed", "internal_error"] == words(results)
    assert before == without_traces(await dump(direct.redis))
    direct.script = sound
    assert ["ok", "ok"] == words(
        await direct.together(Deduct(account=ANA, amount=1), Confirm(reservation=id_))
    )
    await check_keys(direct.redis)


@pytest.mark.parametrize("key", ["due", "account", "lane"])
async def test_when_a_write_would_fail_nothing_of_any_has_been_written(direct, key):
    await grant(direct, 100)
    await direct.do(Grant(account=EVE, amount=100, open=True))
    name = {"due": keys.due(SHARD), "account": keys.account(SHARD, EVE), "lane": direct.lane}[key]
    await direct.redis.delete(name)
    await direct.redis.set(name, "planted")
    before = without_traces(await dump(direct.redis))
    asked = [Deduct(account=ANA, amount=1, **keyed()), Deduct(account=EVE, amount=1)]
    if key == "account":
        assert ["batch_failed", "internal_error"] == words(await direct.together(*asked))
    else:
        with pytest.raises(ResponseError):
            await direct.together(*asked)
    assert before == without_traces(await dump(direct.redis))

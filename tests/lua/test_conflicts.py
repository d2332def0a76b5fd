"""Two that want the same: an ending, a task, a resource, credits that are held. The loser is told who won."""

import pytest

from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Reserve, Sweep
from tests.lua.direct import ANA, SHARD
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys


@pytest.mark.parametrize("ending", ["confirmed", "cancelled", "failed", "expired"])
async def test_the_loser_of_a_race_is_told_which_ending_won_and_changes_nothing(direct, ending):
    id_ = direct.new_id()
    await direct.do(Grant(account=ANA, amount=100, open=True))
    await direct.do(Reserve(account=ANA, reservation=id_, amount=60, ttl_ms=1000))
    at_ms = direct.now_ms
    match ending:
        case "confirmed":
            await direct.do(Confirm(reservation=id_))
        case "cancelled":
            await direct.do(Cancel(reservation=id_))
        case "failed":
            await direct.do(Cancel(reservation=id_, cause="failed"))
        case "expired":
            await direct.clock.advance(1000)
            await direct.send(Sweep(shard=SHARD))
            at_ms = direct.now_ms
    before = without_traces(await dump(direct.redis))
    told = {
        "confirmed": {Cancel: ("reservation_confirmed", {"at_ms": at_ms})},
        "cancelled": {Confirm: ("reservation_cancelled", {"cause": "requested", "at_ms": at_ms})},
        "failed": {Confirm: ("reservation_cancelled", {"cause": "failed", "at_ms": at_ms})},
        "expired": dict.fromkeys((Confirm, Cancel), ("reservation_expired", {"at_ms": at_ms})),
    }[ending]
    for verb, expected in told.items():
        refused = await direct.refused(verb(reservation=id_))
        assert expected == (refused.word, refused.facts)
    assert before == without_traces(await dump(direct.redis))


async def test_a_reservation_has_one_task_and_a_task_one_reservation(direct):
    await direct.do(Grant(account=ANA, amount=100, open=True))
    first, second = direct.new_id(), direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=first, amount=1))
    await direct.do(Reserve(account=ANA, reservation=second, amount=1, task="t", provider="fal"))
    assert "task_conflict" == (await direct.refused(Bind(reservation=first, task="t", provider="fal"))).word
    bound, _, _ = await direct.do(Bind(reservation=first, task="t"))  # no provider is a name space of its own
    again, _, _ = await direct.do(Bind(reservation=first, task="t"))
    assert (bound.entry, True) == (again.entry, again.replayed)
    for other in (Bind(reservation=first, task="u"), Bind(reservation=first, task="t", provider="fal")):
        refused = await direct.refused(other)
        assert ("task_conflict", first, "t") == (
            refused.word, refused.facts["reservation"], refused.facts["task"],
        )  # fmt: skip
    await check_keys(direct.redis)


async def test_a_resource_may_join_a_task_once(direct):
    await direct.do(Grant(account=ANA, amount=100, open=True))
    id_ = direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=id_, amount=1, task="t"))
    joined, _, shown = await direct.do(Bind(reservation=id_, task="t", resource="img"))
    assert ("img", False) == (shown.resource, joined.replayed)
    assert (await direct.do(Bind(reservation=id_, task="t", resource="img")))[0].replayed
    assert (await direct.do(Bind(reservation=id_, task="t")))[0].replayed
    assert "task_conflict" == (await direct.refused(Bind(reservation=id_, task="t", resource="x"))).word
    await check_keys(direct.redis)


async def test_held_credits_are_told_with_the_next_release_of_those_that_are_still_open(direct):
    """Also when some of them begin and end in the same call."""
    await direct.do(Grant(account=ANA, amount=100, open=True))
    ids = [direct.new_id() for _ in range(4)]
    for i, id_ in enumerate(ids[:3]):
        await direct.do(Reserve(account=ANA, reservation=id_, amount=20, ttl_ms=1000 * (i + 1)))
    reply = await direct.send(
        Deduct(account=ANA, amount=90),
        Cancel(reservation=ids[0]),
        Confirm(reservation=ids[1]),
        Reserve(account=ANA, reservation=ids[3], amount=20, ttl_ms=2500),
        Deduct(account=ANA, amount=80),
        Cancel(reservation=ids[3]),
        Deduct(account=ANA, amount=80),
        Cancel(reservation=ids[2]),
        Deduct(account=ANA, amount=81),
    )
    told = [reply.results[i].facts for i in (0, 4, 6, 8)]
    now = direct.now_ms
    assert [(3, now + 1000), (2, now + 2500), (1, now + 3000)] == [
        (each["open_reservations"], each["next_release_at_ms"]) for each in told[:3]
    ]
    assert {"required": 81, "available": 80, "held": 0} == told[3]
    await check_keys(direct.redis)

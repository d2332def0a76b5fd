"""Who watches the tests of debts, parts, late confirms, extensions, refunds, settings and groups."""

import msgspec
import pytest
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.operations import (
    Adjust,
    Balance,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Find,
    Grant,
    Refund,
    Reserve,
)
from tests.lua.direct import ANA, BIA, SHARD, Direct
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.mutants import mutated
from tests.lua.scenes import (
    DAY_MS,
    MINUTE_MS,
    balance,
    configure,
    deduct,
    entries,
    grant,
    keyed,
    legs,
    original,
    part,
    refund,
    reserve,
    words,
)


async def debts_and_renewals(direct: Direct) -> None:
    await grant(direct, 10, "plan", MINUTE_MS)
    renewal = await grant(direct, 100, "plan", 2 * MINUTE_MS, rollover=4)
    assert (4, [("plan", -4, 0), ("plan", 104, 0)]) == (renewal.entry.rollover, legs(renewal))
    await check_keys(direct.redis)
    await configure(direct, overdraft_limit=20)
    held = await reserve(direct, 30)
    await deduct(direct, 90)
    refused = [await direct.refused(asked) for asked in (
        Deduct(account=ANA, amount=41), Reserve(account=ANA, reservation=direct.new_id(), amount=1),
        Configure(account=ANA, overdraft_limit=9), Configure(account=ANA, status="closed"),
    )]  # fmt: skip
    expected = ["insufficient_credits", "credits_held", "overdraft_in_use", "account_not_empty"]
    assert expected == words(refused)
    await check_keys(direct.redis)
    assert [("overdraft", 4, 0)] == legs(await grant(direct, 4, "new"))
    await direct.do(Cancel(reservation=held))
    assert (24, 0) == await balance(direct)
    await check_keys(direct.redis)


async def parts_and_extensions(direct: Direct) -> None:
    id_ = await reserve(direct, 20, ttl_ms=MINUTE_MS, on_expired="charge", over_capture="cap")
    first = await part(direct, id_, 5, "p1")
    await check_keys(direct.redis)
    await direct.redis.delete(keys.operation(SHARD, "r", id_, "p1"))
    assert first.entry == (await part(direct, id_, 5, "p1")).entry
    assert "invalid_extension" == (await direct.refused(Extend(reservation=id_, ttl_ms=1000))).word
    await direct.do(Extend(reservation=id_, ttl_ms=2 * MINUTE_MS))
    await check_keys(direct.redis)
    await direct.clock.advance(MINUTE_MS)
    assert 15 == (await direct.do(Balance(account=ANA)))[1].held
    await direct.clock.advance(MINUTE_MS)
    await direct.do(Adjust(account=ANA, amount=40))
    refused = await direct.refused(Confirm(reservation=id_, amount=50, over_capture="reject"))
    assert {"required": 50, "held": 15} == refused.facts
    late, _, shown = await direct.do(Confirm(reservation=id_, amount=50))
    assert (15, True, 5, 15) == (late.entry.charged, shown.late, shown.captured, shown.charged)
    assert (await direct.do(Confirm(reservation=id_)))[0].replayed
    await check_keys(direct.redis)
    never = await reserve(direct, 1, ttl_ms=1000, on_expired="charge")
    await direct.journaled()
    await direct.clock.advance(1001 + DAY_MS)
    assert "reservation_expired" == (await direct.refused(Confirm(reservation=never))).word
    beyond = await reserve(direct, 5, over_capture="charge")
    assert 2 == (await direct.do(Confirm(reservation=beyond, amount=7)))[0].entry.charged
    await check_keys(direct.redis)


async def refunds_and_adjustments(direct: Direct) -> None:
    await grant(direct, 40)
    await grant(direct, 10, "soon", MINUTE_MS, priority=1)
    spent = await deduct(direct, 30)
    assert [("default", 15, 0)] == legs((await direct.do(refund(spent, amount=15)))[0])
    await direct.clock.advance(MINUTE_MS)
    await direct.do(refund(spent, amount=14))
    assert [("refunded", 14, 9), ("lapsed", 9, None)] == [
        (each.kind, each.amount, each.lapsed) for each in await entries(direct, 2)
    ]
    assert "exceeds_transaction" == (await direct.refused(refund(spent, amount=2))).word
    await check_keys(direct.redis)
    available = (await balance(direct))[0]
    taken, _, _ = await direct.do(Adjust(account=ANA, amount=-1000, short="take"))
    assert (-available - 20, 1000 - available - 20) == (taken.entry.amount, taken.entry.shortfall)
    await check_keys(direct.redis)
    await direct.do(Adjust(account=ANA, amount=20))


async def states(direct: Direct) -> None:
    await configure(direct, status="frozen")
    before = without_traces(await dump(direct.redis))
    same, _, _ = await direct.do(Configure(account=ANA, status="frozen", overdraft_limit=20))
    assert same.entry is None
    assert "account_frozen" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    assert before == without_traces(await dump(direct.redis))
    await grant(direct, 5)
    await direct.do(Adjust(account=ANA, amount=-5))
    await configure(direct, status="closed")
    assert "account_closed" == (await direct.refused(Grant(account=ANA, amount=1))).word
    await configure(direct, status="active", low_balance=3)
    await check_keys(direct.redis)


async def groups(direct: Direct) -> None:
    await grant(direct, 50)
    spent = await deduct(direct, 10)
    id_ = direct.new_id()
    before = without_traces(await dump(direct.redis))
    asked = [
        Grant(account=BIA, amount=1, open=True, **keyed("b")),
        Reserve(account=ANA, reservation=id_, amount=5, task="t", **keyed("r")),
        Refund(account=ANA, originals=[original(spent)]),
        Deduct(account=ANA, amount=1000, **keyed("no")),
    ]
    for replayed in (False, True):
        results = await direct.together(*asked)
        assert ["batch_failed"] * 3 + ["insufficient_credits"] == words(results)
        assert replayed == results[3].replayed
    assert before == without_traces(await dump(direct.redis))
    assert 1 == len(await direct.redis.keys("lastro:*:operation:*:*:no"))
    assert not await direct.redis.keys("lastro:*:operation:*:r")
    assert ["ok"] * 3 == words(await direct.together(*asked[:3]))
    assert "pending" == (await direct.do(Find(reservation=id_)))[2].status
    await check_keys(direct.redis)


async def a_month(direct: Direct) -> None:
    """All that products need, with what must come of it."""
    await debts_and_renewals(direct)
    await parts_and_extensions(direct)
    await refunds_and_adjustments(direct)
    await states(direct)
    await groups(direct)


MUTANTS = {
    "debt is not repaid": ("if account.available >= 0 then return legs end", "do return legs end"),
    "debt is repaid twice": (
        "kept[#kept + 1] = { debt, repaid, 0 }",
        "kept[#kept + 1] = { debt, 2 * repaid, 0 }",
    ),
    "one more is owed than the limit": ("local needed = amount - limit", "local needed = amount - limit - 1"),
    "a reservation is owed": ("funds.shortage(account, operation.amount, 0)", "nil"),
    "more rolls over than was asked": ("math.min(old[AVAILABLE], most - moved)", "old[AVAILABLE]"),
    "what rolls over is not told": ("moved > 0 and text.member('rollover', moved)", "false"),
    "a limit falls below the debt": ("account.available < -changes.overdraft_limit", "false"),
    "what is not empty is closed": ("changes.status == 'closed' and (", "false and ("),
    "a part releases the rest": (
        "local is_part, parts = operation.final == false and",
        "local is_part, parts = false and",
    ),
    "the key of a part is forgotten": (
        "or (operation.verb == 'confirm' and part_of(shard, id, operation.key))", "or nil",
    ),
    "a part leaves its credits held": ("reservation.held - captured, rest\n", "reservation.held, rest\n"),
    "a deadline moves back": ("if deadline_ms < reservation.expires_at_ms then", "if false then"),
    "an extension is not due later": (
        "reservation.expires_at_ms = deadline_ms\n  book.change_reservation(reservation, account.holds_key)",
        "reservation.expires_at_ms = deadline_ms\n  book.change_reservation(reservation)",
    ),
    "extensions are not counted": ("reservation.extensions = extensions + 1", ""),
    "cap charges": ("if over_capture == 'cap' then", "if false then"),
    "what is charged is not taken": (
        "if charged > 0 then legs = moves.joined(legs, moves.take(account, charged)) end", "",
    ),
    "a late confirm takes what was captured": (
        "late and reservation.reserved - reservation.captured or", "late and reservation.reserved or",
    ),
    "a late confirm is possible for ever": (
        "or now_ms > reservation.expires_at_ms + LATE_MAX_MS then", "then",
    ),
    "a late confirm is not said to be late": ("(late and ',\"late\":true' or '')", "''"),
    "a late confirm is no ending": (
        "reservation.ended_sequence = sequence\n  reservation.settled_at_ms = shard.now_ms",
        "",
    ),
    "more comes back than was spent": ("(amount and amount > left)", "false"),
    "a refund is not remembered": (
        "book.give_back(shard, original.transaction, share.refunded + share.amount)",
        "",
    ),
    "the second refund goes where the first went": (
        "skip, part = skip - passed, math.min(part - passed",
        "skip, part = skip, math.min(part",
    ),
    "the first that left comes back first": ("for i = #left, 1, -1 do", "for i = 1, #left do"),
    "what comes back too late does not lapse": (
        "share.refunded + share.amount)\n  time.lapse(account)", "share.refunded + share.amount)",
    ),
    "a shortfall is not told": ("shortfall > 0 and text.member('shortfall', shortfall)", "false"),
    "what is not there is taken": ("amount, no = amount + shortfall, nil", "no = nil"),
    "a setting that is so is written": ("if account.version > 0 and not next(changes) then", "if false then"),
    "a setting is not kept": ("account.settings = settings\n", ""),
    "a frozen account is charged": ("if status == 'active' then return account end", "do return account end"),
    "a closed account is given credits": (
        "local refusal = claims.closed(account)\n  if refusal then return refusal end", "",
    ),
    "what came before a refusal is written": ("  book.drop()\n", ""),
    "entries before a refusal are written": ("for _, shard in ipairs(order) do shard.appended = {} end", ""),
    "a group goes on after a refusal": (
        "if results[i].word ~= 'ok' then\n      last = i\n      break\n    end", "",
    ),
    "the refusal of a group is not remembered": (
        "if refused.key and not refusal.replayed then",
        "if false then",
    ),
    "the refund that a group has dropped is remembered": (
        "records, tasks, book.refunds, book.aside }", "records, tasks, book.aside }",
    ),
}  # fmt: skip


async def test_the_sound_script_lives_through_a_month(direct_valkey):
    await a_month(direct_valkey)


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_script_that_breaks_a_promise_is_noticed(direct_valkey, name):
    sound, broken = MUTANTS[name]
    direct_valkey.script = mutated(direct_valkey.script, sound, broken)
    with pytest.raises((AssertionError, ResponseError, msgspec.ValidationError)):
        await a_month(direct_valkey)

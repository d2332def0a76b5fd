"""I2 and I12: every digit is kept, and nothing passes 2^53 - 1 or falls below zero."""

import json
import re

import msgspec
import pytest

from app.ledger import keys
from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry
from app.ledger.operations import Adjust, Balance, Confirm, Deduct, Grant, Reserve
from tests.lua.direct import ANA, BIA, SHARD, Direct
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import deduct, grant, refund, reserve, rows

AMOUNTS = [
    1,
    99_999_999_999_999,
    100_000_000_000_001,
    123_456_789_012_345,
    999_999_999_999_999,
    1_000_000_000_000_001,
    1_234_567_890_123_457,
    4_503_599_627_370_497,
    CREDITS_MAX - 2,
]


async def texts(direct: Direct) -> str:
    """Everything that is stored of the ledger, as one text."""
    return repr(await dump(direct.redis))


@pytest.mark.parametrize("amount", AMOUNTS)
async def test_every_digit_is_kept_through_the_whole_life_of_credits(direct, amount):
    id_ = direct.new_id()
    _, account, _ = await direct.do(Grant(account=ANA, amount=amount + 2, open=True))
    assert amount + 2 == account.available
    _, account, shown = await direct.do(Reserve(account=ANA, reservation=id_, amount=amount + 1))
    assert (1, amount + 1, amount + 1) == (account.available, account.held, shown.held)
    _, account, shown = await direct.do(Confirm(reservation=id_, amount=amount))
    assert (2, 0, amount, 1) == (account.available, account.held, shown.captured, shown.released)
    _, account, _ = await direct.do(Grant(account=ANA, amount=amount))
    assert amount + 2 == account.available
    await direct.do(Deduct(account=ANA, amount=amount))
    entries = [each.entry for each in await direct.journal.entries(SHARD)]
    assert [amount + 2, amount + 1, amount, amount, amount] == [each.amount for each in entries]
    assert not re.search(r"\de\+\d", await texts(direct))
    await check_keys(direct.redis)


@pytest.mark.parametrize("amount", AMOUNTS)
async def test_every_digit_of_a_refusal_is_kept(direct, amount):
    await direct.do(Grant(account=ANA, amount=amount, open=True))
    refused = await direct.refused(Deduct(account=ANA, amount=amount + 1, key="k", fingerprint="f" * 16))
    assert {"required": amount + 1, "available": amount, "held": 0} == refused.facts
    again = await direct.refused(Deduct(account=ANA, amount=amount + 1, key="k", fingerprint="f" * 16))
    assert refused.facts == again.facts


async def test_an_account_holds_2_to_the_53_minus_1_and_not_one_more(direct):
    await direct.do(Grant(account=ANA, amount=CREDITS_MAX, open=True))
    refused = await direct.refused(Grant(account=ANA, amount=1))
    assert ("balance_overflow", {"available": CREDITS_MAX, "held": 0}) == (refused.word, refused.facts)
    assert "balance_overflow" == (await direct.refused(Grant(account=ANA, amount=CREDITS_MAX))).word
    await direct.do(Deduct(account=ANA, amount=1))
    await direct.do(Grant(account=ANA, amount=1))
    await direct.do(Deduct(account=ANA, amount=CREDITS_MAX))
    assert 0 == (await direct.account()).available
    await check_keys(direct.redis)


async def test_what_is_held_counts_towards_the_bound(direct):
    id_ = direct.new_id()
    await direct.do(Grant(account=ANA, amount=CREDITS_MAX - 5, open=True))
    await direct.do(Reserve(account=ANA, reservation=id_, amount=CREDITS_MAX - 5))
    refused = await direct.refused(Grant(account=ANA, amount=6))
    assert ("balance_overflow", {"available": 0, "held": CREDITS_MAX - 5}) == (refused.word, refused.facts)
    await direct.do(Grant(account=ANA, amount=5))
    assert "balance_overflow" == (await direct.refused(Grant(account=ANA, amount=1))).word
    _, account, _ = await direct.do(Confirm(reservation=id_, amount=1))
    assert CREDITS_MAX - 1 == account.available
    await check_keys(direct.redis)


async def test_what_is_asked_may_be_far_above_what_there_is(direct):
    await direct.do(Grant(account=ANA, amount=CREDITS_MAX - 10, open=True))
    await direct.do(Reserve(account=ANA, reservation=direct.new_id(), amount=CREDITS_MAX - 20))
    assert "credits_held" == (await direct.refused(Deduct(account=ANA, amount=CREDITS_MAX - 10))).word
    for amount in (CREDITS_MAX - 9, CREDITS_MAX):
        assert "insufficient_credits" == (await direct.refused(Deduct(account=ANA, amount=amount))).word


async def test_large_sums_over_many_lots_are_exact(direct):
    step = (CREDITS_MAX - 63) // 64
    for i in range(64):
        await direct.do(Grant(account=ANA, amount=step - i, bucket=f"b{i}", open=True))
    total = sum(step - i for i in range(64))
    assert total == (await direct.account()).available
    await direct.do(Reserve(account=ANA, reservation=(id_ := direct.new_id()), amount=total - 1))
    await direct.do(Confirm(reservation=id_, amount=total - 2))
    assert 2 == (await direct.account()).available
    await check_keys(direct.redis)


async def test_a_confirm_of_nothing_gives_all_back_and_ends_as_confirmed(direct):
    await direct.do(Grant(account=ANA, amount=10, open=True))
    await direct.do(Reserve(account=ANA, reservation=(id_ := direct.new_id()), amount=10))
    _, account, shown = await direct.do(Confirm(reservation=id_, amount=0))
    assert (10, 0, "confirmed", 0, 10) == (
        account.available, account.held, shown.status, shown.captured, shown.released,
    )  # fmt: skip
    await check_keys(direct.redis)


async def test_the_balance_never_falls_below_zero(direct):
    await direct.do(Grant(account=ANA, amount=10, open=True))
    reply = await direct.send(*(Deduct(account=ANA, amount=3) for _ in range(5)))
    assert 3 == sum(hasattr(each, "entry") for each in reply.results)
    assert 1 == (await direct.account()).available
    await check_keys(direct.redis)


@pytest.mark.parametrize(
    "amount", [0, -1, -100, 0.5, 1.5, 2**53, 2**53 + 1, 10**17, 1e300, "5", True, [], {}],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("verb", ["grant", "deduct", "reserve", "confirm"])
async def test_an_amount_that_is_none_is_a_bug_that_moves_nothing(direct_valkey, verb, amount):
    """HTTP lets none of them in; the script must not believe that."""
    direct = direct_valkey
    id_ = direct.new_id()
    await direct.do(Grant(account=ANA, amount=100, open=True))
    await direct.do(Reserve(account=ANA, reservation=id_, amount=50))
    if verb == "confirm" and amount == 0:
        amount = -0.5  # a confirm of nothing gives all back
    operation = {
        "grant": lambda: Grant(account=ANA, amount=amount),
        "deduct": lambda: Deduct(account=ANA, amount=amount),
        "reserve": lambda: Reserve(account=ANA, reservation=direct.new_id(), amount=amount),
        "confirm": lambda: Confirm(reservation=id_, amount=amount),
    }[verb]
    before = without_traces(await dump(direct.redis))
    assert "internal_error" == (await direct.refused(operation())).word
    assert before == without_traces(await dump(direct.redis))


async def test_every_text_of_the_journal_is_an_entry_written_without_waste(direct):
    """What Redis wrote is what Python reads, member by member, so that nothing is lost in reading it."""
    id_ = direct.new_id()
    await direct.do(
        Grant(account=ANA, amount=100, bucket="plan", priority=3, expires_at_ms=direct.now_ms + 1500,
              by='key:a "b" \\ c', key='k"\\', fingerprint="f" * 16, notes='{"salt":"0"}',
              notes_hash="a" * 64, open=True)
    )  # fmt: skip
    await direct.do(Grant(account=BIA, amount=CREDITS_MAX, open=True))
    await direct.do(Deduct(account=ANA, amount=1, model="flux/dev"))
    await direct.do(
        Reserve(account=ANA, reservation=id_, amount=9, task='t"1\\', provider="fal", model="m", ttl_ms=1000)
    )
    await direct.do(Confirm(reservation=id_, amount=5, model="n"))
    await direct.do(Reserve(account=ANA, reservation=direct.new_id(), amount=9, ttl_ms=1000))
    await direct.clock.advance(1000)
    await direct.do(Balance(account=ANA))
    await direct.clock.advance(1000)
    await direct.do(Balance(account=ANA))
    kinds = []
    for shard in range(4):
        for _, fields in await direct.redis.xrange(keys.journal(shard)):
            text = fields[b"entry"]
            entry = msgspec.json.decode(text, type=Entry)
            members = json.loads(text)
            assert members == {**members, **json.loads(msgspec.json.encode(entry))}
            assert members.keys() - json.loads(msgspec.json.encode(entry)).keys() <= {"by"}
            assert text == json.dumps(members, separators=(",", ":")).encode()
            kinds.append(entry.kind)
    assert {"granted", "deducted", "reserved", "confirmed", "expired", "lapsed"} == set(kinds)
    await check_keys(direct.redis)


async def test_what_is_held_counts_towards_the_largest_balance(direct):
    await grant(direct, CREDITS_MAX)
    spent = await deduct(direct, 5)
    await reserve(direct, 10)
    await grant(direct, 5)
    for asked in (refund(spent), Adjust(account=ANA, amount=1), Grant(account=ANA, amount=1)):
        refused = await direct.refused(asked)
        facts = {"available": CREDITS_MAX - 10, "held": 10}
        assert ("balance_overflow", facts) == (refused.word, refused.facts)
    await check_keys(direct.redis)


async def test_what_moves_along_to_another_lot_does_not_come_in(direct):
    await grant(direct, CREDITS_MAX - 5, "plan", 60_000)
    await grant(direct, 5, "plan", 120_000, rollover=CREDITS_MAX)
    assert [("plan", CREDITS_MAX, 0)] == await rows(direct)
    await check_keys(direct.redis)

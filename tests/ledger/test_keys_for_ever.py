"""I4 for keys that hold for ever: what Redis no longer knows, the journal is asked before anything moves."""

from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from app.ledger.errors import IdempotencyMismatch, InsufficientCredits, LedgerUnavailable
from app.ledger.lasting import FUTURE_MS, OLD_MS
from app.ledger.ledger import Ledger
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Reserve,
    Write,
)
from app.ledger.receipts import Receipt
from app.ledger.shards import new_reservation_id
from tests.ledger.journal import DAY_MS
from tests.lua.dump import difference, dump, without_traces

F, G = "f" * 16, "g" * 16
HOUR_MS = 3_600_000
OPAQUE = "order-17"

ALWAYS = ["grant", "refund", "adjust"]
VERBS = [*ALWAYS, "deduct", "reserve", "confirm", "cancel", "extend", "bind"]


def uuid7(at_ms: int) -> str:
    """A UUIDv7 made at that time."""
    return new_reservation_id(7, at_ms)


async def asked(ledger: Ledger, verb: str, key: str) -> tuple[Write, Callable[..., Awaitable[Receipt]]]:
    """An operation that is possible now, and how it is asked for."""
    made = await ledger.new_reservation_id("ana")
    if verb in {"confirm", "cancel", "extend", "bind"}:
        await ledger.reserve(Reserve(account="ana", reservation=made, amount=20))
    by_verb: dict[str, Write] = {
        "grant": Grant(account="ana", amount=5),
        "adjust": Adjust(account="ana", amount=-5),
        "deduct": Deduct(account="ana", amount=5),
        "reserve": Reserve(account="ana", reservation=made, amount=5, ttl_ms=60_000),
        "confirm": Confirm(reservation=made, amount=5),
        "cancel": Cancel(reservation=made),
        "extend": Extend(reservation=made, ttl_ms=7_200_000),
        "bind": Bind(reservation=made, task="t", provider="fal"),
    }
    if verb == "refund":
        spent = await ledger.deduct(Deduct(account="ana", amount=30))
        by_verb["refund"] = replace(await ledger.refunding(spent.transaction), amount=5)
    return replace(by_verb[verb], key=key, fingerprint=F), getattr(ledger, verb)


def key_of(kind: str, now_ms: int) -> str:
    return OPAQUE if kind == "opaque" else uuid7(now_ms)


@pytest.mark.parametrize(
    ("verb", "kind"), [*((verb, "uuid") for verb in VERBS), *((verb, "opaque") for verb in ALWAYS)]
)
async def test_a_day_later_the_same_request_is_the_first_answer_and_moves_nothing(
    ledger, journal, clock, fake_redis, verb, kind
):
    operation, ask = await asked(ledger, verb, key_of(kind, clock.now_ms))
    first = await ask(replace(operation))
    await journal.a_day_passes(ledger, clock)
    before = await dump(fake_redis)
    again = await ask(replace(operation))
    assert not difference(without_traces(before), without_traces(await dump(fake_redis)))
    assert (first.transaction, first.entry, True) == (again.transaction, again.entry, again.replayed)
    assert (await ledger.balance("ana")).account == again.account
    if first.reservation is not None:
        assert await ledger.find(first.reservation.id) == again.reservation


@pytest.mark.parametrize(
    ("verb", "kind"), [*((verb, "uuid") for verb in VERBS), *((verb, "opaque") for verb in ALWAYS)]
)
async def test_a_day_later_another_request_under_the_same_key_is_told_so_and_moves_nothing(
    ledger, journal, clock, fake_redis, verb, kind
):
    operation, ask = await asked(ledger, verb, key_of(kind, clock.now_ms))
    await ask(replace(operation))
    await journal.a_day_passes(ledger, clock)
    before = await dump(fake_redis)
    with pytest.raises(IdempotencyMismatch):
        await ask(replace(operation, fingerprint=G))
    assert not difference(without_traces(before), without_traces(await dump(fake_redis)))


@pytest.mark.parametrize(
    ("verb", "kind"), [*((verb, "uuid") for verb in VERBS), *((verb, "opaque") for verb in ALWAYS)]
)
async def test_while_the_journal_is_away_such_a_key_is_unavailable_and_moves_nothing(
    ledger, journal, clock, fake_redis, verb, kind
):
    operation, ask = await asked(ledger, verb, key_of(kind, clock.now_ms - DAY_MS))
    journal.away = True
    before = await dump(fake_redis)
    with pytest.raises(LedgerUnavailable):
        await ask(replace(operation))
    assert not difference(without_traces(before), without_traces(await dump(fake_redis)))
    journal.away = False
    assert not (await ask(replace(operation))).replayed


@pytest.mark.parametrize("verb", sorted({*VERBS} - {*ALWAYS}))
async def test_a_key_made_lately_needs_no_journal(ledger, journal, clock, verb):
    operation, ask = await asked(ledger, verb, uuid7(clock.now_ms))
    journal.away = True
    first = await ask(replace(operation))
    again = await ask(replace(operation))
    assert (first.transaction, True) == (again.transaction, again.replayed)
    assert not journal.asked


@pytest.mark.parametrize(
    ("key_is_ahead_ms", "is_asked"),
    [(-OLD_MS - 1, 1), (-OLD_MS, 0), (0, 0), (FUTURE_MS, 0), (FUTURE_MS + 1, 1)],
)
async def test_the_journal_is_asked_for_keys_of_which_redis_may_have_forgotten_the_use(
    ledger, journal, clock, key_is_ahead_ms, is_asked
):
    ledger._batcher.clock.now_ms = lambda: clock.now_ms  # it stands still
    key = uuid7(clock.now_ms + key_is_ahead_ms)
    await ledger.deduct(Deduct(account="ana", amount=1, key=key, fingerprint=F))
    assert is_asked == journal.asked.get("answered", 0)


@pytest.mark.parametrize("hours_ahead", [0, 1, 14])
@pytest.mark.parametrize("hours_later", [24, 38, 39])
async def test_a_caller_whose_clock_is_ahead_finds_its_first_answer_too(
    ledger, journal, clock, hours_ahead, hours_later
):
    """When it asks again, its key may look young, though Redis has forgotten it."""
    key = uuid7(clock.now_ms + hours_ahead * HOUR_MS)
    operation = Deduct(account="ana", amount=1, key=key, fingerprint=F)
    first = await ledger.deduct(replace(operation))
    await journal.a_day_passes(ledger, clock)
    await clock.advance((hours_later - 24) * HOUR_MS)
    assert first.transaction == (await ledger.deduct(replace(operation))).transaction
    assert 99 == (await ledger.balance("ana")).account.available


async def test_an_opaque_key_of_a_deduct_is_a_new_request_a_day_later(ledger, journal, clock):
    operation = Deduct(account="ana", amount=1, key=OPAQUE, fingerprint=F)
    await ledger.deduct(replace(operation))
    await journal.a_day_passes(ledger, clock)
    assert not (await ledger.deduct(replace(operation))).replayed
    assert not journal.asked
    assert 98 == (await ledger.balance("ana")).account.available


@pytest.mark.parametrize(
    "text",
    ["{}#17", "{}#0"],
)
async def test_the_key_of_a_batch_that_is_one_holds_for_ever_for_each_operation(ledger, journal, clock, text):
    key = text.format(uuid7(clock.now_ms))
    operation = Deduct(account="ana", amount=1, key=key, fingerprint=F)
    first = await ledger.deduct(replace(operation))
    await journal.a_day_passes(ledger, clock)
    assert first.transaction == (await ledger.deduct(replace(operation))).transaction


async def test_a_key_of_another_account_or_of_its_reservation_is_another_key(ledger, journal, clock):
    key = uuid7(clock.now_ms)
    made = await ledger.new_reservation_id("ana")
    await ledger.reserve(Reserve(account="ana", reservation=made, amount=20, key=key, fingerprint=F))
    await ledger.confirm(Confirm(reservation=made, amount=5, key=key, fingerprint=G))
    await journal.a_day_passes(ledger, clock)
    assert not (await ledger.grant(Grant(account="bia", amount=1, key=key, fingerprint=G))).replayed
    confirmed = await ledger.confirm(Confirm(reservation=made, amount=5, key=key, fingerprint=G))
    assert ("confirmed", True) == (confirmed.entry.kind, confirmed.replayed)
    reserve = Reserve(account="ana", reservation=made, amount=20, key=key, fingerprint=F)
    assert "reserved" == (await ledger.reserve(reserve)).entry.kind


async def test_a_refusal_is_remembered_for_a_day_only_also_under_a_key_that_holds_for_ever(
    ledger, journal, clock
):
    key = uuid7(clock.now_ms)
    operation = Deduct(account="bia", amount=10, key=key, fingerprint=F)
    with pytest.raises(InsufficientCredits):
        await ledger.deduct(replace(operation))
    await ledger.grant(Grant(account="bia", amount=10))
    with pytest.raises(InsufficientCredits) as again:
        await ledger.deduct(replace(operation))
    assert again.value.replayed
    await journal.a_day_passes(ledger, clock)
    assert not (await ledger.deduct(replace(operation))).replayed


async def test_a_process_that_has_not_heard_of_redis_yet_asks_it_for_the_time_first(
    fake_redis, ledger, journal
):
    """Its own clock says nothing about how old a key is."""
    seconds, _ = await fake_redis.time()
    fresh = Ledger(fake_redis, journal)
    await fresh.start()
    try:
        old = Deduct(account="ana", amount=1, key=uuid7(seconds * 1000 - DAY_MS), fingerprint=F)
        young = Deduct(account="ana", amount=1, key=uuid7(seconds * 1000), fingerprint=F)
        await fresh.deduct(young)
        assert 0 == journal.asked.get("answered", 0)
        await fresh.deduct(old)
        assert 1 == journal.asked["answered"]
    finally:
        await fresh.stop()


@pytest.mark.parametrize("old", [False, True], ids=["at once", "a day later"])
async def test_what_was_answered_to_a_key_can_be_asked_without_doing_anything(
    ledger, journal, clock, fake_redis, old
):
    """Such as when what was wanted has no price any more: the amount is not looked at."""
    deduct = Deduct(account="ana", amount=5, key=uuid7(clock.now_ms), fingerprint=F)
    first = await ledger.deduct(replace(deduct))
    if old:
        await journal.a_day_passes(ledger, clock)
    before = await dump(fake_redis)
    again = await ledger.recalled(replace(deduct, amount=1))
    assert (first.transaction, first.entry, True) == (again.transaction, again.entry, again.replayed)
    with pytest.raises(IdempotencyMismatch):
        await ledger.recalled(replace(deduct, fingerprint=G))
    for unknown in (OPAQUE, uuid7(clock.now_ms), uuid7(1)):
        assert await ledger.recalled(replace(deduct, key=unknown)) is None
        assert await ledger.recalled(replace(deduct, key=unknown, account="nobody")) is None
    journal.away = True
    with pytest.raises(LedgerUnavailable):
        await ledger.recalled(replace(deduct, key=uuid7(1)))
    assert not difference(without_traces(before), without_traces(await dump(fake_redis)))


async def test_a_refusal_is_recalled_as_what_it_was(ledger):
    deduct = Deduct(account="ana", amount=500, key=OPAQUE, fingerprint=F)
    with pytest.raises(InsufficientCredits):
        await ledger.deduct(replace(deduct))
    with pytest.raises(InsufficientCredits) as refused:
        await ledger.recalled(replace(deduct, amount=1))
    assert refused.value.replayed

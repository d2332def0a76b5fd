"""I4 where everything stood still for longer than Redis remembers, and the journal catches up just then."""

from functools import partial

import pytest
from msgspec.structs import replace

from app.ledger.errors import (
    KEY,
    ExceedsTransaction,
    IdempotencyMismatch,
    InsufficientCredits,
    JournalBacklogged,
    LedgerUnavailable,
)
from app.ledger.operations import Adjust, Deduct, Grant
from app.ledger.reading import returned
from tests.ledger.journal import DAY_MS
from tests.ledger.scenes import available
from tests.ledger.test_keys_for_ever import ALWAYS, VERBS, F, asked, key_of
from tests.lua.dump import difference, dump, without_traces

BOTH = [*((verb, "uuid") for verb in VERBS), *((verb, "opaque") for verb in ALWAYS)]


async def a_weekend_passes(ledger, journal, clock):
    """Nobody journals anything, and Redis forgets."""
    await clock.advance(2 * DAY_MS)
    await journal.forget_keys()
    await ledger.pass_time(0)  # the process has heard what time it is


@pytest.mark.parametrize(("verb", "kind"), BOTH)
async def test_what_was_not_journaled_for_a_day_is_refused_while_it_is_not(
    ledger, journal, clock, fake_redis, verb, kind
):
    operation, ask = await asked(ledger, verb, key_of(kind, clock.now_ms))
    await ask(replace(operation))
    await a_weekend_passes(ledger, journal, clock)
    before = await dump(fake_redis)
    with pytest.raises(JournalBacklogged):
        await ask(replace(operation))
    assert not difference(without_traces(before), without_traces(await dump(fake_redis)))


async def alone(ask, operation):
    return await ask(replace(operation))


async def in_a_batch(ask, operation):
    return returned((await ask.__self__.batch([replace(operation)])).results[0])


async def all_or_nothing(ask, operation):
    return returned((await ask.__self__.batch([replace(operation)], atomic=True)).results[0])


CASES = [
    *((verb, kind, alone, True) for verb, kind in BOTH),
    *(("grant", "opaque", way, False) for way in (alone, in_a_batch, all_or_nothing)),
]


@pytest.mark.parametrize(("verb", "kind", "way", "trimming"), CASES)
async def test_what_is_journaled_just_after_the_journal_was_asked_for_its_key_is_not_done_twice(
    ledger, journal, clock, fake_redis, verb, kind, way, trimming
):
    operation, ask = await asked(ledger, verb, key_of(kind, clock.now_ms))
    first = await ask(replace(operation))
    await a_weekend_passes(ledger, journal, clock)
    journal.meanwhile = partial(journal.catch_up, trimming=trimming)
    with pytest.raises(JournalBacklogged):
        await way(ask, operation)
    again = await way(ask, operation)
    assert (first.transaction, True) == (again.transaction, again.replayed)


@pytest.mark.parametrize("key", [{}, {"key": "late", "fingerprint": F}], ids=["without a key", "with a key"])
async def test_a_refund_goes_by_when_it_was_asked_what_had_been_given_back(ledger, journal, clock, key):
    """And not by when its key was asked for, which may be a weekend later."""
    spent = await ledger.deduct(Deduct(account="ana", amount=40))
    await journal.catch_up()
    await ledger.refund(replace(await ledger.refunding(spent.transaction), amount=30))
    late = await ledger.refunding(spent.transaction)
    assert 0 == late.originals[0].refunded
    await a_weekend_passes(ledger, journal, clock)
    await journal.catch_up()
    with pytest.raises(JournalBacklogged):
        await ledger.refund(replace(late, amount=20, **key))
    with pytest.raises(ExceedsTransaction):
        await ledger.refund(replace(await ledger.refunding(spent.transaction), amount=20, **key))
    assert 90 == await available(ledger)


async def test_a_shard_that_nobody_used_for_days_serves_many_at_once(ledger, journal, clock):
    await journal.catch_up()
    await clock.advance(9 * DAY_MS)
    grants = [Grant(account="ana", amount=1, key=f"k{i}", fingerprint=F) for i in range(4)]
    late = grants.pop()

    async def others_come_first():
        await ledger.grant(grants.pop())
        await ledger.batch(grants)

    journal.meanwhile = others_come_first
    await ledger.grant(late)
    assert 104 == await available(ledger)


async def test_what_redis_remembers_of_a_key_is_answered_while_the_journal_is_away(ledger, journal):
    grant = Grant(account="ana", amount=5, key="k", fingerprint=F)
    too_much = Adjust(account="ana", amount=-500, key="a", fingerprint=F)
    first = await ledger.grant(replace(grant))
    with pytest.raises(InsufficientCredits):
        await ledger.adjust(replace(too_much))
    journal.away = True
    again = await ledger.grant(replace(grant))
    assert (first.transaction, True) == (again.transaction, again.replayed)
    with pytest.raises(InsufficientCredits) as refused:
        await ledger.adjust(replace(too_much))
    assert refused.value.replayed
    with pytest.raises(IdempotencyMismatch):
        await ledger.grant(replace(grant, fingerprint="g" * 16))
    batched = await ledger.batch([replace(grant), replace(grant, key="new")])
    assert (True, KEY) == (batched.results[0].replayed, batched.results[1].facts["cause"])
    assert [True] == [each.replayed for each in (await ledger.batch([replace(grant)], atomic=True)).results]
    for atomic in (False, True):
        with pytest.raises(LedgerUnavailable) as away:
            raise (await ledger.batch([replace(grant, key="new")], atomic=atomic)).results[0]
        assert KEY == away.value.facts["cause"]
    assert 105 == await available(ledger)


async def test_a_key_that_redis_remembers_and_whose_entry_it_has_not_needs_the_journal(ledger, journal):
    grant = Grant(account="ana", amount=5, key="k", fingerprint=F)
    await ledger.grant(replace(grant))
    await journal.catch_up()
    journal.away = True
    with pytest.raises(LedgerUnavailable):
        await ledger.grant(replace(grant))
    assert 105 == await available(ledger)


@pytest.mark.parametrize("verb", sorted({*VERBS} - {*ALWAYS}))
async def test_a_process_that_stood_still_itself_does_not_take_a_key_for_young(ledger, journal, clock, verb):
    operation, ask = await asked(ledger, verb, key_of("uuid", clock.now_ms))
    first = await ask(replace(operation))
    await journal.catch_up(trimming=False)
    await clock.advance(2 * DAY_MS)
    await journal.forget_keys()
    with pytest.raises(LedgerUnavailable):
        await ask(replace(operation))
    again = await ask(replace(operation))
    assert (first.transaction, True) == (again.transaction, again.replayed)

"""I4: the same request, the same answer; and a key belongs to what the request names."""

import pytest

from app.ledger import keys
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Refund,
    Reserve,
)
from app.ledger.replies import Applied, Declined
from tests.lua.direct import ANA, BIA, SHARD, Direct
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import original

F, G = "f" * 16, "g" * 16
K = {"key": "k", "fingerprint": F}
DAY_MS = 86_400_000


@pytest.fixture
async def ana(direct: Direct) -> Direct:
    """100 credits for ana."""
    await direct.do(Grant(account=ANA, amount=100, open=True))
    return direct


async def moved_nothing(direct: Direct, before) -> bool:
    return not difference(without_traces(before), without_traces(await dump(direct.redis)))


@pytest.mark.parametrize(
    "verb",
    [
        "grant", "deduct", "reserve", "confirm", "part", "late", "cancel", "extend", "refund", "adjust",
        "configure", "bind",
    ],
)  # fmt: skip
async def test_the_same_key_gets_the_first_answer_and_moves_nothing(ana, verb):
    reservation = ana.new_id()
    policies = {"on_expired": "charge"} if verb == "late" else {}
    await ana.do(Reserve(account=ANA, reservation=reservation, amount=60, **policies))
    spent = (await ana.do(Deduct(account=ANA, amount=9)))[0]
    if verb == "late":
        await ana.clock.advance(1_800_000)
    asked = {
        "grant": lambda: Grant(account=ANA, amount=7, **K),
        "deduct": lambda: Deduct(account=ANA, amount=7, **K),
        "reserve": lambda: Reserve(account=ANA, reservation=ana.new_id(), amount=7, task="t", **K),
        "confirm": lambda: Confirm(reservation=reservation, amount=7, **K),
        "part": lambda: Confirm(reservation=reservation, amount=7, final=False, **K),
        "late": lambda: Confirm(reservation=reservation, amount=7, **K),
        "cancel": lambda: Cancel(reservation=reservation, **K),
        "extend": lambda: Extend(reservation=reservation, ttl_ms=80_000_000, **K),
        "refund": lambda: Refund(account=ANA, originals=[original(spent)], **K),
        "adjust": lambda: Adjust(account=ANA, amount=-500, short="take", **K),
        "configure": lambda: Configure(account=ANA, low_balance=7, **K),
        "bind": lambda: Bind(reservation=reservation, task="t", **K),
    }[verb]
    first, _, first_reservation = await ana.do(asked())
    before = await dump(ana.redis)
    again, account, again_reservation = await ana.do(asked())
    assert await moved_nothing(ana, before)
    assert (False, True) == (first.replayed, again.replayed)
    assert (first.sequence, first.entry) == (again.sequence, again.entry)
    assert first_reservation == again_reservation
    assert await ana.account() == account
    await check_keys(ana.redis)


async def test_an_answer_shows_the_present_and_the_transaction_of_then(ana):
    first, _, _ = await ana.do(Deduct(account=ANA, amount=10, **K))
    await ana.do(Deduct(account=ANA, amount=20))
    again, account, _ = await ana.do(Deduct(account=ANA, amount=10, **K))
    assert (90, 70) == (again.entry.available, account.available)
    assert first.entry == again.entry


async def test_a_refusal_is_remembered_and_told_again_as_a_replay(ana):
    first = await ana.refused(Deduct(account=ANA, amount=101, **K))
    await ana.do(Grant(account=ANA, amount=500))
    before = await dump(ana.redis)
    again = await ana.refused(Deduct(account=ANA, amount=101, **K))
    assert ("insufficient_credits", first.facts, True) == (again.word, again.facts, again.replayed)
    assert not first.replayed
    assert await moved_nothing(ana, before)
    await ana.do(Deduct(account=ANA, amount=101, key="another", fingerprint=F))


@pytest.mark.parametrize(
    ("operation", "word"),
    [
        (lambda _: Deduct(account=BIA, amount=1, **K), "account_unknown"),
        (lambda d: Confirm(reservation=d.new_id(), **K), "reservation_not_found"),
    ],
)
async def test_what_may_fare_otherwise_next_time_is_not_remembered(ana, operation, word):
    assert word == (await ana.refused(operation(ana))).word
    assert not await ana.redis.keys("lastro:*:operation:*")


async def test_the_same_key_with_another_request_is_told_so_and_moves_nothing(ana):
    await ana.do(Deduct(account=ANA, amount=1, **K))
    await ana.refused(Deduct(account=ANA, amount=1000, key="r", fingerprint=F))
    before = await dump(ana.redis)
    for key in "kr":
        refused = await ana.refused(Deduct(account=ANA, amount=2, key=key, fingerprint=G))
        assert ("idempotency_mismatch", False) == (refused.word, refused.replayed)
    assert await moved_nothing(ana, before)
    assert (await ana.do(Deduct(account=ANA, amount=1, **K)))[0].replayed


async def test_the_same_key_twice_in_one_call_acts_once(ana):
    reply = await ana.send(
        Deduct(account=ANA, amount=5, **K),
        Deduct(account=ANA, amount=5, **K),
        Deduct(account=ANA, amount=6, key="k", fingerprint=G),
    )
    first, again, other = reply.results
    assert isinstance(first, Applied)
    assert isinstance(again, Applied)
    assert (first.sequence, first.entry, True) == (again.sequence, again.entry, again.replayed)
    assert isinstance(other, Declined)
    assert "idempotency_mismatch" == other.word
    assert 95 == (await ana.account()).available
    await check_keys(ana.redis)


async def test_a_refusal_twice_in_one_call_is_one_answer(ana):
    reply = await ana.send(
        Deduct(account=ANA, amount=500, **K),
        Grant(account=ANA, amount=500),
        Deduct(account=ANA, amount=500, **K),
    )
    assert ["insufficient_credits", True] == [reply.results[2].word, reply.results[2].replayed]
    assert 600 == (await ana.account()).available


async def test_a_key_of_one_account_says_nothing_about_another(ana):
    await ana.do(Grant(account=BIA, amount=100, open=True))
    await ana.do(Deduct(account=ANA, amount=1, **K))
    assert not (await ana.do(Deduct(account=BIA, amount=2, key="k", fingerprint=G)))[0].replayed


async def test_a_key_of_an_account_says_nothing_about_its_reservations(ana):
    first, second = ana.new_id(), ana.new_id()
    await ana.do(Reserve(account=ANA, reservation=first, amount=10, **K))
    await ana.do(Reserve(account=ANA, reservation=second, amount=10))
    assert not (await ana.do(Confirm(reservation=first, key="k", fingerprint=G)))[0].replayed
    assert not (await ana.do(Confirm(reservation=second, key="k", fingerprint=G)))[0].replayed
    assert (
        "idempotency_mismatch"
        == (await ana.refused(Deduct(account=ANA, amount=1, key="k", fingerprint=G))).word
    )


async def test_a_reserve_that_is_repeated_with_a_new_id_answers_with_the_first(ana):
    _, _, first = await ana.do(Reserve(account=ANA, reservation=ana.new_id(), amount=10, **K))
    replayed, account, again = await ana.do(Reserve(account=ANA, reservation=ana.new_id(), amount=10, **K))
    assert (first.id, True, 10) == (again.id, replayed.replayed, account.held)


async def test_a_reservation_id_that_is_taken_is_never_overwritten(ana):
    taken = ana.new_id()
    await ana.do(Reserve(account=ANA, reservation=taken, amount=10))
    before = await dump(ana.redis)
    assert "internal_error" == (await ana.refused(Reserve(account=ANA, reservation=taken, amount=20))).word
    assert await moved_nothing(ana, before)
    reply = await ana.send(
        Reserve(account=ANA, reservation=(new := ana.new_id()), amount=1),
        Reserve(account=ANA, reservation=new, amount=1),
    )
    assert "internal_error" == reply.results[1].word
    await check_keys(ana.redis)


@pytest.mark.parametrize(
    "key",
    [
        ":",
        "a:b",
        '"',
        '\\"',
        "\\",
        "\\u0041",
        "\\n",
        "%s%d%%",
        "{}",
        "[]",
        "'",
        " ",
        "~!@#$%^&*()",
        "*",
        "x" * 255,
        "//",
    ],
)
async def test_a_key_may_be_any_printable_text(ana, key):
    asked = {"account": ANA, "amount": 1, "key": key, "fingerprint": F}
    first, _, _ = await ana.do(Deduct(**asked))
    again, account, _ = await ana.do(Deduct(**asked))
    assert (key, first.entry, True, 99) == (first.entry.key, again.entry, again.replayed, account.available)
    assert "idempotency_mismatch" == (await ana.refused(Deduct(**asked | {"fingerprint": G}))).word
    assert 1 == await ana.redis.exists(keys.operation(SHARD, "a", ANA, key))
    await check_keys(ana.redis)


async def test_an_id_and_a_key_with_colons_are_not_taken_for_another_pair(direct):
    """`a` with the key `b:c` and `a:b` with the key `c`, in one shard."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a:b:c", "")]
    for account, _ in pairs:
        grant = Grant(account=account, amount=100, open=True)
        await direct.do(grant)
    replayed = [
        (await direct.do(Deduct(account=account, amount=1, key=key, fingerprint=F)))[0].replayed
        for account, key in pairs
    ]
    assert [False, False, False] == replayed


async def test_a_replay_whose_entry_has_left_the_stream_says_where_the_journal_has_it(ana):
    first, _, _ = await ana.do(Deduct(account=ANA, amount=1, **K))
    reservation = ana.new_id()
    ended, _, _ = await ana.do(Reserve(account=ANA, reservation=reservation, amount=1))
    ended, _, _ = await ana.do(Confirm(reservation=reservation))
    sequence = int(await ana.meta("sequence"))
    await ana.redis.hset(keys.meta(SHARD), "journaled", sequence)
    await ana.redis.xtrim(keys.journal(SHARD), maxlen=0, approximate=False)
    again, account, _ = await ana.do(Deduct(account=ANA, amount=1, **K))
    assert (first.sequence, None, True, 98) == (
        again.sequence,
        again.entry,
        again.replayed,
        account.available,
    )
    again, _, shown = await ana.do(Confirm(reservation=reservation))
    assert (ended.sequence, None, True, "confirmed") == (
        again.sequence,
        again.entry,
        again.replayed,
        shown.status,
    )
    await ana.do(Deduct(account=ANA, amount=1))
    assert f"{sequence + 1}" == await ana.meta("sequence")


async def test_replays_are_answered_while_spending_is_refused_but_not_behind_a_fence(ana):
    first, _, _ = await ana.do(Deduct(account=ANA, amount=1, **K))
    ana.backlog_max = 2
    assert "journal_backlogged" == (await ana.refused(Deduct(account=ANA, amount=1))).word
    assert first.entry == (await ana.do(Deduct(account=ANA, amount=1, **K)))[0].entry
    await ana.redis.hset(keys.meta(SHARD), "fence", "for a test")
    assert "ledger_fenced" == (await ana.refused(Deduct(account=ANA, amount=1, **K))).word


async def test_an_answer_is_remembered_for_a_day(ana):
    await ana.do(Deduct(account=ANA, amount=1, **K))
    await ana.refused(Deduct(account=ANA, amount=1000, key="r", fingerprint=F))
    for key in "kr":
        assert DAY_MS - 60_000 < await ana.redis.pttl(keys.operation(SHARD, "a", ANA, key)) <= DAY_MS


async def test_confirming_twice_charges_once_and_answers_the_same_whatever_amount_is_named(ana):
    reservation = ana.new_id()
    await ana.do(Reserve(account=ANA, reservation=reservation, amount=60))
    first, _, _ = await ana.do(Confirm(reservation=reservation, amount=40))
    for amount in (40, 1, 60, 1000, None):
        again, account, shown = await ana.do(Confirm(reservation=reservation, amount=amount))
        assert (first.entry, True, 60, 40) == (again.entry, again.replayed, account.available, shown.captured)
    await check_keys(ana.redis)


async def test_cancelling_twice_gives_back_once_and_answers_the_same(ana):
    reservation = ana.new_id()
    await ana.do(Reserve(account=ANA, reservation=reservation, amount=60))
    first, _, _ = await ana.do(Cancel(reservation=reservation, cause="failed", reason="no GPU"))
    again, account, shown = await ana.do(Cancel(reservation=reservation, reason="other"))
    assert (first.entry, True, 100) == (again.entry, again.replayed, account.available)
    assert ("failed", "no GPU") == (shown.cancel_cause, shown.cancel_reason)
    await check_keys(ana.redis)


async def test_notes_are_replayed_as_they_were_written(ana):
    notes = '{"salt":"00","reason":"say \\"no\\" \\\\ ação \\u007f"}'
    asked = {"account": ANA, "amount": 1, "notes": notes, "notes_hash": "ab" * 32, **K}
    await ana.do(Deduct(**asked))
    again, _, _ = await ana.do(Deduct(**asked))
    assert (notes, "ab" * 32) == (again.notes, again.entry.notes)
    assert notes.encode() == (await ana.redis.xrevrange(keys.journal(SHARD), count=1))[0][1][b"notes"]

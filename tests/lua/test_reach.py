"""I4, I15: nothing lies between what the journal had when it was asked and what is remembered here."""

import pytest

from app.ledger import keys
from app.ledger.backing import NOWHERE, Extent
from app.ledger.operations import Deduct, Grant
from app.ledger.replies import Applied
from tests.lua.direct import ANA, SHARD
from tests.lua.dump import dump, without_traces

HOUR_MS = 3_600_000
F = "f" * 16


def grant(key: str, journaled: Extent | None) -> Grant:
    return Grant(account=ANA, amount=1, key=key, fingerprint=F, journaled=journaled)


async def two_entries(direct) -> list[Extent]:
    """Made five hours apart and journaled. How far the journal is before them and after each."""
    found = [Extent(0, 0)]
    for hours in (5, 0):
        await direct.do(Grant(account=ANA, amount=10, open=True))
        found.append(Extent(found[-1].sequence + 1, direct.now_ms))
        await direct.clock.advance(hours * HOUR_MS)
    await direct.journaled()
    return found


HALF = 12 * HOUR_MS
REACHES = [
    ("it had everything", 2, 100 * HOUR_MS, "trimmed", True),
    ("what it lacked begins half a day ago", 1, HALF, "kept", True),
    ("what it lacked begins earlier", 1, HALF + 1, "kept", False),
    ("what it had is of half a day ago", 1, HALF - 5 * HOUR_MS, "trimmed", True),
    ("what it had is older and the next is gone", 1, HALF - 5 * HOUR_MS + 1, "trimmed", False),
    ("it was empty, and the first is young", 0, HOUR_MS, "kept", True),
    ("it was empty, and the first is gone", 0, HOUR_MS, "trimmed", False),
]


@pytest.mark.parametrize(
    ("_", "had", "later_ms", "stream", "is_done"), REACHES, ids=[row[0] for row in REACHES]
)
async def test_a_key_is_new_only_if_all_that_the_journal_lacked_is_remembered(
    direct, _, had, later_ms, stream, is_done
):
    extents = await two_entries(direct)
    await direct.clock.advance(later_ms)
    if stream == "trimmed":
        await direct.redis.xtrim(keys.journal(SHARD), maxlen=0, approximate=False)
    before = without_traces(await dump(direct.redis))
    result = await direct.ask(grant("k", extents[had]))
    if is_done:
        assert isinstance(result, Applied), result
    else:
        assert ("journal_backlogged", {"shard": SHARD, "cause": "key"}) == (result.word, result.facts)
        assert before == without_traces(await dump(direct.redis))


async def test_what_the_same_call_has_made_is_remembered(direct):
    *_, everything = await two_entries(direct)
    await direct.clock.advance(100 * HOUR_MS)
    reply = await direct.send(*(grant(f"k{i}", everything) for i in range(3)))
    assert [Applied] * 3 == [type(each) for each in reply.results]


async def test_of_a_journal_that_could_not_be_asked_nothing_is_done_and_what_is_remembered_is_answered(
    direct,
):
    await two_entries(direct)
    first, _, _ = await direct.do(grant("k", None))
    poor = Deduct(account=ANA, amount=500, key="poor", fingerprint=F)
    await direct.refused(poor)
    assert "journal_backlogged" == (await direct.refused(grant("new", NOWHERE))).word
    again, _, _ = await direct.do(grant("k", NOWHERE))
    assert (first.entry, True) == (again.entry, again.replayed)
    poor.journaled = NOWHERE
    assert ("insufficient_credits", True) == ((refused := await direct.refused(poor)).word, refused.replayed)
    other = grant("k", NOWHERE)
    other.fingerprint = "g" * 16
    assert "idempotency_mismatch" == (await direct.refused(other)).word


@pytest.mark.parametrize("atomic", [False, True], ids=["alone", "all or nothing"])
async def test_the_refusal_is_not_kept_under_the_key(direct, atomic):
    *_, everything = await two_entries(direct)
    reply = await direct.send(grant("k", NOWHERE), atomic=atomic)
    assert "journal_backlogged" == reply.results[0].word
    applied, _, _ = await direct.do(grant("k", everything))
    assert not applied.replayed

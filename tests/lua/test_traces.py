"""trace: an entry that the stream still has, by its number, and what is said of one that it has not."""

import pytest

from app.ledger import keys
from app.ledger.operations import Deduct, Grant, Trace
from tests.lua.direct import ANA, SHARD
from tests.lua.dump import dump, without_traces
from tests.lua.scenes import MINUTE_MS, deduct, grant


async def test_an_entry_is_shown_as_it_was_written_with_its_notes(direct):
    await grant(direct, 10)
    notes = '{"salt":"00","reason":"say \\"no\\""}'
    spent, _, _ = await direct.do(Deduct(account=ANA, amount=1, notes=notes, notes_hash="ab" * 32))
    await deduct(direct, 1)
    before = without_traces(await dump(direct.redis))
    shown, account, reservation = await direct.do(Trace(shard=SHARD, sequence=2))
    assert (spent.entry, 2, None, None) == (shown.entry, shown.sequence, account, reservation)
    assert before == without_traces(await dump(direct.redis))


@pytest.mark.parametrize("sequence", [0, 3, 10**15, 2**53 - 1])
async def test_an_entry_that_is_not_there_is_not_found(direct, sequence):
    await grant(direct, 10)
    await deduct(direct, 1)
    assert "transaction_not_found" == (await direct.refused(Trace(shard=SHARD, sequence=sequence))).word


async def test_an_entry_that_has_left_the_stream_is_not_found(direct):
    await grant(direct, 10)
    await deduct(direct, 1)
    await direct.redis.xdel(keys.journal(SHARD), "1-0")
    assert "transaction_not_found" == (await direct.refused(Trace(shard=SHARD, sequence=1))).word
    assert "deducted" == (await direct.do(Trace(shard=SHARD, sequence=2)))[0].entry.kind


async def test_an_entry_of_this_call_is_found_from_when_it_is_made(direct):
    await grant(direct, 10, in_ms=MINUTE_MS)
    await direct.clock.advance(MINUTE_MS)
    reply = await direct.send(
        Trace(shard=SHARD, sequence=2),
        Trace(shard=SHARD, sequence=3),
        Grant(account=ANA, amount=5),
        Trace(shard=SHARD, sequence=3),
        Trace(shard=SHARD, sequence=4),
        Trace(shard=SHARD, sequence=1),
    )
    assert ["lapsed", "transaction_not_found", "granted", "granted", "transaction_not_found", "granted"] == [
        getattr(each, "word", None) or each.entry.kind for each in reply.results
    ]
    assert reply.results[2].entry == reply.results[3].entry

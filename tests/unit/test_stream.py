"""A stream is one history only if its numbers and its links say so, and is cut only where calls end."""

import json

import pytest

from app.ledger.stream import Broken, Piece, RawEntry, first_call, lines, whole_calls


def raw(sequence: int, nonce: str, previous: str | None = None, **fields: bytes) -> RawEntry:
    entry = {
        "v": 1, "kind": "granted", "at_ms": 1, "account": "ana", "version": sequence, "amount": 1,
        "available": sequence, "held": 0, "legs": [["default", 0, 1, 0]], "incarnation": 1, "nonce": nonce,
    }  # fmt: skip
    if previous is not None:
        entry["previous_nonce"] = previous
    return b"%d-0" % sequence, {b"entry": json.dumps(entry).encode()} | {
        name.encode(): value for name, value in fields.items()
    }


THREE_CALLS = [raw(1, "a", "genesis"), raw(2, "a"), raw(3, "b", "a"), raw(4, "c", "b"), raw(5, "c")]


def piece(entries: list[RawEntry], sequence: int) -> Piece:
    return Piece(sequence=sequence, journaled=0, entries=entries)


def test_calls_that_name_the_call_before_them_are_one_history():
    found = lines(piece(THREE_CALLS, 5), cursor=0, link="genesis")
    assert [line.sequence for line in found] == [1, 2, 3, 4, 5]
    assert [line.entry.nonce for line in found] == ["a", "a", "b", "c", "c"]
    assert [line.text for line in found] == [fields[b"entry"] for _, fields in THREE_CALLS]


def test_a_history_goes_on_from_where_the_journal_stands():
    assert len(lines(piece(THREE_CALLS[2:], 5), cursor=2, link="a")) == 3


@pytest.mark.parametrize(
    ("entries", "sequence", "cursor", "link", "why"),
    [
        (THREE_CALLS, 5, 0, "z", "Entry 1 follows call genesis, but call z stands before it: a fork."),
        (THREE_CALLS[1:], 5, 1, "a", "Entry 2 neither belongs to call a before it nor begins"),
        ([raw(1, "a", "genesis"), raw(2, "b")], 2, 0, "genesis", "Entry 2 neither belongs to call a"),
        ([raw(1, "a", "genesis"), raw(3, "b", "a")], 3, 0, "genesis", "Entry 2 is missing: the stream"),
        ([], 3, 2, "a", "Entry 3 is missing: the stream ends, but the shard has counted to 3."),
        ([], 2, 3, "a", "Entry 3 is in the journal, but Redis ends at 2."),
        ([raw(1, "a", "genesis", other=b"")], 1, 0, "genesis", "Entry 1 has other fields"),
    ],
)  # fmt: skip
def test_what_is_not_one_history_is_named(entries, sequence, cursor, link, why):
    with pytest.raises(Broken) as raised:
        lines(piece(entries, sequence), cursor, link)
    assert str(raised.value).startswith(why)


@pytest.mark.parametrize(
    ("read", "last", "kept"), [(5, 5, 5), (4, 5, 3), (3, 5, 2), (2, 5, 0), (1, 5, 0), (0, 0, 0)]
)
def test_a_call_whose_end_was_not_read_waits_for_the_next_batch(read, last, kept):
    found = lines(piece(THREE_CALLS[:read], read), 0, "genesis")
    assert [line.sequence for line in whole_calls(found, last)] == list(range(1, kept + 1))


@pytest.mark.parametrize(("begin", "end", "kept"), [(0, 5, 2), (2, 5, 1), (3, 5, 2), (0, 2, 2), (0, 0, 0)])
def test_the_first_call_is_what_one_call_appended(begin, end, kept):
    link = {0: "genesis", 2: "a", 3: "b"}[begin]
    found = lines(piece(THREE_CALLS[begin:end], end), begin, link)
    assert len(first_call(found)) == kept

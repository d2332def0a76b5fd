"""Notes that can be erased, and the chain that they do not break."""

import hashlib

import msgspec
import pytest

from app.ledger.entries import Entry, Notes, chained, genesis, seal


def test_nothing_to_note_makes_no_notes():
    assert seal() is None
    assert seal(metadata={}) is None


def test_notes_are_salted_so_that_equal_ones_have_different_hashes():
    first, second = seal(reason="bug"), seal(reason="bug")
    assert first.hash != second.hash
    assert first.hash == hashlib.sha256(first.text.encode()).hexdigest()


@pytest.mark.parametrize("reason", ["a", '"quoted" \\ back', "ação 😀", "\x7f\u2028", "<&>'"])
def test_notes_say_what_they_were_given(reason):
    sealed = seal(reason=reason, resource="img", metadata={"k": reason})
    notes = msgspec.json.decode(sealed.text, type=Notes)
    assert (reason, "img", {"k": reason}, 32) == (
        notes.reason,
        notes.resource,
        notes.metadata,
        len(notes.salt),
    )


def test_the_chain_begins_with_the_ledger_and_the_shard():
    ledger = bytes(range(16))
    assert genesis(ledger, 258) == hashlib.sha256(b"lastro" + ledger + b"\x01\x02").digest()
    assert genesis(ledger, 0) != genesis(ledger, 1)


def test_every_link_covers_shard_sequence_and_the_exact_text():
    head = bytes(32)
    expected = hashlib.sha256(head + b"\x00\x03" + b"\x00" * 6 + b"\x01\x00" + b'{"v":1}').digest()
    assert expected == chained(head, 3, 256, b'{"v":1}')
    others = {
        chained(head, 4, 256, b'{"v":1}'),
        chained(head, 3, 257, b'{"v":1}'),
        chained(head, 3, 256, b'{"v":2}'),
    }
    assert expected not in others
    assert 3 == len(others)


def test_an_entry_omits_what_it_does_not_have():
    text = (
        b'{"v":1,"kind":"lapsed","at_ms":1,"account":"a","version":1,"amount":5,"available":0,"held":0,'
        b'"legs":[["b",9,-5,0]],"incarnation":1,"nonce":"n"}'
    )
    assert text == msgspec.json.encode(msgspec.json.decode(text, type=Entry))

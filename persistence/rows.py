"""How entries stand in the journal: one row each, chained by hashes, and their notes beside them."""

import hashlib
from collections.abc import Sequence

from app.ledger.entries import Entry, chained
from app.ledger.stream import Broken, Line
from persistence.projections import at

JOURNAL = (
    "shard", "seq", "incarnation", "at", "kind", "account", "version", "amount", "available", "held",
    "reservation", "task", "model", "operation_key", "by", "entry", "hash",
)  # fmt: skip

NOTES = ("shard", "seq", "text")

Row = tuple[object, ...]


def row_of(shard: int, sequence: int, entry: Entry, text: str, head: bytes) -> Row:
    """The row of `journal` that an entry makes. `text`: the entry's own; `head`: of the chain after it."""
    return (
        shard, sequence, entry.incarnation, at(entry.at_ms), entry.kind, entry.account, entry.version,
        entry.amount, entry.available, entry.held, entry.reservation, entry.task, entry.model, entry.key,
        entry.by, text, head,
    )  # fmt: skip


def are_its_notes(entry: Entry, notes: str) -> bool:
    """Whether the entry was written with these notes."""
    return entry.notes is not None and hashlib.sha256(notes.encode()).hexdigest() == entry.notes


def rows_of(shard: int, head: bytes, found: Sequence[Line]) -> tuple[list[Row], list[Row], bytes]:
    """The rows of `journal` and of `notes`, and the head of the chain after them.

    Raises:
        Broken: The notes of an entry are not those that it was written with.
    """
    rows: list[Row] = []
    notes: list[Row] = []
    for sequence, entry, text, its_notes in found:
        head = chained(head, shard, sequence, text)
        rows.append(row_of(shard, sequence, entry, text.decode(), head))
        if its_notes is not None or entry.notes is not None:
            if its_notes is None or not are_its_notes(entry, its_notes.decode()):
                raise Broken(sequence, "does not have the notes that it was written with.")
            notes.append((shard, sequence, its_notes.decode()))
    return rows, notes, head

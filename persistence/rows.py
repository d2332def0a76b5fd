"""How entries stand in the journal: one row each, chained by hashes, and their notes beside them."""

import hashlib
from collections.abc import Sequence

from app.ledger.entries import chained
from app.ledger.stream import Broken, Line
from persistence.projections import at

JOURNAL = (
    "shard", "seq", "incarnation", "at", "kind", "account", "version", "amount", "available", "held",
    "reservation", "task", "model", "operation_key", "by", "entry", "hash",
)  # fmt: skip

NOTES = ("shard", "seq", "text")

Row = tuple[object, ...]


def rows_of(shard: int, head: bytes, found: Sequence[Line]) -> tuple[list[Row], list[Row], bytes]:
    """The rows of `journal` and of `notes`, and the head of the chain after them.

    Raises:
        Broken: The notes of an entry are not those that it was written with.
    """
    rows: list[Row] = []
    notes: list[Row] = []
    for sequence, entry, text, its_notes in found:
        head = chained(head, shard, sequence, text)
        rows.append((
            shard, sequence, entry.incarnation, at(entry.at_ms), entry.kind, entry.account, entry.version,
            entry.amount, entry.available, entry.held, entry.reservation, entry.task, entry.model, entry.key,
            entry.by, text.decode(), head,
        ))  # fmt: skip
        if its_notes is not None or entry.notes is not None:
            if its_notes is None or hashlib.sha256(its_notes).hexdigest() != entry.notes:
                raise Broken(sequence, "does not have the notes that it was written with.")
            notes.append((shard, sequence, its_notes.decode()))
    return rows, notes, head

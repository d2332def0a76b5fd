"""A part of the chain of one shard: hashes recomputed, columns derived again, notes compared, row by row.

Whoever reads the rows says from where (`persistence/proving.py` the journal, `persistence/archiving/copy.py`
a copy of one of its months).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from asyncpg import Record

from app.ledger.entries import Entry, chained
from persistence.discrepancies import column_that_differs
from persistence.rows import JOURNAL, are_its_notes, row_of

PAGE = """
SELECT j.shard, j.seq, j.incarnation, j.at, j.kind, j.account, j.version, j.amount, j.available, j.held,
  j.reservation::text, j.task, j.model, j.operation_key, j.by, j.entry, j.hash,
  n.text AS notes, e.seq IS NOT NULL AS erased
FROM {table} j LEFT JOIN notes n USING (shard, seq) LEFT JOIN erasures e USING (shard, seq)
WHERE j.shard = $1 AND j.seq BETWEEN $2 AND $3 ORDER BY j.seq
"""

PAGE_ROWS = 5_000

decode = msgspec.json.Decoder(Entry).decode
_COLUMNS = len(JOURNAL)


What = Literal["changed", "missing", "added", "unreadable", "notes", "head"]
"""What is wrong with a row."""


class Amiss(Exception):
    """A row is not as it was written; the text says why."""

    def __init__(self, sequence: int, what: What, why: str) -> None:
        super().__init__(why)
        self.sequence, self.what = sequence, what


class Unchained(Exception):
    """The hash of this row is not that of the chain."""

    def __init__(self, row: Record) -> None:
        super().__init__(f"The hash of row {row['seq']} of shard {row['shard']} is not that of the chain.")
        self.row = row


class Chain:
    """`at` is the last row that is proved, `head` the chain's head after it, `link` the nonce of its call;
    `erased` counts the rows whose notes were erased on purpose. `kept`: heads that must be in it.
    """

    def __init__(
        self, shard: int, at: int, head: bytes, link: str = "genesis", kept: Mapping[int, bytes] | None = None
    ) -> None:
        self.at = at
        self.head = head
        self.link = link
        self.erased = 0
        self.kept = kept or {}
        self._shard = shard

    def prove(self, rows: Sequence[Record], last: int) -> None:
        """Go on along these rows of `PAGE`, which are to be all up to `last`.

        Raises:
            Amiss, Unchained: The row after `at` is not as it was written; the rows up to `at` are proved.
        """
        shard, kept = self._shard, self.kept
        for row in rows:
            sequence, text, stored = row[1], row[15], row[16]
            if sequence <= self.at:
                raise Amiss(sequence, "added", f"Row {sequence} of shard {shard} is there twice.")
            if sequence != self.at + 1:
                break
            head = chained(self.head, shard, sequence, text.encode())
            if head != stored:
                raise Unchained(row)
            try:
                entry = decode(text)
                derived = row_of(shard, sequence, entry, text, head)
            except (msgspec.MsgspecError, OverflowError) as error:
                raise self.unreadable(sequence, error) from error
            if row[:_COLUMNS] != derived:
                raise Amiss(sequence, "changed", column_that_differs(row, derived))
            if row[17] is not None or entry.notes is not None:
                self._prove_notes(row, entry)
            self.at, self.head, self.link = sequence, head, entry.nonce
            if kept and kept.get(sequence, head) != head:
                raise self.rewritten(sequence)
        if self.at < last:
            raise self.missing(self.at + 1)

    def _prove_notes(self, row: Record, entry: Entry) -> None:
        notes, erased = row["notes"], row["erased"]
        which = f"of row {row['seq']} of shard {row['shard']}"
        if notes is not None and not are_its_notes(entry, notes):
            raise Amiss(row["seq"], "notes", f"The notes {which} were changed or added.")
        if notes is not None and erased:
            raise Amiss(row["seq"], "notes", f"The notes {which} were erased, and are there again.")
        if notes is None and entry.notes is not None:
            if not erased:
                why = f"The notes {which} are missing, and nobody has erased them by `lastro erase`."
                raise Amiss(row["seq"], "notes", why)
            self.erased += 1

    def missing(self, sequence: int) -> Amiss:
        return Amiss(sequence, "missing", f"Row {sequence} of shard {self._shard} is missing.")

    def rewritten(self, sequence: int) -> Amiss:
        return Amiss(
            sequence,
            "head",
            f"The head of row {sequence} of shard {self._shard} is not the one that was kept: "
            "one of the rows up to it was changed, and the chain computed anew.",
        )

    def unreadable(self, sequence: int, error: Exception) -> Amiss:
        why = f"The entry of row {sequence} of shard {self._shard} cannot be read: {error}."
        return Amiss(sequence, "unreadable", why)

"""Along the chain of one shard, page by page: hashes recomputed, columns derived again, notes compared.

What is found first is named, and how far the shard is proved is kept.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from asyncpg import Record
from msgspec import Struct

from app.ledger.entries import Entry, chained, genesis
from persistence.discrepancies import column_that_differs, what_happened
from persistence.pool import Connection
from persistence.rows import JOURNAL, are_its_notes, row_of

PAGE_ROWS = 5_000

_decode = msgspec.json.Decoder(Entry).decode
_COLUMNS = len(JOURNAL)


class Head(NamedTuple):
    """The chain head of a shard after `sequence`, as it was kept elsewhere (32 bytes)."""

    shard: int
    sequence: int
    hash: bytes


class Finding(Struct, frozen=True):
    """The first row of a shard that is not as it was written, in words for people."""

    shard: int
    sequence: int
    what: Literal["changed", "missing", "added", "unreadable", "notes", "head"]
    why: str


class Proved(Struct, frozen=True):
    """A shard's rows `first` to `last` (none when `last` is before `first`), as far as they are good."""

    shard: int
    first: int
    last: int
    erased: int
    head: str
    finding: Finding | None = None


class Standing(NamedTuple):
    """Of a shard. `added`: the first row after the cursor; `noted`: the first notes that no row can have."""

    shard: int
    cursor: int
    link: str
    head: bytes
    verified: int
    added: int | None
    noted: int | None


class _Found(Exception):
    def __init__(self, sequence: int, what: Any, why: str) -> None:
        super().__init__(why)
        self.sequence, self.what = sequence, what


class _Unchained(Exception):
    """The hash of this row is not that of the chain."""

    def __init__(self, row: Record) -> None:
        super().__init__()
        self.row = row


class Walk:
    """Along the chain of one shard. `at` is the last row that is proved, `head` the chain's head after it."""

    def __init__(
        self,
        connection: Connection,
        ledger: bytes,
        standing: Standing,
        *,
        since: int | None,
        heads: Sequence[Head],
        seen: Callable[[int], None],
    ) -> None:
        self.standing = standing
        self._is_note_false = since is None and standing.verified > standing.cursor
        if self._is_note_false:
            since = 1
        self.first = min(standing.verified + 1 if since is None else since, standing.cursor + 1)
        self._connection = connection
        self._ledger = ledger
        self._kept = {head.sequence: head.hash for head in heads if head.shard == standing.shard}
        self._seen = seen
        self._at = self.first - 1
        self._head = b""
        self._link = "genesis"
        self._erased = 0

    async def walk(self) -> Proved:
        shard, finding = self.standing.shard, None
        try:
            await self._begin()
            await self._pages()
            self._end()
        except _Found as found:
            finding = Finding(shard, found.sequence, found.what, str(found))
        if finding is None or self._at >= self.first:
            await self._remember()
        return Proved(shard, self.first, self._at, self._erased, self._head.hex(), finding)

    BEFORE = "SELECT seq, hash, entry FROM journal WHERE shard = $1 AND seq = ANY($2::bigint[]) ORDER BY seq"

    async def _begin(self) -> None:
        """The head from which the first row goes on; kept heads before it are looked up."""
        shard, before = self.standing.shard, self.first - 1
        self._head = genesis(self._ledger, shard)
        if self._kept.get(0, self._head) != self._head:
            raise _Found(0, "head", f"The head of shard {shard} before its first row is another ledger's.")
        wanted = sorted({before, *(each for each in self._kept if each < before)} - {0})
        rows = {row["seq"]: row for row in await self._connection.fetch(self.BEFORE, shard, wanted)}
        for sequence in wanted:
            if sequence not in rows:
                raise _Found(sequence, "missing", f"Row {sequence} of shard {shard} is missing.")
            self._head = rows[sequence]["hash"]
            if self._kept.get(sequence, self._head) != self._head:
                raise self._rewritten(sequence)
        if before:
            try:
                self._link = _decode(rows[before]["entry"]).nonce
            except msgspec.MsgspecError as error:
                raise self._unreadable(before, error) from error

    def _rewritten(self, sequence: int) -> _Found:
        return _Found(
            sequence,
            "head",
            f"The head of row {sequence} of shard {self.standing.shard} is not the one that was kept: "
            f"one of the rows up to it was changed, and the chain computed anew.",
        )

    PAGE = """
    SELECT j.shard, j.seq, j.incarnation, j.at, j.kind, j.account, j.version, j.amount, j.available, j.held,
      j.reservation::text, j.task, j.model, j.operation_key, j.by, j.entry, j.hash,
      n.text AS notes, e.seq IS NOT NULL AS erased
    FROM journal j LEFT JOIN notes n USING (shard, seq) LEFT JOIN erasures e USING (shard, seq)
    WHERE j.shard = $1 AND j.seq BETWEEN $2 AND $3 ORDER BY j.seq
    """

    async def _pages(self) -> None:
        """Prove one page while PostgreSQL reads the next."""
        next_page = self._read(self._at + 1)
        while self._at < self.standing.cursor:
            last = min(self._at + PAGE_ROWS, self.standing.cursor)
            rows = await next_page
            next_page = self._read(last + 1)
            await asyncio.sleep(0)
            try:
                self._prove(rows, last)
            except _Unchained as unchained:
                following = [each for each in [*rows, *await next_page] if each["seq"] > self._at + 1]
                row = unchained.row
                raise _Found(row["seq"], *what_happened(self._head, row, *following[:1])) from None
            except _Found:
                await next_page
                raise
            self._seen(len(rows))
        await next_page

    def _read(self, first: int) -> "asyncio.Task[list[Record]]":
        last = min(first + PAGE_ROWS - 1, self.standing.cursor)
        return asyncio.create_task(self._connection.fetch(self.PAGE, self.standing.shard, first, last))

    def _prove(self, rows: Sequence[Record], last: int) -> None:
        shard, kept = self.standing.shard, self._kept
        for row in rows:
            sequence, text, stored = row[1], row[15], row[16]
            if sequence <= self._at:
                raise _Found(sequence, "added", f"Row {sequence} of shard {shard} is there twice.")
            if sequence != self._at + 1:
                break
            head = chained(self._head, shard, sequence, text.encode())
            if head != stored:
                raise _Unchained(row)
            try:
                entry = _decode(text)
                derived = row_of(shard, sequence, entry, text, head)
            except (msgspec.MsgspecError, OverflowError) as error:
                raise self._unreadable(sequence, error) from error
            if row[:_COLUMNS] != derived:
                raise _Found(sequence, "changed", column_that_differs(row, derived))
            if row[17] is not None or entry.notes is not None:
                self._prove_notes(row, entry)
            self._at, self._head, self._link = sequence, head, entry.nonce
            if kept and kept.get(sequence, head) != head:
                raise self._rewritten(sequence)
        if self._at < last:
            raise _Found(self._at + 1, "missing", f"Row {self._at + 1} of shard {shard} is missing.")

    def _unreadable(self, sequence: int, error: Exception) -> _Found:
        why = f"The entry of row {sequence} of shard {self.standing.shard} cannot be read: {error}."
        return _Found(sequence, "unreadable", why)

    def _prove_notes(self, row: Record, entry: Entry) -> None:
        notes, erased = row["notes"], row["erased"]
        which = f"of row {row['seq']} of shard {row['shard']}"
        if notes is not None and not are_its_notes(entry, notes):
            raise _Found(row["seq"], "notes", f"The notes {which} were changed or added.")
        if notes is not None and erased:
            raise _Found(row["seq"], "notes", f"The notes {which} were erased, and are there again.")
        if notes is None and entry.notes is not None:
            if not erased:
                why = f"The notes {which} are missing, and nobody has erased them by `lastro erase`."
                raise _Found(row["seq"], "notes", why)
            self._erased += 1

    def _end(self) -> None:
        """What `shards` says of the last row, and nothing after it."""
        shard, cursor = self.standing.shard, self.standing.cursor
        added, noted = self.standing.added, self.standing.noted
        if added is not None:
            why = f"Row {added} of shard {shard} was added: its journal ends at {cursor}."
            raise _Found(added, "added", why)
        if (kept := max(self._kept, default=0)) > cursor:
            why = (
                f"Row {cursor + 1} of shard {shard} is missing: its journal ends at {cursor}, and a head of "
                f"row {kept} was kept."
            )
            raise _Found(cursor + 1, "missing", why)
        for name, said, found in (
            ("head", self.standing.head.hex(), self._head.hex()),
            ("link", self.standing.link, self._link),
        ):
            if said != found:
                why = f"The {name} of shard {shard} was changed: it says {said}; row {cursor} has {found}."
                raise _Found(cursor, "head", why)
        if noted is not None:
            why = f"The notes of row {noted} of shard {shard} were added: its journal is 1 to {cursor}."
            raise _Found(noted, "notes", why)
        if self._is_note_false:
            why = (
                f"How far shard {shard} was proved was changed: it says up to row "
                f"{self.standing.verified}, and its journal ends at {cursor}. All of it was proved now."
            )
            raise _Found(cursor, "head", why)

    # A standby, and whoever may only read.
    MAY_WRITE = """
    SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege('shards', 'UPDATE')
    """

    REMEMBER = """
    UPDATE shards SET verified_seq = $2, verified_at = now()
    WHERE shard = $1 AND verified_seq >= $3 AND (verified_seq <= $2 OR verified_seq > cursor)
    """

    async def _remember(self) -> None:
        if await self._connection.fetchval(self.MAY_WRITE):
            await self._connection.execute(self.REMEMBER, self.standing.shard, self._at, self.first - 1)

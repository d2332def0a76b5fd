"""Along the chain of one shard, page by page: hashes recomputed, columns derived again, notes compared.

What is found first is named, and how far the shard is proved is kept.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from asyncpg import Record
from msgspec import Struct

from app.ledger.entries import genesis
from persistence.chain import PAGE, PAGE_ROWS, Amiss, Chain, Unchained, What, decode
from persistence.discrepancies import what_happened
from persistence.pool import Connection


class Head(NamedTuple):
    """The chain head of a shard after `sequence`, as it was kept elsewhere (32 bytes)."""

    shard: int
    sequence: int
    hash: bytes


class Finding(Struct, frozen=True):
    """The first row of a shard that is not as it was written, in words for people."""

    shard: int
    sequence: int
    what: What
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


class Walk:
    """Along the chain of one shard, to its end."""

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
        self._seen = seen
        kept = {head.sequence: head.hash for head in heads if head.shard == standing.shard}
        self._chain = Chain(standing.shard, self.first - 1, genesis(ledger, standing.shard), kept=kept)

    async def walk(self) -> Proved:
        shard, finding, chain = self.standing.shard, None, self._chain
        try:
            await self._begin()
            await self._pages()
            self._end()
        except Amiss as found:
            finding = Finding(shard, found.sequence, found.what, str(found))
        if finding is None or chain.at >= self.first:
            await self._remember()
        return Proved(shard, self.first, chain.at, chain.erased, chain.head.hex(), finding)

    BEFORE = "SELECT seq, hash, entry FROM journal WHERE shard = $1 AND seq = ANY($2::bigint[]) ORDER BY seq"

    async def _begin(self) -> None:
        """The head from which the first row goes on; kept heads before it are looked up."""
        shard, before, chain = self.standing.shard, self.first - 1, self._chain
        if chain.kept.get(0, chain.head) != chain.head:
            raise Amiss(0, "head", f"The head of shard {shard} before its first row is another ledger's.")
        wanted = sorted({before, *(each for each in chain.kept if each < before)} - {0})
        rows = {row["seq"]: row for row in await self._connection.fetch(self.BEFORE, shard, wanted)}
        for sequence in wanted:
            if sequence not in rows:
                raise chain.missing(sequence)
            chain.head = rows[sequence]["hash"]
            if chain.kept.get(sequence, chain.head) != chain.head:
                raise chain.rewritten(sequence)
        if before:
            try:
                chain.link = decode(rows[before]["entry"]).nonce
            except msgspec.MsgspecError as error:
                raise chain.unreadable(before, error) from error

    PAGE = PAGE.format(table="journal")

    async def _pages(self) -> None:
        """Prove one page while PostgreSQL reads the next."""
        chain = self._chain
        next_page = self._read(chain.at + 1)
        while chain.at < self.standing.cursor:
            last = min(chain.at + PAGE_ROWS, self.standing.cursor)
            rows = await next_page
            next_page = self._read(last + 1)
            await asyncio.sleep(0)
            try:
                chain.prove(rows, last)
            except Unchained as unchained:
                following = [each for each in [*rows, *await next_page] if each["seq"] > chain.at + 1]
                row = unchained.row
                raise Amiss(row["seq"], *what_happened(chain.head, row, *following[:1])) from None
            except Amiss:
                await next_page
                raise
            self._seen(len(rows))
        await next_page

    def _read(self, first: int) -> "asyncio.Task[list[Record]]":
        last = min(first + PAGE_ROWS - 1, self.standing.cursor)
        return asyncio.create_task(self._connection.fetch(self.PAGE, self.standing.shard, first, last))

    def _end(self) -> None:
        """What `shards` says of the last row, and nothing after it."""
        shard, cursor = self.standing.shard, self.standing.cursor
        added, noted = self.standing.added, self.standing.noted
        if added is not None:
            why = f"Row {added} of shard {shard} was added: its journal ends at {cursor}."
            raise Amiss(added, "added", why)
        if (kept := max(self._chain.kept, default=0)) > cursor:
            why = (
                f"Row {cursor + 1} of shard {shard} is missing: its journal ends at {cursor}, and a head of "
                f"row {kept} was kept."
            )
            raise Amiss(cursor + 1, "missing", why)
        for name, said, found in (
            ("head", self.standing.head.hex(), self._chain.head.hex()),
            ("link", self.standing.link, self._chain.link),
        ):
            if said != found:
                why = f"The {name} of shard {shard} was changed: it says {said}; row {cursor} has {found}."
                raise Amiss(cursor, "head", why)
        if noted is not None:
            why = f"The notes of row {noted} of shard {shard} were added: its journal is 1 to {cursor}."
            raise Amiss(noted, "notes", why)
        if self._is_note_false:
            why = (
                f"How far shard {shard} was proved was changed: it says up to row "
                f"{self.standing.verified}, and its journal ends at {cursor}. All of it was proved now."
            )
            raise Amiss(cursor, "head", why)

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
            await self._connection.execute(self.REMEMBER, self.standing.shard, self._chain.at, self.first - 1)

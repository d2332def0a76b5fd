"""Brings entries from Redis' streams into PostgreSQL, each exactly once.

The rows, what they add up to and the shard's cursor move in one transaction, which commits only if cursor and
incarnation are still what was read before the entries were. Nothing else is needed for truth: the advisory
lock spares two workers the same work, the trim comes after a commit that is certain, and a worker that dies
between any two steps, or wakes up in another world, has changed nothing.
"""

import logging
import time
from collections.abc import Collection, Sequence
from enum import Enum
from typing import NamedTuple

from redis.asyncio import Redis

from app.ledger.admission import fence
from app.ledger.judgement import UNTIL
from app.ledger.stream import (
    Admitted,
    Broken,
    Keep,
    Line,
    Piece,
    ReadRefused,
    first_call,
    lines,
    read,
    tell,
    whole_calls,
)
from persistence.admission import Barrier, past
from persistence.months import Room
from persistence.pool import Connection
from persistence.projections import Projections
from persistence.rows import JOURNAL, NOTES, rows_of
from persistence.suspicion import POISONOUS, Suspicious, sentence, sound_before

log = logging.getLogger(__name__)

ENTRIES_MAX = 5_000
CALL_ENTRIES_MAX = 320_000
"""No call appends as many; a stream in which none ends within so many is broken. The longest call is a batch
of 1000 refunds, each of a reservation that was captured in 100 parts and at the end: 101 entries, and as many
again where each of them lapses at once. Before that, time may have passed.
"""

TRIM_SECONDS = 1.0

_ADVISORY_CLASS = 0x6C617374  # "last"; the second number is the shard


class Outcome(Enum):
    """What became of an attempt at one batch."""

    MORE = "committed, and there is more"
    DONE = "everything is journaled"
    MOVED = "somebody else has moved the shard; look again"
    REFUSED = "this Redis is not admitted for the shard"
    FENCED = "the shard is fenced"
    CONDEMNED = "the shard was fenced, because of what its stream says"


class Batch(NamedTuple):
    """`rows` were committed; `cursor` is where the shard stands as far as is known."""

    outcome: Outcome
    rows: int
    cursor: int


class Standing(NamedTuple):
    """A row of `shards`. `size`: bytes of entries and notes up to the cursor; `head`: of the hash chain."""

    cursor: int
    size: int
    link: str
    head: bytes
    incarnation: int
    fence: str | None
    fenced_by: str | None


class _Moved(Exception):
    """Cursor, incarnation or fence are not what they were."""


class Journal:
    """The journal of the shards that one connection has locked. Not for several tasks at once.

    A stream in which something is wrong is taken up again call by call, so that what comes before it is
    journaled and the sentence names it.

    Args:
        connection: Outside any transaction. The lock of a shard lives and dies with it, and it is the one
            that commits.
        redis: Whose streams; its retries are off.
        ledger: The id of the ledger.
        keep: What stays in a stream after it was journaled; `None`: everything.
        entries_max: How many are held in memory.
        though_fenced_by: Whose fences do not keep it from a shard: what Redis has is good, and it refuses
            for another reason.
        barrier: `after cursor`, `after read`, `after commit`; tests stop a worker there.
    """

    def __init__(
        self,
        connection: Connection,
        redis: Redis,
        ledger: str,
        *,
        keep: Keep | None,
        entries_max: int = ENTRIES_MAX,
        though_fenced_by: Collection[str] = ("operator",),
        barrier: Barrier = past,
    ) -> None:
        self._connection = connection
        self._redis = redis
        self._ledger = ledger
        self._keep = keep
        self._entries_max = entries_max
        self._though_fenced_by = list(though_fenced_by)
        self._barrier = barrier
        self._trimmed: dict[int, float] = {}
        self._careful: set[int] = set()
        self._room = Room()
        self.condemned: dict[int, str] = {}
        """Why, by shard."""

    LOCK = """
    SELECT shard FROM unnest($2::integer[]) AS wanted (shard)
    WHERE pg_try_advisory_lock($1::integer, wanted.shard)
    """

    async def lock(self, shards: Sequence[int]) -> list[int]:
        """Take those of `shards` that nobody else has. They must not be this connection's already."""
        rows = await self._connection.fetch(self.LOCK, _ADVISORY_CLASS, list(shards))
        return [row["shard"] for row in rows]

    STANDING = "SELECT cursor, bytes, link, head, incarnation, fence, fenced_by FROM shards WHERE shard = $1"

    async def one_batch(self, shard: int) -> Batch:
        """Read after the cursor, commit rows and cursor together, then trim. A crash between any two repeats
        work, never loses it.

        Raises:
            asyncpg.PostgresError, OSError: PostgreSQL is away; whether a commit happened is for the next
                attempt to read.
            redis.exceptions.RedisError: Redis is away. What was committed stays.
        """
        standing = await self._standing(shard)
        if standing.fence is not None and standing.fenced_by not in self._though_fenced_by:
            return Batch(Outcome.FENCED, 0, standing.cursor)
        await self._barrier("after cursor")
        admitted = Admitted(self._ledger, shard, standing.incarnation, standing.fence is not None)
        try:
            return await self._one_batch(admitted, standing)
        except ReadRefused as refusal:
            log.debug("shard %d is not read: %s", shard, refusal)
            return Batch(Outcome.REFUSED, 0, standing.cursor)
        except _Moved:
            return Batch(Outcome.MOVED, 0, standing.cursor)
        except Suspicious as suspicion:
            if shard in self._careful:
                return await self._condemn(admitted, standing, suspicion)
            self._careful.add(shard)
            return Batch(Outcome.MORE, 0, standing.cursor)

    async def _one_batch(self, admitted: Admitted, standing: Standing) -> Batch:
        piece, found = await self._read(admitted, standing)
        await self._barrier("after read")
        if not found:
            # Whoever committed last may have died before telling; Redis may have forgotten what it was told.
            if piece.journaled != standing.cursor or admitted.shard not in self._trimmed:
                await self._tell(admitted, standing)
            return Batch(Outcome.DONE, 0, standing.cursor)
        try:
            after = await self._commit(admitted, standing, found)
        except POISONOUS as error:
            self._room.forget()
            raise Suspicious(piece, sentence(error, found)) from error
        await self._barrier("after commit")
        await self._tell(admitted, after)
        if after.cursor < piece.sequence:
            return Batch(Outcome.MORE, len(found), after.cursor)
        self._careful.discard(admitted.shard)
        return Batch(Outcome.DONE, len(found), after.cursor)

    async def _standing(self, shard: int, query: str = STANDING) -> Standing:
        row = await self._connection.fetchrow(query, shard)
        assert row is not None, "a shard without a row"
        return Standing(*row)

    async def _read(self, admitted: Admitted, standing: Standing) -> tuple[Piece, list[Line]]:
        """What there is after the cursor, proved, up to the end of a call."""
        is_careful = admitted.shard in self._careful
        entries_max = 2 if is_careful else self._entries_max
        while True:
            piece = await read(self._redis, admitted, standing.cursor, entries_max)
            try:
                proved = lines(piece, standing.cursor, standing.link)
            except Broken as error:
                if is_careful and (sound := sound_before(piece, standing.cursor, standing.link, error)):
                    return piece, sound
                raise Suspicious(piece, str(error)) from error
            found = whole_calls(proved, piece.sequence)
            if found or not proved:
                return piece, first_call(found) if is_careful else found
            if entries_max >= CALL_ENTRIES_MAX:
                raise Suspicious(piece, f"Entry {standing.cursor + 1} begins a call without an end.")
            entries_max *= 2

    ADVANCE = """
    UPDATE shards SET cursor = $4, bytes = $5, link = $6, head = $7, journaled_at = now()
    WHERE shard = $1 AND cursor = $2 AND incarnation = $3 AND (fence IS NULL OR fenced_by = ANY ($8))
    """

    async def _commit(self, admitted: Admitted, standing: Standing, found: Sequence[Line]) -> Standing:
        """Append `found`, move what it adds up to, and move the cursor, all or nothing.

        Raises:
            _Moved: The shard is no longer as it was read; nothing was written.
            POISONOUS: An entry does not fit; nothing was written.
        """
        shard = admitted.shard
        rows, notes, head = rows_of(shard, standing.head, found)
        last = found[-1]
        size = sum(len(line.text) + len(line.notes or b"") for line in found)
        after = standing._replace(
            cursor=last.sequence, size=standing.size + size, link=last.entry.nonce, head=head
        )
        await self._room.make(self._connection, (line.entry.at_ms for line in found))
        async with self._connection.transaction():
            done = await self._connection.execute(
                self.ADVANCE, shard, standing.cursor, standing.incarnation,
                after.cursor, after.size, after.link, after.head, self._though_fenced_by,
            )  # fmt: skip
            if done != "UPDATE 1":
                raise _Moved
            projections = Projections(shard)
            await projections.load(self._connection, found)
            projections.fold(found)
            await self._connection.copy_records_to_table("journal", records=rows, columns=JOURNAL)
            if notes:
                await self._connection.copy_records_to_table("notes", records=notes, columns=NOTES)
            await projections.store(self._connection)
        return after

    async def _tell(self, admitted: Admitted, standing: Standing) -> None:
        """Tell the shard how far its journal is, and trim it now and then."""
        now = time.monotonic()
        is_due = now - self._trimmed.get(admitted.shard, -TRIM_SECONDS) >= TRIM_SECONDS
        if is_due:
            self._trimmed[admitted.shard] = now
        keep = self._keep if is_due else None
        await tell(self._redis, admitted, standing.cursor, standing.size, keep)

    LOCKED_STANDING = STANDING + " FOR UPDATE"

    # What a restore has begun only a restore ends: nothing that is found meanwhile fences in its place.
    FENCE = """
    UPDATE shards SET fence = $2, fenced_at = now(), fenced_by = 'journal'
    WHERE shard = $1 AND fenced_by IS DISTINCT FROM 'restore'
    """

    async def _condemn(self, admitted: Admitted, standing: Standing, suspicion: Suspicious) -> Batch:
        """Fence the shard if, under its lock, everything is still as it was when the suspicion arose."""
        shard, piece, why = admitted.shard, suspicion.piece, f"{suspicion} Nothing was dropped. {UNTIL}"
        async with self._connection.transaction():
            if await self._standing(shard, self.LOCKED_STANDING) != standing:
                return Batch(Outcome.MOVED, 0, standing.cursor)
            try:
                again = await read(self._redis, admitted, standing.cursor, max(1, len(piece.entries)))
            except ReadRefused:
                return Batch(Outcome.REFUSED, 0, standing.cursor)
            if again.entries[: len(piece.entries)] != piece.entries or again.sequence < piece.sequence:
                return Batch(Outcome.MOVED, 0, standing.cursor)
            await self._connection.execute(self.FENCE, shard, why)
        self.condemned[shard] = why
        log.error("shard %d is fenced: %s", shard, why)
        await fence(self._redis, admitted.ledger, shard, why)
        return Batch(Outcome.CONDEMNED, 0, standing.cursor)

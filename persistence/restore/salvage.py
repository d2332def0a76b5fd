"""The step `salvage` of a restore: what Redis has and the journal has not is kept word for word, in the table
`orphans` and in a file, before anything is removed.
"""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.loading import unbind
from app.ledger.shards import TransactionId, shard_of, shard_of_reservation
from app.ledger.stream import RawEntry
from persistence.pool import Connection
from persistence.readable import as_text
from persistence.restore.claim import Claim

PAGE = 1_000
NAMED_MAX = 20
"""So many orphans are told; all are kept."""

_encode = msgspec.json.encode


class Orphan(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An entry that Redis had and that is not in the journal's history. A line of the file."""

    shard: int
    sequence: int
    why: str
    entry: str
    notes: str | None = None
    transaction: str | None = None
    kind: str | None = None
    account: str | None = None
    amount: int | None = None
    reservation: str | None = None
    key: str | None = None


class _Named(Struct):
    """What of an entry names the operation; a damaged one may lack any of it."""

    incarnation: int | None = None
    kind: str | None = None
    account: str | None = None
    amount: int | None = None
    reservation: str | None = None
    key: str | None = None
    task: str | None = None
    provider: str | None = None


_decode_named = msgspec.json.Decoder(_Named).decode


class Salvage:
    """Collects what does not continue the journal, in the table and in `path`, made when it is needed."""

    def __init__(self, connection: Connection, redis: Redis, claim: Claim, path: Path) -> None:
        self._connection = connection
        self._redis = redis
        self._claim = claim
        self._path = path
        self.named: list[Orphan] = []
        """The first that were found."""

    async def shard(self, shard: int, why: str | None) -> int:
        """Everything in the stream of a shard that the journal does not have there. Returns how many."""
        first, found = "-", 0
        while raw := await self._read(shard, first):
            orphans = await self._orphans(shard, raw, why)
            if orphans:
                await self._keep(orphans)
                found += len(orphans)
                self.named += orphans[: NAMED_MAX - len(self.named)]
            first = "(" + raw[-1][0].decode()
        return found

    async def _read(self, shard: int, first: str) -> list[RawEntry]:
        try:
            found: Any = await self._redis.xrange(keys.journal(shard), first, "+", count=PAGE)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return []
        entries: list[RawEntry] = found
        return entries

    JOURNALED = """
    SELECT seq, entry FROM journal WHERE shard = $1 AND seq = ANY($2::bigint[])
    """

    async def _orphans(self, shard: int, raw: Sequence[RawEntry], why: str | None) -> list[Orphan]:
        sequences = [int(id_.partition(b"-")[0]) for id_, _ in raw]
        known = [each for each in sequences if each < 2**63]
        rows = await self._connection.fetch(self.JOURNALED, shard, known)
        journaled = {row["seq"]: row["entry"].encode() for row in rows}
        found = []
        for sequence, (_, fields) in zip(sequences, raw, strict=True):
            if sequence in journaled and journaled[sequence] == fields.get(b"entry"):
                continue
            reason = why or "It is not what the journal has."
            if sequence in journaled:
                reason = "The journal has another entry in its place."
            found.append(_orphan(shard, sequence, fields, reason))
        return found

    KEEP = """
    INSERT INTO orphans (shard, seq, entry, notes, sha256, why)
    SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::text[])
    ON CONFLICT (shard, seq, sha256) DO NOTHING
    """

    async def _keep(self, orphans: Sequence[Orphan]) -> None:
        lines = b"".join(_encode(each) + b"\n" for each in orphans)
        await asyncio.to_thread(_append, self._path, lines)
        rows = [
            (
                each.shard,
                min(each.sequence, 2**63 - 1),
                each.entry,
                each.notes,
                hashlib.sha256(each.entry.encode()).digest(),
                each.why,
            )
            for each in orphans
        ]
        await self._connection.execute(self.KEEP, *map(list, zip(*rows, strict=True)))
        for each in orphans:
            await self._unbind(each)

    BOUND = "SELECT EXISTS (SELECT FROM journal WHERE reservation = $1::uuid AND task = $2)"

    async def _unbind(self, orphan: Orphan) -> None:
        """A task that only an orphan has bound is free again, also in a shard that is served."""
        named = _named(orphan.entry)
        if named is None or named.task is None or named.reservation is None:
            return
        if shard_of_reservation(named.reservation, self._claim.shards) is None:
            return
        is_text = "\0" not in named.task  # which PostgreSQL does not have
        if is_text and await self._connection.fetchval(self.BOUND, named.reservation, named.task):
            return
        shard = shard_of(f"{named.provider or ''}:{named.task}", self._claim.shards)
        await unbind(self._redis, shard, named.provider, named.task, named.reservation)


def _orphan(shard: int, sequence: int, fields: dict[bytes, bytes], why: str) -> Orphan:
    raw, notes = fields.get(b"entry"), fields.get(b"notes")
    if raw is None:
        raw = b" ".join(each for pair in fields.items() for each in pair)
    entry = as_text(raw)
    named = _named(entry) or _Named()
    transaction = None
    if named.incarnation is not None:
        transaction = str(TransactionId(shard, named.incarnation, sequence))
    return Orphan(
        shard=shard,
        sequence=sequence,
        why=why,
        entry=entry,
        notes=None if notes is None else as_text(notes),
        transaction=transaction,
        kind=named.kind,
        account=named.account,
        amount=named.amount,
        reservation=named.reservation,
        key=named.key,
    )


def _named(entry: str) -> _Named | None:
    try:
        return _decode_named(entry)
    except msgspec.MsgspecError:
        return None


def _append(path: Path, lines: bytes) -> None:
    """On the disk before anything is removed. Begun again, a restore may write a line twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())

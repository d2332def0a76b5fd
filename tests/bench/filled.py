"""A journal of many accounts, written by COPY as the worker would have written it."""

import time
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app.ledger.entries import Entry, Leg
from app.ledger.shards import new_reservation_id, shard_of
from app.ledger.stream import Line
from persistence.pool import Connection
from persistence.projections import Projections
from persistence.rows import JOURNAL, rows_of

PAGE = 10_000
CREDITS = 1_000_000

_encode = msgspec.json.Encoder().encode


class Size(NamedTuple):
    """So many accounts with one lot each, every `holds_every`th of them with an open reservation."""

    accounts: int
    holds_every: int

    @property
    def holds(self) -> int:
        return len(range(0, self.accounts, self.holds_every))


async def fill(database_url: str, size: Size) -> None:
    """Fill the journal of a ledger that was just born."""
    connection = await asyncpg.connect(database_url, ssl=False)
    try:
        await connection.execute("SET synchronous_commit = off")
        shards = await connection.fetchval("SELECT shards FROM ledger")
        for shard in range(shards):
            await _fill(connection, shard, shards, size)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


ADVANCE = (
    "UPDATE shards SET cursor = $2, bytes = $3, link = $4, head = $5, journaled_at = now() WHERE shard = $1"
)


async def _fill(connection: Connection, shard: int, shards: int, size: Size) -> None:
    head = await connection.fetchval("SELECT head FROM shards WHERE shard = $1", shard)
    written = 0
    lines: list[Line] = []
    for line in _lines(shard, shards, size):
        lines.append(line)
        written += len(line.text)
        if len(lines) == PAGE:
            head = await _append(connection, shard, head, lines)
            last, lines = lines[-1], []
    if lines:
        head = await _append(connection, shard, head, lines)
        last = lines[-1]
    await connection.execute(ADVANCE, shard, last.sequence, written, last.entry.nonce, head)


async def _append(connection: Connection, shard: int, head: bytes, lines: list[Line]) -> bytes:
    rows, _, head = rows_of(shard, head, lines)
    async with connection.transaction():
        projections = Projections(shard)
        await projections.load(connection, lines)
        projections.fold(lines)
        await connection.copy_records_to_table("journal", records=rows, columns=JOURNAL)
        await projections.store(connection)
    return head


def _lines(shard: int, shards: int, size: Size) -> Iterator[Line]:
    """Each account's grant and, for some, its reservation: one call each."""
    now_ms, sequence, previous = time.time_ns() // 1_000_000, 0, "genesis"
    for number in range(size.accounts):
        account = f"customer-{number:08}"
        if shard_of(account, shards) != shard:
            continue
        for entry in _entries(account, shard, now_ms, number % size.holds_every == 0):
            sequence += 1
            nonce = f"nonce-{shard}-{sequence}"
            whole = msgspec.structs.replace(entry, nonce=nonce, previous_nonce=previous)
            yield Line(sequence, whole, _encode(whole), None)
            previous = nonce


def _entries(account: str, shard: int, now_ms: int, holds: bool) -> Iterator[Entry]:
    granted = Entry(
        format=1, kind="granted", at_ms=now_ms, account=account, version=1, amount=CREDITS,
        available=CREDITS, held=0, legs=[Leg("default", 0, CREDITS, 0)], incarnation=1, nonce="",
        by="key:bench", bucket="default",
    )  # fmt: skip
    yield granted
    if holds:
        yield msgspec.structs.replace(
            granted, kind="reserved", version=2, amount=10, available=CREDITS - 10, held=10,
            legs=[Leg("default", 0, -10, 10)], bucket=None, deadline_ms=now_ms + 86_400_000,
            reservation=str(UUID(new_reservation_id(shard, now_ms))), model="video",
        )  # fmt: skip

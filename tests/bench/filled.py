"""A journal of many accounts, written by COPY as the worker would have written it, with a true chain."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app.ledger.entries import Entry, Leg
from app.ledger.shards import new_reservation_id, shard_of
from app.ledger.stream import Line
from persistence.months import Room
from persistence.pool import Connection
from persistence.projections import Projections
from persistence.rows import JOURNAL, rows_of

PAGE = 10_000
CREDITS = 1_000_000
SPENT = 10
"""By each deduct, and held by each reservation."""

WRITERS = 2
"""Processes, where there is so much to write that they are worth their start."""

_WORTH_IT = 500_000
_COHORT = 1_000
_DAY_MS = 86_400_000

_encode = msgspec.json.Encoder().encode


class Size(NamedTuple):
    """So many accounts with one lot each, every `holds_every`th of them with an open reservation.

    `deducts`: of each account, after its grant. `days`: the entries are of so many days, in equal steps; 0:
    all of this moment. Reservations are always of this moment, because they are open.
    """

    accounts: int
    holds_every: int
    deducts: int = 0
    days: int = 0

    @property
    def holds(self) -> int:
        return len(range(0, self.accounts, self.holds_every))

    @property
    def rows(self) -> int:
        return self.accounts * (1 + self.deducts) + self.holds


def customer(number: int) -> str:
    """The name of an account."""
    return f"customer-{number:08}"


async def fill(database_url: str, size: Size) -> None:
    """Fill the journal of a ledger that was just born."""
    connection = await asyncpg.connect(database_url, ssl=False)
    try:
        shards = await connection.fetchval("SELECT shards FROM ledger")
        if size.rows < _WORTH_IT:
            await _fill_some(database_url, range(shards), shards, size)
        else:
            await _fill_at_once(database_url, shards, size)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _fill_at_once(database_url: str, shards: int, size: Size) -> None:
    loop, fresh = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WRITERS, mp_context=fresh) as writers:
        parts = (range(part, shards, WRITERS) for part in range(WRITERS))
        await asyncio.gather(
            *(loop.run_in_executor(writers, _write, database_url, part, shards, size) for part in parts)
        )


def _write(database_url: str, some: Sequence[int], shards: int, size: Size) -> None:
    asyncio.run(_fill_some(database_url, some, shards, size))


ADVANCE = (
    "UPDATE shards SET cursor = $2, bytes = $3, link = $4, head = $5, journaled_at = now() WHERE shard = $1"
)


async def _fill_some(database_url: str, some: Sequence[int], shards: int, size: Size) -> None:
    homes: dict[int, list[int]] = {shard: [] for shard in some}
    for number in range(size.accounts):
        if (home := shard_of(customer(number), shards)) in homes:
            homes[home].append(number)
    connection = await asyncpg.connect(database_url, ssl=False)
    try:
        await connection.execute("SET synchronous_commit = off")
        for shard, numbers in homes.items():
            await _fill(connection, shard, numbers, size)
    finally:
        await connection.close()


async def _fill(connection: Connection, shard: int, numbers: Sequence[int], size: Size) -> None:
    head = await connection.fetchval("SELECT head FROM shards WHERE shard = $1", shard)
    written = 0
    lines: list[Line] = []
    for line in _lines(shard, numbers, size):
        lines.append(line)
        written += len(line.text)
        if len(lines) == PAGE:
            head = await _append(connection, shard, head, lines)
            last, lines = lines[-1], []
    if lines:
        head = await _append(connection, shard, head, lines)
        last = lines[-1]
    if written:
        await connection.execute(ADVANCE, shard, last.sequence, written, last.entry.nonce, head)


async def _append(connection: Connection, shard: int, head: bytes, lines: list[Line]) -> bytes:
    rows, _, head = rows_of(shard, head, lines)
    async with connection.transaction():
        projections = Projections(shard)
        await projections.load(connection, lines)
        await Room().make(connection, (line.entry.at_ms for line in lines))
        projections.fold(lines)
        await connection.copy_records_to_table("journal", records=rows, columns=JOURNAL)
        await projections.store(connection)
    return head


def _lines(shard: int, numbers: Sequence[int], size: Size) -> Iterator[Line]:
    """Each entry a call of its own."""
    previous = "genesis"
    for sequence, entry in enumerate(_entries(shard, numbers, size), start=1):
        nonce = f"nonce-{shard}-{sequence}"
        whole = msgspec.structs.replace(entry, nonce=nonce, previous_nonce=previous)
        yield Line(sequence, whole, _encode(whole), None)
        previous = nonce


def _entries(shard: int, numbers: Sequence[int], size: Size) -> Iterator[Entry]:
    """A cohort of accounts after the other, of which each is granted credits and spends some, in turns with
    the others of its cohort; and in the end what is open.
    """
    now_ms = time.time_ns() // 1_000_000
    step = size.days * _DAY_MS / max(1, len(numbers) * (1 + size.deducts))
    written = 0
    for first in range(0, len(numbers), _COHORT):
        for turn in range(1 + size.deducts):
            for number in numbers[first : first + _COHORT]:
                at_ms = now_ms - size.days * _DAY_MS + int(written * step)
                yield _granted(number, at_ms) if turn == 0 else _deducted(number, at_ms, turn)
                written += 1
    for number in numbers:
        if number % size.holds_every == 0:
            yield _reserved(number, now_ms, size.deducts, shard)


def _granted(number: int, at_ms: int) -> Entry:
    return Entry(
        format=1, kind="granted", at_ms=at_ms, account=customer(number), version=1, amount=CREDITS,
        available=CREDITS, held=0, legs=[Leg("default", 0, CREDITS, 0)], incarnation=1, nonce="",
        by="key:bench", bucket="default",
    )  # fmt: skip


def _deducted(number: int, at_ms: int, before: int) -> Entry:
    """`before`: how many entries the account has already."""
    return Entry(
        format=1, kind="deducted", at_ms=at_ms, account=customer(number), version=before + 1, amount=SPENT,
        available=CREDITS - SPENT * before, held=0, legs=[Leg("default", 0, -SPENT, 0)], incarnation=1,
        nonce="", by="key:bench", model="video",
    )  # fmt: skip


def _reserved(number: int, at_ms: int, deducts: int, shard: int) -> Entry:
    return Entry(
        format=1, kind="reserved", at_ms=at_ms, account=customer(number), version=deducts + 2, amount=SPENT,
        available=CREDITS - SPENT * (deducts + 1), held=SPENT, legs=[Leg("default", 0, -SPENT, SPENT)],
        incarnation=1, nonce="", by="key:bench", deadline_ms=at_ms + _DAY_MS,
        reservation=str(UUID(new_reservation_id(shard, at_ms))), model="video",
    )  # fmt: skip

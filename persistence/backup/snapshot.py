"""The journal up to one moment, read in pages and proved while it is read.

The moment is that of one statement, which reads every shard's cursor and chain head. The rows up to there
never change afterwards, so that no transaction is held open while gigabytes are written (which would keep
PostgreSQL from cleaning up behind the balances), and a backup that was cut off goes on with the same moment.
The one thing that does change is that notes are erased: whoever writes them asks `erasures` before and after.
"""

from collections.abc import Sequence

import msgspec
from asyncpg import Record

from app.ledger.entries import chained, genesis
from persistence.backup.manifest import (
    FORMAT,
    BackupRefused,
    Erased,
    Manifest,
    Row,
    ShardOf,
    decode_entry,
    encode,
)
from persistence.pool import Connection
from persistence.rows import are_its_notes

PAGE_ROWS = 5_000

LEDGER = """
SELECT id, (SELECT max(name) FROM migrations) AS schema, now() AS now FROM ledger WHERE born
"""

SHARDS = "SELECT shard, cursor, bytes, link, head, incarnation FROM shards ORDER BY shard"

ERASURES = "SELECT count(*) FROM erasures"


async def take(connection: Connection) -> Manifest:
    """What a backup of this moment is about.

    Raises:
        BackupRefused: There is no ledger.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        ledger = await connection.fetchrow(LEDGER)
        if ledger is None:
            raise BackupRefused("This database has no ledger. Run `lastro migrate`, or import a backup.")
        rows = await connection.fetch(SHARDS)
    shards = [
        ShardOf(shard, cursor, size, link, head.hex(), incarnation)
        for shard, cursor, size, link, head, incarnation in rows
    ]
    return Manifest(
        lastro="backup",
        format=FORMAT,
        ledger=str(ledger["id"]),
        schema=ledger["schema"],
        taken_at=ledger["now"],
        entries=sum(each.cursor for each in shards),
        shards=shards,
    )


HASHES = """
SELECT shard, hash FROM journal
JOIN unnest($1::integer[], $2::bigint[]) AS wanted (shard, seq) USING (shard, seq)
"""


async def still_there(connection: Connection, manifest: Manifest) -> bool:
    """Whether the journal is still the one of this moment, or one that went on from it."""
    ends = [each for each in manifest.shards if each.cursor]
    rows = await connection.fetch(HASHES, [each.shard for each in ends], [each.cursor for each in ends])
    return {(shard, head.hex()) for shard, head in rows} == {(each.shard, each.head) for each in ends}


PAGE = """
SELECT j.seq, j.entry, n.text, e.erased_at, e.by, e.reason
FROM journal j LEFT JOIN notes n USING (shard, seq) LEFT JOIN erasures e USING (shard, seq)
WHERE j.shard = $1 AND j.seq BETWEEN $2 AND $3 ORDER BY j.seq
"""


async def read(connection: Connection, shard: int, first: int, last: int) -> list[Record]:
    """The rows `first` to `last` of a shard, at most `PAGE_ROWS`, as `lines` takes them."""
    return await connection.fetch(PAGE, shard, first, last)


def _first_amiss(first: int, last: int, records: Sequence[Record]) -> int:
    """The first number that is missing among the rows, or there twice."""
    for expected, record in zip(range(first, last + 1), records, strict=False):
        if record[0] != expected:
            return expected
    return min(first + len(records), last)


def lines(shard: int, first: int, last: int, head: bytes, records: Sequence[Record]) -> tuple[bytes, bytes]:
    """The rows as lines of a backup, and the chain's head after them.

    Args:
        shard: Whose.
        first: The sequence of the first row that there should be.
        last: That of the last one.
        head: Before it.
        records: From `read`.

    Raises:
        BackupRefused: The journal is not as it was written.
    """
    texts: list[bytes] = []
    if len(records) != last - first + 1:
        raise _broken(shard, _first_amiss(first, last, records))
    for expected, (sequence, text, notes, erased_at, by, reason) in enumerate(records, first):
        if sequence != expected:
            raise _broken(shard, expected)
        head = chained(head, shard, sequence, text.encode())
        try:
            entry = decode_entry(text)
        except msgspec.MsgspecError as error:
            raise _broken(shard, sequence) from error
        erased = None if erased_at is None else Erased(erased_at, by, reason)
        if notes is not None and (erased is not None or not are_its_notes(entry, notes)):
            raise _broken(shard, sequence)
        if notes is None and entry.notes is not None and erased is None:
            raise _broken(shard, sequence)
        texts.append(encode(Row(shard, sequence, text, notes, erased)))
        texts.append(b"\n")
    return b"".join(texts), head


def begins(ledger: str, shard: int) -> bytes:
    """The chain's head before the first row."""
    return genesis(bytes.fromhex(ledger.replace("-", "")), shard)


def demand_head(shard: int, sequence: int, head: bytes, said: str) -> None:
    """Raises `BackupRefused` when the rows read do not lead to the head that `shards` has."""
    if head.hex() != said:
        raise _broken(shard, sequence)


def _broken(shard: int, sequence: int) -> BackupRefused:
    return BackupRefused(
        f"The journal of shard {shard} is not as it was written, at or before row {sequence}; nothing was "
        "backed up. Run `lastro verify --from 1`, which names the row."
    )


async def erasures(connection: Connection) -> int:
    """How many notes were ever erased; changes with every erasure."""
    return int(await connection.fetchval(ERASURES))

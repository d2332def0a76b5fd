"""What Redis remembers for a day: which key was answered by which entry, and which task belongs to which
reservation.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import msgspec
from asyncpg import Record as Row
from msgspec import Struct

from app.ledger.loading import REMEMBER_MS, Binding, Record
from app.ledger.shards import shard_of
from persistence.pool import Connection
from persistence.projections import at
from persistence.rebuild.reservations import reservations

PAGE = 2_000

_OF_RESERVATION = frozenset({"confirmed", "cancelled", "bound", "extended"})
_BIND = frozenset({"reserved", "bound", "extended", "adjusted"})


class _Asked(Struct):
    at_ms: int
    fingerprint: str


class _Bound(Struct):
    at_ms: int
    task: str
    provider: str | None = None


_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_bound = msgspec.json.Decoder(_Bound).decode

# Times never go back within a shard, so that a moment is a place in it.
FIRST_SINCE = """
SELECT seq FROM journal WHERE shard = $1 AND at >= $2 ORDER BY at, shard, seq LIMIT 1
"""


async def first_since(connection: Connection, shard: int, since_ms: int) -> int | None:
    """The sequence of the first entry of a shard that is not older than a moment, `None` when all are."""
    found: int | None = await connection.fetchval(FIRST_SINCE, shard, at(since_ms))
    return found


RECORDS = """
SELECT seq, kind, account, reservation::text AS reservation, operation_key, entry FROM journal
WHERE shard = $1 AND seq > $2 AND operation_key IS NOT NULL
ORDER BY seq LIMIT $3
"""


async def pages_of_records(
    connection: Connection, shard: int, after: int, *, page: int = PAGE
) -> AsyncIterator[list[Record]]:
    """The keys under which entries of a shard were written after sequence `after`, in order: of two that
    have one subject and one key the later counts.
    """
    while rows := await connection.fetch(RECORDS, shard, after, page):
        yield records_of(rows)
        after = rows[-1]["seq"]


def records_of(rows: Sequence[Row]) -> list[Record]:
    """Those of these rows of the journal that were written under a key."""
    return [_record(row) for row in rows if row["operation_key"] is not None]


def _record(row: Row) -> Record:
    asked = _decode_asked(row["entry"])
    of_reservation = row["kind"] in _OF_RESERVATION
    return Record(
        subject="r" if of_reservation else "a",
        id=row["reservation"] if of_reservation else row["account"],
        key=row["operation_key"],
        fingerprint=asked.fingerprint,
        sequence=row["seq"],
        forgotten_at_ms=asked.at_ms + REMEMBER_MS,
    )


# A task is kept until a day after the deadline of its reservation, and no deadline is further than a day off.
BINDINGS = """
SELECT at, shard, seq, kind, task, entry, reservation::text AS reservation FROM journal
WHERE (at, shard, seq) > ($1, $2, $3) AND kind IN ('reserved', 'bound', 'extended', 'adjusted')
  AND task IS NOT NULL AND reservation IS NOT NULL
ORDER BY at, shard, seq LIMIT $4
"""


async def pages_of_bindings(
    connection: Connection, shards: int, now_ms: int, *, since_ms: int = 0, page: int = PAGE
) -> AsyncIterator[list[Binding]]:
    """Every task of the ledger that is not forgotten by `now_ms`, in the order in which they were bound: of
    two bindings of one task the later counts.

    Args:
        connection: Anywhere.
        shards: How many the ledger has: a task's shard is not its reservation's.
        now_ms: By Redis' clock.
        since_ms: Of those that were bound at this moment or later.
        page: How many entries are looked at at once.
    """
    place: tuple[datetime, int, int] = (at(max(since_ms, now_ms - 2 * REMEMBER_MS)), -1, 0)
    while rows := await connection.fetch(BINDINGS, *place, page):
        its = await reservations(connection, list({row["reservation"] for row in rows}))
        deadlines = {id_: each.expires_at_ms for id_, each in its.items()}
        yield [each for each in bindings_of(rows, deadlines, shards) if each.forgotten_at_ms > now_ms]
        place = (rows[-1]["at"], rows[-1]["shard"], rows[-1]["seq"])


def bindings_of(rows: Sequence[Row], deadlines_ms: Mapping[str, int], shards: int) -> list[Binding]:
    """What those of these rows of the journal that name a task have bound it to.

    Args:
        rows: In their order.
        deadlines_ms: Of the reservations concerned.
        shards: How many the ledger has.
    """
    found = []
    for row in rows:
        if row["kind"] not in _BIND or row["task"] is None:
            continue
        entry, id_ = _decode_bound(row["entry"]), row["reservation"]
        found.append(
            Binding(
                shard=shard_of(f"{entry.provider or ''}:{entry.task}", shards),
                provider=entry.provider,
                task=entry.task,
                reservation=id_,
                forgotten_at_ms=max(deadlines_ms[id_], entry.at_ms) + REMEMBER_MS,
            )
        )
    return found

"""A Redis that is merely behind, brought to where the journal is.

A crash with `appendfsync everysec`, or a replica that lagged, leaves a Redis that ends somewhere in the
journal's own history. Whatever the entries after that have touched is written as the journal has it, then the
entries themselves, with the meta that goes with them. Only under the lock that the admission holds: the
cursor must not move meanwhile.
"""

from collections.abc import Collection
from typing import Any

import msgspec
from asyncpg import Record
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.clock import time_ms
from app.ledger.judgement import Sighting, Standing
from app.ledger.loading import REMEMBER_MS, Beyond, Closed, Page, bind, close_behind, load
from app.ledger.shards import SHARDS_MAX, shard_of_reservation
from persistence import rebuild
from persistence.admission_steps import Barrier, past
from persistence.pool import Connection

BEHIND_MAX = 500_000
"""Entries. Rolling is for what a crash takes; more is a restore, which is watched and says what it does."""

PAGE = 1_000

NO_MOMENT = 15
"""Digits. Milliseconds since 1970 have 13."""


class CannotRoll(Exception):
    """The shard has to be restored instead; the text says why."""


class _Called(Struct):
    at_ms: int
    nonce: str


_decode_called = msgspec.json.Decoder(_Called).decode

ENTRY = "SELECT entry FROM journal WHERE shard = $1 AND seq = $2"


async def is_prefix(connection: Connection, standing: Standing, sighting: Sighting) -> bool:
    """Whether what a Redis shows of a shard is the beginning of the journal, not too far behind its end."""
    if sighting.meta_type != "hash" or not sighting.sequence.isdecimal():
        return False
    sequence = int(sighting.sequence)
    if not 0 < standing.cursor - sequence <= BEHIND_MAX:
        return False
    if sighting.last_id != (f"{sequence}-0" if sighting.last_id or sequence else ""):
        return False
    if sequence == 0:
        return sighting.link == "genesis"
    entry = await connection.fetchval(ENTRY, standing.shard, sequence)
    return entry is not None and _decode_called(entry).nonce == sighting.link


async def roll_forward(
    connection: Connection,
    redis: Redis,
    ledger: str,
    standing: Standing,
    sighting: Sighting,
    *,
    barrier: Barrier = past,
) -> None:
    """Bring a shard that `is_prefix` to the cursor; nobody is let in before it is admitted again.

    Whoever was stopped anywhere finds a prefix again, or a shard that stands at the cursor.

    Args:
        connection: In the transaction that has locked the shard.
        redis: The server that was sighted.
        ledger: The id of the ledger.
        standing: As locked.
        sighting: Of this moment, or nearly.
        barrier: `after closing`, `after values`, `after entries <sequence>`.

    Raises:
        Moved: (`app.ledger.loading`) The server was replaced or changed meanwhile; look again.
        CannotRoll: See there.
    """
    shard, sequence = standing.shard, int(sighting.sequence)
    try:
        closed = await close_behind(redis, ledger, shard, sighting, standing.cursor)
    except Beyond as error:
        raise CannotRoll(
            f"Shard {shard} was being rolled forward when PostgreSQL lost its last entries, so that some of "
            "its balances are ahead of the journal."
        ) from error
    await barrier("after closing")
    try:
        await _write_values(connection, redis, closed, sequence)
        await barrier("after values")
        await _write_entries(connection, redis, closed, sequence, barrier)
    except ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        raise CannotRoll(f"Something else stands under a key that shard {shard} needs in Redis.") from error


LINES = """
SELECT seq, kind, account, reservation::text AS reservation, operation_key, task, entry, notes.text AS notes
FROM journal LEFT JOIN notes USING (shard, seq)
WHERE shard = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""


async def _write_values(connection: Connection, redis: Redis, closed: Closed, sequence: int) -> None:
    """All that the entries after `sequence` have touched, as it is at the cursor."""
    shards: int = await connection.fetchval("SELECT count(*) FROM shards")
    after = sequence
    while rows := await connection.fetch(LINES, closed.shard, after, PAGE):
        after = rows[-1]["seq"]
        page = Page(closed.shard)
        accounts = await rebuild.accounts(connection, list({row["account"] for row in rows}))
        for id_, account in accounts.items():
            page.account(id_, account)
        ids = {row["reservation"] for row in rows if row["reservation"] is not None}
        reservations = await rebuild.reservations(connection, list(ids))
        for reservation in reservations.values():
            page.reservation(reservation)
        repaired = {row["account"] for row in rows if row["kind"] == "repaired"}
        if repaired:
            await _put_right(connection, redis, closed, page, repaired)
        for record in rebuild.records_of(rows):
            page.record(record)
        for refunded in await rebuild.refunds_of(connection, closed.shard, rows):
            page.refunded(refunded)
        await load(redis, closed, page, sequence=sequence)
        deadlines_ms = {id_: each.expires_at_ms for id_, each in reservations.items()}
        for binding in rebuild.bindings_of(rows, deadlines_ms, shards):
            await bind(redis, binding)


async def _put_right(
    connection: Connection, redis: Redis, closed: Closed, page: Page, repaired: Collection[str]
) -> None:
    """A repair does not say in its entry what it has put right, and this Redis may be as it was before."""
    for account, opened in (await rebuild.open_reservations_of(connection, list(repaired))).items():
        open_ones = {each.id: each for each in opened}
        found: Any = await redis.zrange(keys.holds(closed.shard, account), 0, -1)
        names = {each.decode(errors="replace") for each in found} - open_ones.keys()
        strays = [each for each in names if shard_of_reservation(each, SHARDS_MAX) is not None]
        for stray in strays:
            page.no_reservation(stray, account)
        for reservation in (open_ones | await rebuild.reservations(connection, strays)).values():
            page.reservation(reservation)
    now_ms = await time_ms(redis, closed.shard)
    first = await rebuild.first_since(connection, closed.shard, now_ms - REMEMBER_MS)
    if first is not None:
        for refunded in await rebuild.refunds_to(connection, closed.shard, repaired, first - 1):
            page.refunded(refunded)


BYTES = "SELECT bytes FROM shards WHERE shard = $1"


async def _write_entries(
    connection: Connection, redis: Redis, closed: Closed, sequence: int, barrier: Barrier
) -> None:
    """The entries after `sequence`, and with each page of them the meta that goes with it."""
    size = await connection.fetchval(BYTES, closed.shard)
    rows = await connection.fetch(LINES, closed.shard, sequence, PAGE)
    while rows:
        following = await connection.fetch(LINES, closed.shard, rows[-1]["seq"], PAGE)
        page = Page(closed.shard)
        for row in rows:
            page.entry(row["seq"], row["entry"], row["notes"])
        last = _decode_called(rows[-1]["entry"])
        page.meta(sequence=rows[-1]["seq"], link=last.nonce)
        if not following:
            await _complete(redis, page, closed, rows[-1], size)
        await load(redis, closed, page, sequence=sequence)
        sequence, rows = rows[-1]["seq"], following
        await barrier(f"after entries {sequence}")


async def _complete(redis: Redis, page: Page, closed: Closed, last: Record, size: int) -> None:
    """The meta as it is when the journal has everything. The shard's clock does not go back."""
    found = await redis.hget(keys.meta(closed.shard), "now_ms") or b""
    now_ms = int(found) if found.isdigit() and len(found) < NO_MOMENT else 0
    page.meta(
        bytes=size,
        journaled=last["seq"],
        journaled_bytes=size,
        oldest_ms="",
        now_ms=max(now_ms, _decode_called(last["entry"]).at_ms),
    )
    page.without_meta("goal")

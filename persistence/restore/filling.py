"""The steps `remove` and `load` of a restore: a claimed shard is emptied, but for lanes, and filled from the
journal.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.apart import scan
from app.ledger.clock import time_ms
from app.ledger.loading import REMEMBER_MS, Closed, Page, close, load
from app.ledger.running import at_once
from persistence import rebuild
from persistence.pool import Connection
from persistence.restore.claim import Claim

STREAM_ENTRIES = 1_000
"""So many of the last ones stand in the stream again: enough for a PostgreSQL that loses its last seconds."""

SCAN_COUNT = 1_000

_STAYS = frozenset({"meta", "lane", "aside"})

Count = Callable[[int], None]
"""Is told how many accounts and reservations more have been loaded."""


class _Last(Struct):
    at_ms: int


_decode_last = msgspec.json.Decoder(_Last).decode


class Shards(NamedTuple):
    """The claimed shards, closed."""

    claim: Claim
    closed: Mapping[int, Closed]


async def empty(redis: Redis, claim: Claim) -> Shards:
    """Close the claimed shards and remove their keys, and nobody else's.

    Lanes stay: they tell a late copy of a call that it has run, and it may be for shards that are served.
    What was put aside for the operator stays, too.

    Raises:
        Moved: (`app.ledger.loading`) The server was replaced meanwhile.
    """
    closed = {
        each.shard: await close(redis, claim.closed(each), each.fence or "") for each in claim.standings
    }
    async for names in scan(redis, keys.SCAN_ALL, SCAN_COUNT):
        found: dict[int, list[bytes]] = {}
        for name in names:
            shard, kind = keys.kind_of(name) or (-1, "")
            if shard in closed and kind not in _STAYS:
                found.setdefault(shard, []).append(name)
        for shard, gone in found.items():
            page = Page(shard)
            page.removed(gone)
            await load(redis, closed[shard], page)
    owner = {"id": claim.ledger, "shards": str(claim.shards)}
    told = await at_once(redis, keys.LEDGER, *(("HSETNX", keys.LEDGER, *each) for each in owner.items()))
    for answer in told:
        if isinstance(answer, RedisError):
            raise answer
    return Shards(claim, closed)


SIZE = """
SELECT (SELECT count(*) FROM accounts WHERE shard = ANY($1::integer[]))
  + (SELECT count(*) FROM reservations WHERE shard = ANY($1::integer[]) AND status = 'pending')
"""


async def size(connection: Connection, claim: Claim) -> int:
    """How many accounts and open reservations there are to load."""
    found: int = await connection.fetchval(SIZE, claim.numbers)
    return found


async def fill(connection: Connection, redis: Redis, shards: Shards, count: Count) -> None:
    """Load everything; a shard gets its sequence, without which nobody is let in, when all of it is there.

    Raises:
        Moved: (`app.ledger.loading`) The server was replaced meanwhile.
    """
    now_ms = await time_ms(redis)
    for closed in shards.closed.values():
        await _fill_balances(connection, redis, closed, count)
        await _fill_memory(connection, redis, closed, now_ms)
    await _fill_tasks(connection, redis, shards, now_ms)
    for closed in shards.closed.values():
        await _complete(connection, redis, closed)


async def _fill_balances(connection: Connection, redis: Redis, closed: Closed, count: Count) -> None:
    async for accounts in rebuild.pages_of_accounts(connection, closed.shard):
        page = Page(closed.shard)
        for id_, account in accounts.items():
            page.account(id_, account)
        await load(redis, closed, page)
        count(len(accounts))
    async for reservations in rebuild.pages_of_open_reservations(connection, closed.shard):
        page = Page(closed.shard)
        for reservation in reservations.values():
            page.reservation(reservation)
        await load(redis, closed, page)
        count(len(reservations))


async def _fill_memory(connection: Connection, redis: Redis, closed: Closed, now_ms: int) -> None:
    """Of the last day: how reservations ended, what was answered to which key, and what was given back."""
    first = await rebuild.first_since(connection, closed.shard, now_ms - REMEMBER_MS)
    if first is None:
        return
    async for ended in rebuild.pages_of_settled_reservations(connection, closed.shard, first - 1):
        page = Page(closed.shard)
        for reservation in ended.values():
            page.reservation(reservation)
        await load(redis, closed, page)
    async for records in rebuild.pages_of_records(connection, closed.shard, first - 1):
        page = Page(closed.shard)
        for record in records:
            page.record(record)
        await load(redis, closed, page)
    async for refunds in rebuild.pages_of_refunds(connection, closed.shard, first - 1):
        page = Page(closed.shard)
        for refunded in refunds:
            page.refunded(refunded)
        await load(redis, closed, page)


async def _fill_tasks(connection: Connection, redis: Redis, shards: Shards, now_ms: int) -> None:
    """A task is kept by its own name, whatever shard its reservation is in."""
    async for bindings in rebuild.pages_of_bindings(connection, shards.claim.shards, now_ms):
        pages = {shard: Page(shard) for shard in {each.shard for each in bindings} & shards.closed.keys()}
        for binding in bindings:
            if binding.shard in pages:
                pages[binding.shard].binding(binding)
        for shard, page in pages.items():
            await load(redis, shards.closed[shard], page)


STANDING = "SELECT cursor, bytes, link FROM shards WHERE shard = $1"

TAIL = """
SELECT seq, entry, notes.text AS notes FROM journal LEFT JOIN notes USING (shard, seq)
WHERE shard = $1 AND seq > $2 ORDER BY seq
"""


async def _complete(connection: Connection, redis: Redis, closed: Closed) -> None:
    row = await connection.fetchrow(STANDING, closed.shard)
    assert row is not None, "a shard without a row"
    cursor, size, link = row
    tail = await connection.fetch(TAIL, closed.shard, cursor - STREAM_ENTRIES)
    page = Page(closed.shard)
    for line in tail:
        page.entry(line["seq"], line["entry"], line["notes"])
    page.meta(
        sequence=cursor,
        link=link,
        now_ms=_decode_last(tail[-1]["entry"]).at_ms if tail else 0,
        journaled=cursor,
        bytes=size,
        journaled_bytes=size,
        oldest_ms="",
    )
    page.without_meta("loader")
    await load(redis, closed, page)

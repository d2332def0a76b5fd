"""What Redis had just before the first entry that its stream still has.

That is its state now, with the entries from there on taken back, last one first (`taking_back`). For a shard
that refuses, so that nothing moves meanwhile.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.apart import scan
from app.ledger.entries import Entry
from app.ledger.replies import Account, Reservation
from persistence.reconcile.lost import NotAdoptable, Then
from persistence.reconcile.taking_back import take_back

SCANNED_AT_ONCE = 1_000
ENTRIES_AT_ONCE = 1_000

_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_account = msgspec.json.Decoder(Account).decode
_decode_reservation = msgspec.json.Decoder(Reservation).decode

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, KeyError)


async def before(redis: Redis, shard: int, cursor: int, *, sequence: int, link: str, now_ms: int) -> Then:
    """What the shard had before the first call of its stream that is there from its beginning.

    Args:
        redis: Its retries are off.
        shard: Which refuses.
        cursor: Where the journal ends.
        sequence: Where the shard ends.
        link: The nonce of the shard's last call.
        now_ms: The shard's clock.
    """
    then = Then(sequence + 1, link, now_ms, 0, {}, {})
    async for name, text in _texts(redis, keys.account(shard, "")):
        then.accounts[name] = _decode_account(text)
    async for name, text in _texts(redis, keys.reservation(shard, "")):
        then.reservations[name] = _decode_reservation(text)
    async for name, text in _texts(redis, keys.refunded(shard, "")):
        if text.isdigit():
            then.refunded[name] = int(text)
    first = await _first_call(redis, shard, cursor)
    if first is not None:
        then.first = first
        await _take_back(redis, shard, then)
    return then


async def _texts(redis: Redis, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
    async for names in scan(redis, f"{prefix}*", SCANNED_AT_ONCE):
        for found in await _read(redis, prefix, names):
            yield found


async def _read(redis: Redis, prefix: str, names: Sequence[bytes]) -> list[tuple[str, bytes]]:
    if not names:
        return []
    texts: Any = await redis.mget(names)
    return [
        (name.decode().removeprefix(prefix), text)
        for name, text in zip(names, texts, strict=True)
        if text is not None
    ]


async def _first_call(redis: Redis, shard: int, cursor: int) -> int | None:
    """The first entry after `cursor` that begins a call."""
    place = f"{cursor + 1}-0"
    stream: Any = redis
    while found := await stream.xrange(keys.journal(shard), place, "+", count=ENTRIES_AT_ONCE):
        for entry_id, fields in found:
            try:
                entry = _decode_entry(fields[b"entry"])
            except _UNREADABLE:  # then nothing of its call can be told, as of one that has begun before
                continue
            if entry.previous_nonce is not None:
                return int(entry_id.split(b"-")[0])
        place = "(" + found[-1][0].decode()
    return None


async def _take_back(redis: Redis, shard: int, then: Then) -> None:
    last = "+"
    stream: Any = redis
    while found := await stream.xrevrange(keys.journal(shard), last, f"{then.first}-0", ENTRIES_AT_ONCE):
        for entry_id, fields in found:
            try:
                entry = _decode_entry(fields[b"entry"])
            except _UNREADABLE as error:
                raise NotAdoptable(
                    f"Entry {entry_id.decode()} of shard {shard} cannot be read ({error}): repair Redis "
                    "first, from a backup of its data."
                ) from error
            then.bytes += len(fields[b"entry"]) + len(fields.get(b"notes", b""))
            then.at_ms = entry.at_ms
            if entry.previous_nonce is not None:
                then.link = entry.previous_nonce
            take_back(then, entry, int(entry_id.split(b"-")[0]))
        last = "(" + found[-1][0].decode()

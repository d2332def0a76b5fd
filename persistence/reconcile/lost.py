"""What is lost of a shard, and what Redis had just before the first entry that its stream still has.

That is its state now, with the entries from there on taken back, last one first. For a shard that refuses, so
that nothing moves meanwhile.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.entries import Entry
from app.ledger.replies import Account, HeldLeg, Lot, Reservation

SCANNED_AT_ONCE = 1_000
ENTRIES_AT_ONCE = 1_000

_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_account = msgspec.json.Decoder(Account).decode
_decode_reservation = msgspec.json.Decoder(Reservation).decode

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, KeyError)


class NotAdoptable(Exception):
    """What Redis has does not go on from what PostgreSQL has; the text says why. Nothing was written."""


class Loss(Struct, frozen=True):
    """What PostgreSQL and Redis' stream lack of a shard: `first` to `last`; Redis has `sequence`."""

    shard: int
    first: int
    last: int
    sequence: int

    @property
    def sentence(self) -> str:
        return (
            f"shard {self.shard}: entries {self.first} to {self.last} are lost in PostgreSQL, and Redis' "
            f"stream no longer has them; it goes on to {self.sequence}."
        )


class Then(Struct):
    """A shard of Redis just before entry `first`. `bytes`: of the entries from there on.

    `link` and `at_ms` are those of the call before, as far as anybody still knows.
    """

    first: int
    link: str
    at_ms: int
    bytes: int
    accounts: dict[str, Account]
    reservations: dict[str, Reservation]


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
    first = await _first_call(redis, shard, cursor)
    if first is not None:
        then.first = first
        await _take_back(redis, shard, then)
    return then


async def _texts(redis: Redis, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
    names: list[bytes] = []
    async for key in redis.scan_iter(match=f"{prefix}*", count=SCANNED_AT_ONCE):
        names.append(key)
        if len(names) == SCANNED_AT_ONCE:
            for found in await _read(redis, prefix, names):
                yield found
            names = []
    for found in await _read(redis, prefix, names):
        yield found


async def _read(redis: Redis, prefix: str, names: list[bytes]) -> list[tuple[str, bytes]]:
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
            _take_back_entry(then, entry, int(entry_id.split(b"-")[0]))
        last = "(" + found[-1][0].decode()


def _take_back_entry(then: Then, entry: Entry, sequence: int) -> None:
    account = then.accounts.get(entry.account)
    if account is None or account.version != entry.version:
        version = None if account is None else account.version
        raise NotAdoptable(
            f"Entry {sequence} is version {entry.version} of {entry.account}, which Redis has as {version}: "
            "repair Redis first, from a backup of its data."
        )
    lots = _lots_before(account.lots, entry)
    if entry.version == 1:
        del then.accounts[entry.account]
    else:
        then.accounts[entry.account] = msgspec.structs.replace(
            account,
            version=entry.version - 1,
            available=account.available - sum(leg.available for leg in entry.legs),
            held=account.held - sum(leg.held for leg in entry.legs),
            lots=lots,
        )
    if entry.reservation is not None:
        _take_back_reservation(then, entry, sequence)


def _lots_before(lots: list[Lot], entry: Entry) -> list[Lot]:
    """The same credits as before; of a lot that went meanwhile its bucket's empty row tells the rest."""
    rows = {(lot.bucket, lot.expires_at_ms): lot for lot in lots}
    for leg in entry.legs:
        key = (leg.bucket, leg.expires_at_ms)
        lot = rows.pop(key, None)
        if lot is None:
            empty = rows.get((leg.bucket, 0))
            is_it = empty is not None and empty.available == empty.held == 0
            others = (each for each in rows.values() if each.bucket == leg.bucket)
            new = Lot(leg.bucket, 100, 0, 0, 0, 1)
            like = rows.pop((leg.bucket, 0)) if is_it else next(others, new)
            lot = Lot(leg.bucket, like.priority, leg.expires_at_ms, 0, 0, like.since)
        available, held = lot.available - leg.available, lot.held - leg.held
        if available < 0 or held < 0:
            raise NotAdoptable(f"A lot of {entry.account} does not have what its entries say.")
        is_last = all(each.bucket != leg.bucket for each in rows.values())
        if is_last and not available and not held:
            key = (leg.bucket, 0)  # so stands a bucket that has nothing: with its priority
        if is_last or available or held:
            rows[key] = Lot(lot.bucket, lot.priority, key[1], available, held, lot.since)
    return sorted(
        rows.values(),
        key=lambda lot: (lot.priority, lot.expires_at_ms or 2**60, lot.since, lot.bucket),
    )


def _take_back_reservation(then: Then, entry: Entry, sequence: int) -> None:
    assert entry.reservation is not None
    reservation = then.reservations.get(entry.reservation)
    if reservation is None:
        return
    if entry.kind == "reserved":
        del then.reservations[entry.reservation]
    elif entry.kind == "bound":
        if reservation.bound_sequence == sequence:
            then.reservations[entry.reservation] = msgspec.structs.replace(
                reservation, task=None, provider=None, bound_sequence=None
            )
    elif reservation.ended_sequence == sequence:
        captured, released = entry.captured or 0, entry.released or 0
        then.reservations[entry.reservation] = msgspec.structs.replace(
            reservation,
            status="pending",
            captured=reservation.captured - captured,
            released=reservation.released - released,
            charged=reservation.charged - (entry.charged or 0),
            held=captured + released,
            legs=_legs_before(entry),
            ended_sequence=None,
            settled_at_ms=None,
            cancel_cause=None,
            cancel_reason=None,
        )


def _legs_before(entry: Entry) -> list[HeldLeg]:
    """What was held, in the order of capture: what an ending releases whole stands in reverse."""
    legs = [leg for leg in entry.legs if leg.held < 0]
    captured = [leg for leg in legs if leg.available < -leg.held]
    whole = [leg for leg in legs if leg.available >= -leg.held]
    return [HeldLeg(leg.bucket, leg.expires_at_ms, -leg.held) for leg in [*captured, *reversed(whole)]]

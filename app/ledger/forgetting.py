"""Redis' half of an erasure: what it still has of an account's personal text, and letting go of it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, scripts
from app.ledger.replies import Account, Reservation
from app.ledger.running import run

READ_AT_ONCE = 500
_TRIES_MAX = 5

_account = msgspec.json.Decoder(Account).decode
_reservation = msgspec.json.Decoder(Reservation).decode


class StillOpen(Exception):
    """A reservation has not ended; nothing of it was touched."""


async def account_in(redis: Redis, shard: int, account: str) -> Account | None:
    """An account as Redis has it; what is due may not have happened yet."""
    text = await redis.get(keys.account(shard, account))
    return None if text is None else _account(text)


async def stream_begins(redis: Redis, shard: int) -> int | None:
    """The sequence of the oldest entry that the stream of a shard still has; `None` when it has none."""
    found: Any = await redis.xrange(keys.journal(shard), count=1)
    return int(found[0][0].partition(b"-")[0]) if found else None


async def forget(redis: Redis, shard: int, reservations: Sequence[str]) -> int:
    """Let go of resource, metadata and reason of reservations that have ended. Repeating is harmless.

    Returns how many had any.

    Raises:
        StillOpen: One of them has not.
    """
    forgotten = 0
    for begin in range(0, len(reservations), READ_AT_ONCE):
        names = [keys.reservation(shard, each) for each in reservations[begin : begin + READ_AT_ONCE]]
        for name, text in zip(names, await redis.mget(names), strict=True):
            if text is not None:
                forgotten += await _forget(redis, name, text)
    return forgotten


async def _forget(redis: Redis, name: str, text: bytes | str) -> bool:
    for _ in range(_TRIES_MAX):
        reservation = _reservation(text)
        if reservation.status == "pending":
            raise StillOpen(f"Reservation {reservation.id} is open.")
        bare = msgspec.structs.replace(reservation, resource=None, metadata=None, cancel_reason=None)
        if bare == reservation:
            return False
        if (
            await run(redis, scripts.load("forget"), [name], [text, msgspec.json.encode(bare)])
            == b"forgotten"
        ):
            return True
        again = await redis.get(name)
        if again is None:
            return False
        text = again
    raise StillOpen(f"{name} keeps changing.")

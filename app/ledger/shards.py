"""Where things live, and ids that say so.

An account's shard is `crc32(id) % shards`. A reservation id is a UUIDv7 (RFC 9562) whose 12 bits `rand_a`
are its shard, so that a reservation is found by its id alone. A transaction id is
`<shard>-<incarnation>-<sequence>`.
"""

import os
import re
from typing import NamedTuple
from zlib import crc32

SHARDS_MAX = 4096

_TRANSACTION_ID = re.compile(r"(0|[1-9]\d{0,3})-(0|[1-9]\d{0,14})-([1-9]\d{0,15})", re.ASCII)
_RESERVATION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)


class TransactionId(NamedTuple):
    """The receipt number of an entry. The incarnation keeps a receipt that was lost with a Redis from naming
    a stranger's entry later.
    """

    shard: int
    incarnation: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.shard}-{self.incarnation}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "TransactionId | None":
        """`None` when the text does not have the shape."""
        found = _TRANSACTION_ID.fullmatch(text)
        return cls(int(found[1]), int(found[2]), int(found[3])) if found else None


def shard_of(text: str, shards: int) -> int:
    """The shard of an account id."""
    return crc32(text.encode()) % shards


def shard_of_task(provider: str | None, task: str, shards: int) -> int:
    """The shard in which it is kept whose task that is: the task's own, not its reservation's."""
    return shard_of(f"{provider or ''}:{task}", shards)


def new_reservation_id(shard: int, now_ms: int) -> str:
    """A UUIDv7 of this moment that carries its shard."""
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1) | (1 << 63)
    digits = f"{now_ms & 0xFFFFFFFFFFFF:012x}7{shard:03x}{random:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def shard_of_reservation(reservation_id: str, shards: int) -> int | None:
    """The shard that the id carries; `None` for an id that this ledger cannot have made."""
    if not _RESERVATION_ID.fullmatch(reservation_id):
        return None
    shard = int(reservation_id[15:18], 16)
    return shard if shard < shards else None

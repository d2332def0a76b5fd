"""What an answer waits for before it is given (`LASTRO_ACK`), and what that demands of a Redis.

| level | an answer is given once |
|---|---|
| `memory` | Redis has carried the operation out |
| `fsync` | it is on Redis' disk as well: Redis itself answers so when `appendfsync` is `always` |
| `replicated=N` | N replicas have it as well, in memory (`app.ledger.replicas`) |

WAITAOF is not used for `fsync`: under `everysec` it has been seen to answer before the fsync.
"""

import re

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.ledger.apart import of_nodes, this
from app.ledger.backing import NotAdmitted
from app.ledger.connection import Node
from app.ledger.errors import NOT_PERSISTING

REPLICAS_MAX = 100

_REPLICATED = re.compile(r"replicated=([1-9]\d{0,2})", re.ASCII)
_WANTED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
"""The last one skips the fsync while a child of Redis writes, under `always` too."""


class Acknowledgement(Struct, frozen=True):
    """A level. `replicas` 0: none is waited for."""

    fsync: bool = False
    replicas: int = 0

    @classmethod
    def of(cls, text: str) -> "Acknowledgement":
        """The level by its name.

        Raises:
            ValueError: There is no such level; the text says which there are.
        """
        if text in ("memory", "fsync"):
            return cls(fsync=text == "fsync")
        replicated = _REPLICATED.fullmatch(text)
        if replicated is None or int(replicated[1]) > REPLICAS_MAX:
            raise ValueError(f"should be memory, fsync or replicated=N with N from 1 to {REPLICAS_MAX}")
        return cls(replicas=int(replicated[1]))

    async def demand(self, redis: Redis) -> None:
        """Demand of each server what the level stands on. Replicas are demanded by each call, not here.

        Raises:
            NotAdmitted: One is configured otherwise, or does not tell.
        """
        if self.fsync:
            await of_nodes(redis, lambda node: _demand_disk(redis, node))


async def _demand_disk(redis: Redis, node: Node) -> None:
    try:
        found: dict[str | None, str | None] = await redis.config_get(*_WANTED, **node.only)
    except ResponseError as error:
        raise NotAdmitted(
            f"LASTRO_ACK=fsync promises what is on Redis' disk, and {this(node)} does not say "
            f"whether it writes there (CONFIG GET: {error}). Allow CONFIG GET, or choose another LASTRO_ACK.",
            cause=NOT_PERSISTING,
        ) from error
    for name, wanted in _WANTED.items():
        if found.get(name) != wanted:
            raise NotAdmitted(
                f"LASTRO_ACK=fsync promises what is on Redis' disk, but {this(node)} has {name} "
                f"{found.get(name)}. Set it to {wanted}, or choose another LASTRO_ACK.",
                cause=NOT_PERSISTING,
            )

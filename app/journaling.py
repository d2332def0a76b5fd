"""How far the journal is behind each stream, and the protocol through which that is looked at. `main` plugs
in PostgreSQL and Redis.
"""

from datetime import datetime
from typing import Protocol

from msgspec import Struct


class Stream(Struct, frozen=True):
    """What Redis has of a shard. `kept`: entries in the stream, journaled or not."""

    sequence: int
    kept: int
    oldest_seconds: float


class ShardJournaled(Struct, frozen=True):
    """A shard: `cursor` is the last sequence that the journal has, `verified` the last to which its chain was
    proved. `stream` is `None` while Redis does not answer.
    """

    shard: int
    cursor: int
    journaled_at: datetime | None
    verified: int
    verified_at: datetime | None
    fence: str | None
    stream: Stream | None

    @property
    def behind(self) -> int | None:
        """Entries that the journal lacks; what was read later may be further on."""
        return None if self.stream is None else max(0, self.stream.sequence - self.cursor)

    @property
    def lag_seconds(self) -> float | None:
        """How old the oldest of them is."""
        if self.stream is None:
            return None
        return self.stream.oldest_seconds if self.behind else 0.0


class Journaling(Protocol):
    """`main` plugs in who knows."""

    async def shards(self) -> list[ShardJournaled]:
        """Every shard, in order.

        Raises:
            app.ledger.backing.BackingUnavailable: PostgreSQL is away.
        """
        ...

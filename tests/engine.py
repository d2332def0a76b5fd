"""An engine without PostgreSQL, for tests that are about the script and the batcher alone.

`Streams` stands where PostgreSQL would: it founds and admits by the same scripts, and answers about the past
from the streams, which nobody trims here. `Clock` sets the time that a script composed with
`tests/lua/clock.lua` sees.
"""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, scripts
from app.ledger.backing import Extent, Keyed, Recorded, Refunded, Terms
from app.ledger.batcher import Limits
from app.ledger.entries import Entry
from app.ledger.ledger import Ledger
from app.ledger.replies import Reservation
from app.ledger.scripts import Script
from app.ledger.shards import TransactionId

CLOCK = Path(__file__).parent / "lua" / "clock.lua"


def script_with_clock() -> Script:
    """The script as it is, but for where it reads the time."""
    return scripts.load("apply", CLOCK)


class Clock:
    """The time of one Redis: it stands still until it is moved on. Never behind the real one, because Redis
    forgets keys by its own.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.now_ms = int(time.time() * 1000) + 1000

    async def set(self, now_ms: int) -> None:
        self.now_ms = now_ms
        await self._redis.set("test:clock", now_ms)

    async def advance(self, by_ms: int) -> None:
        await self.set(self.now_ms + by_ms)


class Streams:
    """What the engine asks of the journal, answered by the streams."""

    def __init__(self, redis: Redis, shards: int, server: str = "", servers: Sequence[str] = ()) -> None:
        self.terms = Terms(uuid.uuid4().hex, server, [1] * shards, {}, servers=[*servers])
        self._redis = redis

    async def found(self) -> None:
        """Write the metas of a ledger that is admitted."""
        for shard in range(self.terms.shards):
            meta: dict[str | bytes, str | int] = {
                "ledger": self.terms.ledger,
                "incarnation": 1,
                "server": self.terms.server_of(shard),
                "fence": "",
                "sequence": 0,
                "journaled": 0,
                "bytes": 0,
                "journaled_bytes": 0,
                "oldest_ms": 0,
                "link": "genesis",
                "now_ms": 0,
            }
            await self._redis.hset(keys.meta(shard), mapping=meta)

    async def admit(self) -> Terms:
        return self.terms

    async def entries(self, shard: int) -> list[Recorded]:
        """The whole journal of a shard."""
        found = []
        for name, fields in await self._redis.xrange(keys.journal(shard)):
            notes = fields.get(b"notes")
            entry = msgspec.json.decode(fields[b"entry"], type=Entry)
            found.append(Recorded(int(name.split(b"-")[0]), entry, notes.decode() if notes else None))
        return found

    async def everything(self) -> list[tuple[int, Recorded]]:
        """The whole journal, with the shard of each entry."""
        return [(shard, each) for shard in range(self.terms.shards) for each in await self.entries(shard)]

    async def recorded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Recorded]:
        return {
            place: each
            for shard, each in await self.everything()
            if (place := (shard, each.sequence)) in places
        }

    async def accounts_known(self, accounts: Sequence[str]) -> set[str]:
        return {each.entry.account for _, each in await self.everything()} & {*accounts}

    async def answered(self, keys: Sequence[Keyed]) -> dict[Keyed, Recorded | Extent]:
        return answered_by(await self.everything(), keys)

    async def refunded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Refunded]:
        return refunded_by(await self.everything(), places)

    async def reservations(self, ids: Sequence[str]) -> dict[str, Reservation]:
        return {}

    async def tasks(self, tasks: Sequence[tuple[str | None, str]]) -> dict[tuple[str | None, str], str]:
        return {}


OF_RESERVATION = frozenset({"confirmed", "cancelled", "extended", "bound"})


Journal = Sequence[tuple[int, Recorded]]
"""Entries, each with its shard."""


def extent_of(journal: Journal, shard: int) -> Extent:
    """How far a journal is in a shard."""
    there = [Extent(each.sequence, each.entry.at_ms) for of, each in journal if of == shard]
    return max(there, default=Extent(0, 0))


def answered_by(journal: Journal, keys: Sequence[Keyed]) -> dict[Keyed, Recorded | Extent]:
    """What `Backing.answered` finds in a journal."""
    found: dict[Keyed, Recorded | Extent] = {}
    for asked in keys:
        under = [
            each
            for _, each in journal
            if each.entry.key == asked.key
            and (each.entry.reservation == asked.id if asked.of == "r" else each.entry.account == asked.id)
            and (each.entry.kind in OF_RESERVATION) == (asked.of == "r")
        ]
        under.sort(key=lambda each: (each.entry.fingerprint != asked.fingerprint, each.sequence))
        found[asked] = under[0] if under else extent_of(journal, asked.shard)
    return found


def refunded_by(journal: Journal, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Refunded]:
    """What `Backing.refunded` finds in a journal."""
    sums = dict.fromkeys(places, 0)
    for _, each in journal:
        of = TransactionId.parse(each.entry.refund_of) if each.entry.refund_of else None
        if of is not None and (of.shard, of.sequence) in sums:
            sums[of.shard, of.sequence] += each.entry.amount
    return {place: Refunded(given, extent_of(journal, place[0])) for place, given in sums.items()}


@asynccontextmanager
async def engine(
    redis: Redis, *, shards: int = 4, limits: Limits | None = None, script: Script | None = None
) -> AsyncIterator[tuple[Ledger, Streams]]:
    """A ledger that was just founded in `redis`, and its journal."""
    info = {} if "Fake" in type(redis).__name__ else await redis.info("replication")
    journal = Streams(redis, shards, info.get("master_replid", ""))
    await journal.found()
    ledger = Ledger(redis, journal, limits, script)
    await ledger.start()
    try:
        yield ledger, journal
    finally:
        await ledger.stop()

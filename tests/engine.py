"""An engine without PostgreSQL, for tests that are about the script and the batcher alone.

`Streams` stands where PostgreSQL would: it founds and admits by the same scripts, and answers about the past
from the streams, which nobody trims here. `Clock` sets the time that a script composed with
`tests/lua/clock.lua` sees.
"""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, scripts
from app.ledger.backing import Recorded, Terms
from app.ledger.batcher import Limits
from app.ledger.entries import Entry
from app.ledger.ledger import Ledger
from app.ledger.replies import Reservation
from app.ledger.scripts import Script
from app.ledger.shards import shard_of

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

    def __init__(self, redis: Redis, shards: int, server: str = "") -> None:
        self.terms = Terms(uuid.uuid4().hex, server, [1] * shards, {})
        self._redis = redis

    async def found(self) -> None:
        """Write the metas of a ledger that is admitted."""
        for shard in range(self.terms.shards):
            meta: dict[str | bytes, str | int] = {
                "ledger": self.terms.ledger,
                "incarnation": 1,
                "server": self.terms.server,
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

    async def entry(self, shard: int, sequence: int) -> Recorded | None:
        found = await self._redis.xrange(keys.journal(shard), f"{sequence}-0", f"{sequence}-0")
        if not found:
            return None
        fields = found[0][1]
        notes = fields.get(b"notes")
        return Recorded(
            sequence, msgspec.json.decode(fields[b"entry"], type=Entry), notes.decode() if notes else None
        )

    async def entries(self, shard: int) -> list[Recorded]:
        """The whole journal of a shard."""
        found = []
        for name, fields in await self._redis.xrange(keys.journal(shard)):
            notes = fields.get(b"notes")
            entry = msgspec.json.decode(fields[b"entry"], type=Entry)
            found.append(Recorded(int(name.split(b"-")[0]), entry, notes.decode() if notes else None))
        return found

    async def account_known(self, account: str) -> bool:
        shard = shard_of(account, self.terms.shards)
        return any(each.entry.account == account for each in await self.entries(shard))

    async def reservation(self, reservation_id: str) -> Reservation | None:
        return None

    async def task(self, provider: str | None, task: str) -> str | None:
        return None


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

"""Calls of the script on a cluster, each to one shard, without an engine around them."""

import asyncio
import itertools
import secrets
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys, replies, scripts
from app.ledger.backing import Terms
from app.ledger.calls import Call
from app.ledger.operations import Grant
from app.ledger.replies import Reply
from app.ledger.running import run
from tests.cluster.servers import Cluster

SHARDS = 4
"""One more than primaries, so that each has some and one has two."""

_Answer = TypeVar("_Answer")


class Caller:
    """One process, and a ledger that it has founded itself."""

    def __init__(self, redis: Redis, cluster: Cluster) -> None:
        self.terms = Terms(
            uuid.uuid4().hex,
            "",
            [1] * SHARDS,
            {},
            servers=[cluster.replid_of(shard) for shard in range(SHARDS)],
        )
        self._redis = redis
        self._lane = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def found(self) -> None:
        """Write the metas of a ledger that is admitted."""
        counts = ("sequence", "journaled", "bytes", "journaled_bytes", "oldest_ms", "now_ms")
        for shard, server in enumerate(self.terms.servers):
            meta = {
                "ledger": self.terms.ledger,
                "incarnation": 1,
                "server": server,
                "fence": "",
                "link": "genesis",
            }
            await self._redis.hset(keys.meta(shard), mapping=meta | dict.fromkeys(counts, 0))

    async def grant(self, shard: int, number: int | None = None) -> Reply:
        """A credit to an account of the shard. `number`: that of an earlier call, to send it again."""
        call = Call(
            ledger=self.terms.ledger,
            server=self.terms.server_of(shard),
            nonce=secrets.token_hex(8),
            number=number or next(self._numbers),
            deadline_ms=1 << 45,
            shards=[(shard, self.terms.incarnations[shard])],
            backlog_max=1_000_000,
            backlog_bytes_max=1 << 30,
            operations=[Grant(shard=shard, account=f"ana{shard}", amount=1, open=True)],
        )
        names = [keys.lane(shard, self._lane), keys.meta(shard)]
        text = msgspec.json.encode(call).decode()
        return replies.decode(await run(self._redis, scripts.load("apply"), names, [text]))


async def soon(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """What is answered once the client has looked for the nodes again."""
    async with asyncio.timeout(10):
        while True:
            with suppress(RedisError):
                return await ask()
            await asyncio.sleep(0.02)

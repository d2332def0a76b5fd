"""Our own script, called once for each request: the same entries, and nothing that travels together.

Each call has a connection and a lane to itself while it is under way, as a client with a pool of connections
has it: there are as many as requests come in at once.
"""

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple, Self

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, replies, scripts
from app.ledger.acknowledged import Acknowledged
from app.ledger.backing import Terms
from app.ledger.calls import Call
from app.ledger.connection import connect
from app.ledger.operations import Deduct
from app.ledger.receipts import Receipt, error_of, receipt_of
from app.ledger.shards import shard_of
from app.ledger.shared import Limits
from app.settings import Settings
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.pool import open_pool
from tests.bench.load import CLIENTS

_CALL_MS = 30_000

_encode = msgspec.json.Encoder().encode


class _Lane(NamedTuple):
    redis: Redis
    name: str
    number: int


class UnbatchedLedger:
    """Answers a deduct when Redis has carried it out. For a server of its own that nobody takes away."""

    def __init__(self, terms: Terms, lanes: list[_Lane]) -> None:
        self._terms = terms
        self._limits = Limits()
        self._script = scripts.load("apply")
        self._acknowledged = Acknowledged()
        self._lanes: asyncio.LifoQueue[_Lane] = asyncio.LifoQueue()
        for lane in lanes:
            self._lanes.put_nowait(lane)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(await open_pool(settings.database_url, connections_max=2))
            aside = await stack.enter_async_context(connect(settings.redis_url))
            terms = await PostgresBacking(pool, partial(admission.admit, pool, aside)).admit()
            await aside.script_load(scripts.load("apply").text)
        lanes = [
            _Lane(connect(settings.redis_url), keys.lane(0, secrets.token_hex(8)), 0) for _ in range(CLIENTS)
        ]
        return cls(terms, lanes)

    async def deduct(self, operation: Deduct) -> Receipt:
        operation.shard = shard_of(operation.account, self._terms.shards)
        redis, name, number = await self._lanes.get()
        try:
            answered = await redis.execute_command(  # type: ignore[no-untyped-call]
                "EVALSHA",
                self._script.sha,
                2,
                name,
                keys.meta(operation.shard),
                _encode(self._call(operation, number + 1)),
            )
        finally:
            self._lanes.put_nowait(_Lane(redis, name, number + 1))
        reply = replies.decode(answered)
        assert reply.status == "ok", reply
        made = receipt_of(operation, (reply.results[0], reply), self._acknowledged)
        if made is None:
            raise error_of(reply.results[0])
        return made

    async def close(self) -> None:
        """When nothing is under way."""
        while not self._lanes.empty():
            await self._lanes.get_nowait().redis.aclose()

    def _call(self, operation: Deduct, number: int) -> Call:
        shard = operation.shard
        return Call(
            self._terms.ledger,
            self._terms.server_of(shard),
            secrets.token_urlsafe(12),
            number,
            int(time.time() * 1000) + _CALL_MS,
            [(shard, self._terms.incarnations[shard])],
            self._limits.backlog_max,
            self._limits.backlog_bytes_max,
            [operation],
        )

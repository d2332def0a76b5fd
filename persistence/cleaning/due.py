"""Reservations that are due in Redis: counted, and ended by letting time pass."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger import keys
from app.ledger.apart import Part, earliest_ms, of_shards
from app.ledger.errors import LedgerFenced, LedgerUnavailable
from app.ledger.ledger import Ledger

PAGE = 1_000
RESERVATION = b"reservation:"


async def redis_ms(redis: Redis) -> int:
    """Redis' time.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    try:
        return await earliest_ms(redis)
    except (RedisError, OSError) as error:
        raise LedgerUnavailable(why=str(error)) from error


async def count_due(redis: Redis, shards: Sequence[int], now_ms: int) -> int:
    """How many reservations have a deadline at or before a moment and have not ended. Lots that lapse are
    due, too, and are not counted; nor is what a node of a cluster has that does not answer.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    try:
        return await _count_due(redis, shards, now_ms)
    except (RedisError, OSError) as error:
        raise LedgerUnavailable(why=str(error)) from error


async def _count_due(redis: Redis, shards: Sequence[int], now_ms: int) -> int:
    async def of(part: Part) -> list[int]:
        async with redis.pipeline(transaction=False) as looks:
            for shard in part.shards:
                looks.zcount(keys.due(shard), "-inf", now_ms)
            counts: list[int] = await looks.execute()
        return [
            await _reservations(redis, shard, now_ms) if count else 0
            for shard, count in zip(part.shards, counts, strict=True)
        ]

    return sum((await of_shards(redis, shards, of)).values())


async def _reservations(redis: Redis, shard: int, now_ms: int) -> int:
    found: int = 0
    start = 0
    while True:
        page: Any = await redis.zrangebyscore(keys.due(shard), "-inf", now_ms, start=start, num=PAGE)
        found += sum(member.startswith(RESERVATION) for member in page)
        if len(page) < PAGE:
            return found
        start += PAGE


async def end_due(ledger: Ledger, redis: Redis, shards: Sequence[int], now_ms: int) -> int:
    """End what is due in these shards. Returns how many reservations that were; those of shards that refuse
    wait, and are not counted.

    Raises:
        LedgerUnavailable: No definite answer in time: what is still due is ended by the next sweep.
    """
    before = await count_due(redis, shards, now_ms)
    outcomes = await asyncio.gather(*map(ledger.pass_time, shards), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, LedgerFenced):
            raise outcome
    return max(0, before - await count_due(redis, shards, now_ms))

"""What tests of whole ledgers wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.ledger import keys
from app.ledger.errors import LedgerUnavailable
from tests.chaos.storm.inspection import Inspection
from tests.chaos.storm.stage import SHARDS

_Answer = TypeVar("_Answer")


async def until(condition: Callable, seconds: float = 20.0) -> None:
    """Until something that is asked again and again is so."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what it polls is polled
            await asyncio.sleep(0.02)


async def answered(ask: Callable[[], Awaitable[_Answer]], seconds: float = 20.0) -> _Answer:
    """What is answered at last: what was on its way over a connection that broke is refused."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await ask()
            except LedgerUnavailable:
                continue


async def lag(inspection: Inspection) -> int:
    """How many entries Redis has that the journal has not, as Redis knows it."""
    metas = [
        await inspection.redis.hmget(keys.meta(shard), "sequence", "journaled") for shard in range(SHARDS)
    ]
    return sum(int(sequence) - int(journaled) for sequence, journaled in metas)


async def until_answered(inspection: Inspection, more: int) -> None:
    enough = inspection.book.answered + more

    async def condition() -> bool:
        return inspection.book.answered >= enough

    await until(condition)


async def until_fenced(inspection: Inspection, shards: set[int]) -> None:
    async def condition() -> bool:
        rows = await inspection.database.fetch("SELECT shard FROM shards WHERE fence IS NOT NULL")
        return {row["shard"] for row in rows} == shards

    await until(condition)

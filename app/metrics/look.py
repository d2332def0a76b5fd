"""What is not this process' own: asked when somebody wants to know it, and never waited for for long."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

import structlog

from app.ledger.backing import BackingUnavailable
from app.queues import QueuesUnavailable

KEPT_SECONDS = 5.0
ANSWER_SECONDS = 2.0

T = TypeVar("T")

log = structlog.get_logger("lastro.metrics")


class Look(Generic[T]):
    """A question that many may ask: one asks at a time, and an answer is good for `KEPT_SECONDS`, also that
    nobody has answered. `seconds`: how long one is waited for.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], seconds: float = ANSWER_SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked_at = 0.0
        self._asking: asyncio.Task[T | None] | None = None

    async def now(self) -> T | None:
        """What is known; `None`: nobody can tell, which is better than an answer of before."""
        asking = self._asking
        if asking is None or (asking.done() and monotonic() - self._asked_at >= KEPT_SECONDS):
            self._asked_at = monotonic()
            asking = self._asking = asyncio.create_task(self._answer())
        return await asyncio.shield(asking)

    async def _answer(self) -> T | None:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._ask()
        except (BackingUnavailable, QueuesUnavailable, TimeoutError):
            return None
        except Exception:  # what one look meets must not take the others away
            log.exception("a look for the metrics failed")
            return None

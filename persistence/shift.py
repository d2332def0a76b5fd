"""Work that goes on beside the jobs of a worker: a job calls for it, second by second, and it ends when it is
called for no more.

So what must be quick need not wait until a worker has nothing else to do, and what waits for others keeps no
worker from its jobs.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

SHIFT_SECONDS = 5.0
"""How long it goes on after it was called for the last time: longer than a worker may be at another job."""

AGAIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Shift:
    """One kind of work in one process.

    Args:
        name: For the log.
        turn: Does what there is to do now, and says for how many seconds nothing need be done. Whatever it
            raises it is called again.
        end: Lets go of what `turn` has begun.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], Awaitable[float]],
        end: Callable[[], Awaitable[None]],
        *,
        seconds: float = SHIFT_SECONDS,
    ) -> None:
        self._name = name
        self._turn = turn
        self._end = end
        self._seconds = seconds
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None

    def call_for(self) -> None:
        """Go on for `seconds` from now."""
        self._until = time.monotonic() + self._seconds
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=self._name)

    async def stop(self) -> None:
        """End now, wherever it is."""
        self._until = 0.0
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.1)
        await self._end()

    async def _work(self) -> None:
        while time.monotonic() < self._until:
            try:
                pause_seconds = await self._turn()
            except Exception:  # noqa: BLE001 (what fails now may not fail the next time)
                _log.exception("%s failed; going on", self._name)
                pause_seconds = AGAIN_SECONDS
            await asyncio.sleep(pause_seconds)

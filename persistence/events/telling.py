"""All that is done about events, as a worker does it beside its jobs: made, sent, in the end forgotten."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Self

from persistence.events.delivering import Delivering, now
from persistence.events.deriving import derive
from persistence.events.listening import listened
from persistence.events.sending import Sender
from persistence.events.watching import forget, watch
from persistence.pool import Pool, answering

QUIET_SECONDS = 0.25
"""How long something new may go unnoticed."""

RESTS = 2.0
"""For so many times as long as it has worked."""

NOBODY_SECONDS = 1.0
WATCH_SECONDS = 1.0
FORGET_SECONDS = 60.0
ANSWER_SECONDS = 10.0


class Telling:
    """One for each process, which may be many.

    Args:
        pool: At least 3 connections.
        private: Whether events may go to private addresses.
        clock: For tests.
    """

    def __init__(self, pool: Pool, *, private: bool, clock: Callable[[], datetime] = now) -> None:
        self._pool = pool
        self._clock = clock
        self._sender = Sender(private=private)
        self.delivering = Delivering(pool, self._sender, clock)
        self._next_watch = self._next_forget = 0.0

    async def turn(self) -> float:
        """Do a piece of what there is to do. Returns for how many seconds nothing need be done.

        It rests for longer than it has worked: however much there is to tell, the machine is the ledger's.

        Raises:
            BackingUnavailable
        """
        began = time.monotonic()
        made = 0
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            if began >= self._next_forget:
                self._next_forget = began + FORGET_SECONDS
                await forget(connection, self._clock())
            if not await listened(connection):
                return NOBODY_SECONDS
            made = await derive(connection, self._clock())
            if began >= self._next_watch:
                self._next_watch = began + WATCH_SECONDS
                made += await watch(connection, self._clock())
        await self.delivering.go_on()
        return RESTS * (time.monotonic() - began) if made else QUIET_SECONDS

    async def stop(self) -> None:
        """Let go of what is being sent, for others to take up. It may be begun again."""
        await self.delivering.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._sender.__aexit__()

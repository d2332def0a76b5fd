"""A PostgreSQL that does not answer keeps people waiting once.

One that is down refuses at once; one that hangs, or whose packets are lost, lets everybody wait for as long
as `answering` allows. So after the first time one task listens for it, and whoever asks meanwhile is told
that it is away without having to find out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.ledger.backing import BackingUnavailable
from persistence.pool import Connection, Pool, answering

AGAIN_SECONDS = 0.25

MOMENT_SECONDS = 0.25
"""How long a question waits for one that was silent to be heard again: what a new connection takes."""


class Patient:
    """Asks over a pool, which the caller closes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._why = ""
        self._listening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[Connection]:
        """As `pool.answering`; while PostgreSQL is known to be silent it is unavailable at once."""
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=MOMENT_SECONDS)
        if self._is_silent():
            raise BackingUnavailable(self._why)
        try:
            async with answering(self._pool) as connection:
                yield connection
        except BackingUnavailable as error:
            if isinstance(error.__cause__, TimeoutError) and not self._is_silent():
                self._why = str(error)
                self._listening = asyncio.create_task(self._listen(), name="lastro-listening")
            raise

    def _is_silent(self) -> bool:
        return self._listening is not None and not self._listening.done()

    async def _listen(self) -> None:
        """Until it answers, or nobody will ask any more."""
        while not self._pool.is_closing():
            try:
                async with answering(self._pool) as connection:
                    await connection.execute("SELECT 1")
                    return
            except BackingUnavailable:
                await asyncio.sleep(AGAIN_SECONDS)

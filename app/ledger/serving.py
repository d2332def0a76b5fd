"""The terms under which a process serves its Redis, or why it serves none."""

import asyncio
import time

from redis.exceptions import RedisError

from app.ledger.backing import Backing, BackingUnavailable, NotAdmitted, Terms
from app.ledger.calls import UNKNOWN
from app.ledger.errors import LedgerUnavailable

AGAIN_SECONDS = 0.25
"""How long a refusal holds before an admission is asked for again."""


class Serving:
    """`terms` is `None` while nothing may be sent; `why_not` says why, in words."""

    def __init__(self, backing: Backing) -> None:
        self.terms: Terms | None = None
        self.why_not = "not admitted yet"
        self._cause: str | None = None
        self._backing = backing
        self._refused_until = 0.0
        self._asking = asyncio.Lock()

    def dismiss(self, why_not: str) -> None:
        """Nothing is sent before Redis has been admitted again."""
        self.terms, self.why_not = None, why_not

    async def admit(self) -> Terms:
        """The terms under which Redis may be used, asked for by one at a time.

        After a failure the next attempt waits a little.

        Raises:
            NotAdmitted: It may not; or PostgreSQL is away, or Redis takes no writes.
            UNKNOWN: Redis is away.
        """
        async with self._asking:
            if self.terms is not None:
                return self.terms
            if time.monotonic() < self._refused_until:
                raise NotAdmitted(self.why_not, cause=self._cause)
            try:
                self.terms = await self._backing.admit()
            except UNKNOWN:
                raise
            except (BackingUnavailable, NotAdmitted, RedisError) as error:
                self.why_not, self._cause = str(error), cause_of(error).get("cause")
                self._refused_until = time.monotonic() + AGAIN_SECONDS
                raise NotAdmitted(self.why_not, cause=self._cause) from error
            return self.terms

    async def agreed(self) -> Terms:
        """The terms, for whoever must know them before anything is sent.

        Raises:
            LedgerUnavailable: This Redis cannot be served now; `why` says what to do.
        """
        try:
            return self.terms or await self.admit()
        except (NotAdmitted, *UNKNOWN) as error:
            raise LedgerUnavailable(why=str(error), **cause_of(error)) from error


def cause_of(error: Exception) -> dict[str, str]:
    """Why a Redis is not served, in the word that the answer says, where there is one."""
    cause = getattr(error, "cause", None)
    return {"cause": cause} if cause else {}

"""Clean-up, and the protocol through which HTTP and the command reach it. `main` plugs in PostgreSQL.

The sweep ends what is due every few seconds and cannot be stopped. A clean-up ends what is due now, and drops
reservations that were settled long ago from the table in which people search; the journal keeps all of them.
"""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

INTERVAL_SECONDS_MIN = 300
"""Less often than that nobody is slowed by it; only who forces it may have it more often."""


class Cleaned(Struct, frozen=True):
    """What a clean-up did: how many reservations it ended because they were due, and how many old ones it
    dropped.
    """

    expired: int
    old: int
    duration_ms: int


class Waiting(Struct, frozen=True):
    """What a clean-up would do now."""

    expired: int
    old: int


class Last(Struct, frozen=True):
    """The last clean-up that came to an end. `error`: why it failed; what it had done by then counts."""

    started_at: datetime
    cleaned: Cleaned
    error: str | None


class Standing(Struct, frozen=True):
    """How the clean-up that runs by itself stands, for all processes. `running`: one runs now, whoever began
    it. `next_run_seconds` is `None` while it is stopped.
    """

    enabled: bool
    running: bool
    interval_seconds: int
    next_run_seconds: float | None
    last: Last | None


class Cleaning(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` while PostgreSQL is away, and
    `app.ledger.errors.LedgerUnavailable` where Redis is needed and away.
    """

    async def run(self, by: str, *, whole: bool = True) -> Cleaned | None:
        """Clean up now; `None`: another clean-up runs. `whole`: also drop what is old. It takes some seconds
        at most, and leaves what it does not come to for the next one.
        """
        ...

    async def count(self) -> Waiting:
        """What there is to do. Nothing is ended or dropped by asking."""
        ...

    async def standing(self) -> Standing:
        """How the clean-up that runs by itself stands."""
        ...

    async def start(self, by: str, interval_seconds: int | None = None) -> None:
        """Let it run by itself, so often: `None` as the setting says."""
        ...

    async def stop(self, by: str) -> None:
        """Let it run no more by itself, in no process, until somebody starts it again."""
        ...

    async def force(self, by: str, interval_seconds: int | None = None) -> None:
        """Clean up now, however lately it was done. With an interval, which may be a short one: let it run
        so often from now on.
        """
        ...

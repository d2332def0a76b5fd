"""What goes on right now: how fast, and what is open; and the protocol through which the dashboard asks.
`main` plugs in PostgreSQL.
"""

from typing import Protocol

from msgspec import Struct

AGES_SECONDS = (60, 600, 3600)
"""Where one age of open reservations ends and the next begins."""

MODELS_MAX = 40
OPEN_MAX = 20_000


class OpenOf(Struct, frozen=True, kw_only=True):
    """Open reservations of a model (`None`: of none). `by_age`: how many are younger than each of
    `AGES_SECONDS` and not than the one before it, and last how many are older than all. `overdue`: how many
    of all these are past their deadline.
    """

    model: str | None
    count: int
    held: int
    overdue: int
    by_age: list[int]


class Ongoing(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away."""

    async def per_second(self) -> float:
        """Entries a second, over the last minute, or over the last thousand of them if that is less."""
        ...

    async def open_by_model(self) -> list[OpenOf]:
        """Those that hold most first, at most `MODELS_MAX`; of the newest `OPEN_MAX` reservations."""
        ...

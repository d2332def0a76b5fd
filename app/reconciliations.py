"""Runs of the reconciliation, and the protocol through which HTTP sees and starts them. `main` plugs in
PostgreSQL.
"""

from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct


class Difference(Struct, frozen=True, rename="camel"):
    """One difference. `redis` is what Redis has (or, in a field `projection.*` or `journal.*`, that table);
    `journal` what the entries add up to.
    """

    account_id: str
    field: str
    redis: int | str | None
    journal: int | str | None


class Reconciliation(Struct, frozen=True):
    """A run. `accounts`: how many were compared by now. `drift`: at most the first 1,000 differences."""

    id: str
    started_at: datetime
    finished_at: datetime | None
    status: Literal["running", "equal", "drift", "unknown"]
    accounts: int
    drift: list[Difference]


class Reconciliations(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away."""

    async def runs(self, limit: int) -> list[Reconciliation]:
        """The latest runs, newest first."""
        ...

    async def start(self, by: str) -> Reconciliation:
        """Ask for a run, which the workers begin within seconds; the one that runs already, if one does."""
        ...

"""What can be searched for in the journal's projections, and the protocol through which HTTP does it. `main`
plugs in PostgreSQL.
"""

from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

from app.ledger.replies import Reservation


class ReservationFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which reservations: all that is given must hold. `due_before`: their deadline is earlier. They were
    made from `made_since` to before `made_before`, by the time that their ids name.

    `expired` are those that were cancelled because their deadline had passed; `cancelled` the others.
    """

    account: str | None = None
    status: Literal["pending", "confirmed", "cancelled", "expired"] | None = None
    model: str | None = None
    due_before: datetime | None = None
    made_since: datetime | None = None
    made_before: datetime | None = None


class ReservationPage(Struct, frozen=True):
    """Newest first, as the journal has them by now."""

    data: list[Reservation]
    next_cursor: str | None


class AccountFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Accounts whose id has `text` in it; `account`: only this one."""

    text: str = ""
    account: str | None = None


class AccountRow(Struct, frozen=True, kw_only=True):
    """An account as of its last journaled entry."""

    account: str
    version: int
    available: int
    held: int
    overdraft_limit: int
    status: Literal["active", "frozen", "closed"]
    low_balance: int


class AccountPage(Struct, frozen=True):
    """Those whose id begins with the text first, then those that have it further on; each by id."""

    data: list[AccountRow]
    next_cursor: str | None


class Searching(Protocol):
    """Pages of 1 to `app.reports.PAGE_MAX`.

    Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away, and
    `app.reports.InvalidCursor` for a cursor that no page of the same filter gave.
    """

    async def reservations(
        self, which: ReservationFilter, *, cursor: str | None = None, limit: int = 50
    ) -> ReservationPage:
        """Those that are there; of what is made meanwhile none comes twice, and none is pushed out."""
        ...

    async def accounts(
        self, which: AccountFilter, *, cursor: str | None = None, limit: int = 50
    ) -> AccountPage:
        """Those that the journal knows."""
        ...

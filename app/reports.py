"""What can be read of the past, and the protocol through which HTTP reads it. `main` plugs in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from app.ledger.entries import Entry, Kind
from app.ledger.shards import TransactionId

PAGE_MAX = 200


class InvalidCursor(Exception):
    """The cursor was not made by this ledger, or for other filters."""


class Transaction(Struct, frozen=True):
    """An entry as the journal has it. `notes`: the exact text, `None` where there is none or it is erased."""

    shard: int
    sequence: int
    entry: Entry
    notes: str | None

    @property
    def id(self) -> TransactionId:
        return TransactionId(self.shard, self.entry.incarnation, self.sequence)


class TransactionFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which transactions: all that is given must hold. `since <= at < until`, both with a time zone.

    `task` means every entry of the reservations that were bound to it, under whatever provider.
    """

    account: str | None = None
    reservation: str | None = None
    task: str | None = None
    kinds: Sequence[Kind] = ()
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class TransactionPage(Struct, frozen=True):
    """Newest first. `version`: the last journaled one of the account that the filter names, if any."""

    data: list[Transaction]
    next_cursor: str | None
    version: int | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


class History(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away."""

    async def transactions(
        self, which: TransactionFilter, *, cursor: str | None = None, limit: int = 50
    ) -> TransactionPage:
        """A page of 1 to `PAGE_MAX`.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        ...

    async def transaction(self, transaction: TransactionId) -> Transaction | None:
        """One transaction by its id; `None` also where the id names another incarnation's entry."""
        ...

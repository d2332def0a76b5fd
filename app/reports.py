"""What can be read of the past, and the protocols through which HTTP reads it. `main` plugs in PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from app.ledger.entries import Entry, Kind
from app.ledger.replies import Account
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


Transactions = AsyncIterator[list[Transaction]]
"""Any number of transactions, some hundred at a time: between two steps nothing is held, neither a connection
nor a transaction of the database.
"""


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

    def export(self, which: TransactionFilter, *, cursor: str | None = None) -> Transactions:
        """All that is journaled when the first step is made, newest first, from `cursor` on; nothing that
        comes later.

        Raises:
            InvalidCursor: As above, in the first step.
        """
        ...

    async def transaction(self, transaction: TransactionId) -> Transaction | None:
        """One transaction by its id; `None` also where the id names another incarnation's entry."""
        ...


class Standing(Struct, frozen=True):
    """What an account had after its entry `version`; before the first one nothing, at version 0."""

    available: int
    held: int
    version: int


class Statement(Struct, frozen=True):
    """`opening` before the first of `entries`, `closing` after the last; oldest first."""

    opening: Standing
    closing: Standing
    entries: Transactions


class Past(Protocol):
    """What an account had. A moment is answered when the journal has come as far: that is waited for.

    Every method raises `BackingUnavailable` when PostgreSQL is away, and of moments of the last day errors of
    `app.ledger` when Redis is, because only Redis can tell whether the journal lacks anything.
    """

    async def balance(self, account: str, at: datetime, now: datetime) -> Account:
        """An account as its last entry at or before `at`, which is not after `now`, left it.

        Raises:
            AccountNotFound, JournalBacklogged
        """
        ...

    async def statement(self, account: str, since: datetime, until: datetime, now: datetime) -> Statement:
        """The entries with `since <= at < until` of those that are there `now`.

        Raises:
            AccountNotFound, JournalBacklogged
        """
        ...

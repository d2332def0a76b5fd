"""Reservations and accounts that people look for, page by page, from the projections.

Reservations are listed by their ids, which begin with the time at which they were made, newest first;
accounts by theirs, byte by byte. These orders never change, so that whatever is made meanwhile, no page
repeats or hides what was there.
"""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.reports import PAGE_MAX
from app.searching import AccountFilter, AccountPage, AccountRow, ReservationFilter, ReservationPage
from persistence import cursors, rebuild
from persistence.conditions import Conditions
from persistence.pool import Connection, Pool, answering

LOOKED_MAX = 200_000

_CLOCKS_APART_SECONDS = 86_400
_MADE_MS_MAX = 2**48 - 1
"""Of an id: its first 48 bits are the milliseconds at which it was made, by the clock of who made it."""

_Part = Literal[0, 1]
_BEGINS: _Part = 0
_CONTAINS: _Part = 1

_Reservation = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)")]
_Account = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:@+-]{0,128}$(?!\n)")]


class PostgresSearching:
    """`app.searching.Searching`. Every method raises `BackingUnavailable` while PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    RESERVATIONS = "SELECT r.id::text FROM reservations r WHERE {conditions} ORDER BY r.id DESC LIMIT $1"

    async def reservations(
        self, which: ReservationFilter, *, cursor: str | None = None, limit: int = 50
    ) -> ReservationPage:
        """A page of `limit` (1 to 200) reservations.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        _demand(limit)
        conditions = _of_reservations(which)
        if cursor is not None:
            (last,) = cursors.read(which, cursor, tuple[_Reservation])
            conditions.add("r.id < {}", UUID(last))
        statement = self.RESERVATIONS.format(conditions=conditions.numbered(2))
        async with (
            answering(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            ids = [row[0] for row in await connection.fetch(statement, limit + 1, *conditions.values)]
            found = await rebuild.reservations(connection, ids[:limit])
        next_cursor = cursors.write(which, (ids[limit - 1],)) if len(ids) > limit else None
        return ReservationPage([found[each] for each in ids[:limit]], next_cursor)

    async def accounts(
        self, which: AccountFilter, *, cursor: str | None = None, limit: int = 50
    ) -> AccountPage:
        """A page of `limit` (1 to 200) accounts.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        _demand(limit)
        part, last = (_BEGINS, "") if cursor is None else cursors.read(which, cursor, tuple[_Part, _Account])
        rows: list[AccountRow] = []
        async with (
            answering(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            if part == _BEGINS:
                rows = await self._beginning(connection, which, last, limit + 1)
                if len(rows) > limit:
                    return AccountPage(rows[:limit], cursors.write(which, (_BEGINS, rows[limit - 1].account)))
                if not which.text:
                    return AccountPage(rows, None)
                last = ""
            further, behind = await self._containing(connection, which, last, limit - len(rows))
        return AccountPage(
            rows + further, None if behind is None else cursors.write(which, (_CONTAINS, behind))
        )

    # No LIKE, so that no sign of the text means anything but itself; `~` comes after all that ids have.
    BEGINNING = """
    SELECT account, version, available, held, overdraft_limit, status, low_balance FROM accounts
    WHERE {conditions} ORDER BY account COLLATE "C" LIMIT $1
    """

    async def _beginning(
        self, connection: Connection, which: AccountFilter, after: str, limit: int
    ) -> list[AccountRow]:
        """Those whose id begins with the text."""
        conditions = _of_accounts(which, after)
        if which.text:
            conditions.add('account COLLATE "C" >= {}', which.text)
            conditions.add('account COLLATE "C" < {}', which.text + "~")
        statement = self.BEGINNING.format(conditions=conditions.numbered(2))
        return [
            AccountRow(**dict(row)) for row in await connection.fetch(statement, limit, *conditions.values)
        ]

    CONTAINING = """
    SELECT looked.* FROM (
      SELECT account, version, available, held, overdraft_limit, status, low_balance FROM accounts
      WHERE {conditions} ORDER BY account COLLATE "C" LIMIT $2
    ) AS looked
    WHERE strpos(account, $3) > 1 ORDER BY account COLLATE "C" LIMIT $1
    """

    BEHIND = """
    SELECT account FROM accounts WHERE {conditions} ORDER BY account COLLATE "C" OFFSET $1 - 1 LIMIT 1
    """

    async def _containing(
        self, connection: Connection, which: AccountFilter, after: str, limit: int
    ) -> tuple[list[AccountRow], str | None]:
        """Those that have the text further on, and behind which id it goes on: `LOOKED_MAX` are looked at."""
        conditions = _of_accounts(which, after)
        statement = self.CONTAINING.format(conditions=conditions.numbered(4))
        found = await connection.fetch(statement, limit + 1, LOOKED_MAX, which.text, *conditions.values)
        rows = [AccountRow(**dict(row)) for row in found[:limit]]
        if len(found) > limit:
            return rows, rows[-1].account if rows else after
        statement = self.BEHIND.format(conditions=conditions.numbered(2))
        return rows, await connection.fetchval(statement, LOOKED_MAX, *conditions.values)


def _of_accounts(which: AccountFilter, after: str) -> Conditions:
    given = Conditions()
    given.add('account COLLATE "C" > {}', after)
    if which.account is not None:
        given.add("account = {}", which.account)
    return given


def _demand(limit: int) -> None:
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"limit {limit}: 1 to {PAGE_MAX}")


# In the statement, not among its values, so that the indexes of those that are open or have expired serve.
_OF_STATUS = {
    "pending": "r.status = 'pending'",
    "confirmed": "r.status = 'confirmed'",
    "cancelled": "r.status = 'cancelled' AND r.cancel_cause IS DISTINCT FROM 'expired'",
    "expired": "r.status = 'cancelled' AND r.cancel_cause = 'expired'",
}


def _of_reservations(which: ReservationFilter) -> Conditions:
    """What holds for the rows of a filter."""
    given = Conditions()
    if which.account is not None:
        given.add("r.account = {}", which.account)
    if which.status is not None:
        given.add(_OF_STATUS[which.status])
    if which.status == "pending" and which.account is not None:
        given.add("r.shard = (SELECT shard FROM accounts WHERE account = {})", which.account)
    if which.model is not None:
        given.add("r.model = {}", which.model)
    if which.due_before is not None:
        given.add("r.expires_at < {}", which.due_before)
        # What is due was made before: from here on its index is walked, not from the newest one on.
        given.add("r.id < {}", _first_id(which.due_before.timestamp() + _CLOCKS_APART_SECONDS))
    if which.made_since is not None:
        given.add("r.id >= {}", _first_id(which.made_since.timestamp()))
    if which.made_before is not None:
        given.add("r.id < {}", _first_id(which.made_before.timestamp()))
    return given


def _first_id(seconds: float) -> UUID:
    """The first id that can have been made at a moment (seconds since 1970)."""
    return UUID(int=min(max(0, int(seconds * 1000)), _MADE_MS_MAX) << 80)
